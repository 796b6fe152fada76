"""Every YAML file of the project runs."""

from pathlib import Path

import pytest

from fs_plugins.experiment import load_config, run

FOLDER = Path(__file__).parent.parent / "yaml_configs"
FILES = sorted(FOLDER.rglob("*.yaml"))


def test_there_are_files():
    assert len(FILES) >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.name))
def test_header(file):
    """What it does, then the command that runs it."""
    head = file.read_text().split("\n", 1)[0]
    assert head.startswith("# ") and head.rstrip(".:,")
    path = file.relative_to(FOLDER.parent)
    assert f"#   fedsa run --cfg {path}\n" in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.name))
def test_one_short_round(file, tmp_path):
    """The real model and data, one step of one round."""
    overrides = [
        *("outdir", str(tmp_path)),
        *("federate.total_round_num", "1"),
        *("train.local_update_steps", "1"),
        *("dataloader.batch_size", "8"),
        *("llm.tok_len", "8"),
    ]
    assert load_config(file).outdir == "exp"
    summary = run(file, overrides, quiet=True)
    last = summary["results"]["last"]
    assert 0 <= last["weighted"]["test_acc"] <= 1


def test_the_demos_differ_in_their_method_only():
    """A fair comparison: the same model, split, batches and seed."""
    import yaml

    trees = []
    for name in ("fedsa", "fedavg", "fedit", "local"):
        tree = yaml.safe_load((FOLDER / "demo" / f"{name}.yaml").read_text())
        method = tree["federate"].pop("method")
        assert method.lower() == name
        trees.append(tree)
    assert all(tree == trees[0] for tree in trees)
