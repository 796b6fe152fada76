"""Every YAML file of the project runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fs_plugins.experiment import load_config, run

FOLDER = Path(__file__).parent.parent / "yaml_configs"
FILES = sorted(FOLDER.rglob("*.yaml"))
DISTRIBUTED = FOLDER / "distributed"
ALONE = [file for file in FILES if file.parent != DISTRIBUTED]
SHORT = [
    *("federate.total_round_num", "1"),
    *("train.local_update_steps", "1"),
    *("dataloader.batch_size", "8"),
    *("llm.tok_len", "8"),
]


def test_there_are_files():
    assert len(FILES) >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.name))
def test_header(file):
    """What it does, then the command that runs it."""
    head = file.read_text().split("\n", 1)[0]
    assert head.startswith("# ") and head.rstrip(".:,")
    path = file.relative_to(FOLDER.parent)
    assert f"#   fedsa run --cfg {path}\n" in file.read_text()


@pytest.mark.parametrize("file", ALONE, ids=lambda f: str(f.name))
def test_one_short_round(file, tmp_path):
    """The real model and data, one step of one round."""
    assert load_config(file).outdir == "exp"
    summary = run(file, ["outdir", str(tmp_path), *SHORT], quiet=True)
    last = summary["results"]["last"]
    assert 0 <= last["weighted"]["test_acc"] <= 1


def test_the_demos_differ_in_their_method_only():
    """A fair comparison: the same model, split, batches and seed."""
    trees = []
    for name in ("fedsa", "fedavg", "fedit", "local", "sequential_b"):
        tree = yaml.safe_load((FOLDER / "demo" / f"{name}.yaml").read_text())
        method = tree["federate"].pop("method")
        assert method.lower() == name
        trees.append(tree)
    assert all(tree == trees[0] for tree in trees)


def test_the_participants_differ_in_who_they_are_only():
    trees = []
    for file in sorted(DISTRIBUTED.glob("*.yaml")):
        tree = yaml.safe_load(file.read_text())
        assert tree.pop("expname") == file.stem
        own = tree.pop("distribute")
        common = {"use", "server_host", "server_port"}
        trees.append(tree | {k: own.pop(k) for k in common})
        if file.stem == "server":
            assert own == {"role": "server"}
        else:
            number = int(file.stem[-1])
            assert own["role"] == "client" and own["data_idx"] == number
    assert len(trees) == 4 and all(tree == trees[0] for tree in trees)


def test_one_short_round_of_several_processes(tmp_path):
    launch = [sys.executable, str(DISTRIBUTED / "launch.py")]
    result = subprocess.run(
        [*launch, "outdir", str(tmp_path), *SHORT],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    summary = json.loads((tmp_path / "server" / "summary.json").read_text())
    assert summary["results"]["last"]["clients"].keys() == {"1", "2", "3"}


def test_the_launcher_ends_with_the_exit_code_of_what_failed(tmp_path):
    launch = [sys.executable, str(DISTRIBUTED / "launch.py")]
    result = subprocess.run(
        [*launch, "outdir", str(tmp_path), "federate.methd", "x"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
    )
    assert result.returncode == 2
    assert result.stderr.count("federate.methd: there is no such key") == 4
