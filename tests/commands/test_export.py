"""What is exported computes what the run computed."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
import transformers
from helpers import IN_FLOAT32, args_of, assert_near, in_float64, plain_base
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fs_plugins.experiment.checkpoint import Checkpoints
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runner import build_runner
from fs_plugins.experiment.runs import load_run

IDS = torch.arange(4, 16).view(2, 6)


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def loaded(folder: Path, base: Path, dtype: torch.dtype) -> torch.Tensor:
    """By transformers and PEFT alone."""
    model = PeftModel.from_pretrained(plain_base(base, dtype), folder)
    return logits_of(model)


def of_the_run(lab, folder: Path, client: int) -> torch.Tensor:
    """From the last checkpoint, by the run's own workers."""
    files = RunFolder(folder)
    cfg = files.load_asked()
    cfg.outdir = str(lab.folder / f"again_{client}")
    runner = build_runner(cfg)
    Checkpoints(runner, None).restore_parameters(files.checkpoints()[-1])
    worker = runner.client[client]
    shared = runner.server.aggregator.shared
    with worker.parameters.loaded(shared, worker.kept.values):
        return logits_of(worker.model)


@pytest.fixture
def unfinished(lab):
    """A run that was killed after two of its rounds, as its folder."""

    def begin(**changes):
        folder = Path(lab.run(**changes)["outdir"])
        shutil.rmtree(folder / "adapters")
        (folder / "summary.json").unlink()
        return folder

    return begin


CASES = {n: {"llm__adapter__args": args_of(n)} for n in ("lora", "pissa")} | {
    "vera": {"llm__adapter__args": args_of("vera")},
    "flora": {"federate__method": "fedit", "fedsa__aggregator": "flora"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("merge", [False, True])
def test_the_logits_are_those_of_the_run(
    lab, unfinished, fedsa, toy_model, case, merge
):
    in_float64(lab, case not in IN_FLOAT32)
    folder = unfinished(**CASES[case])
    out = lab.folder / "exported"
    words = ["--client", 2, "--out", out, *(["--merge"] if merge else [])]
    found = fedsa("export", folder, *words)
    assert found.returncode == 0, found.stderr
    assert "client_2, after 2 of 3 rounds" in found.stdout
    expected = of_the_run(lab, folder, 2)
    other = of_the_run(lab, folder, 1)
    assert not torch.allclose(expected, other, atol=1e-3)
    if merge:
        model = AutoModelForSequenceClassification.from_pretrained(out)
        assert "lora" not in str(model).lower()
        AutoTokenizer.from_pretrained(out)
        logits = logits_of(model)
    else:
        logits = loaded(out, toy_model, expected.dtype)
    assert_near(logits, expected)


def test_two_adapters_are_exported_and_not_merged(lab, fedsa):
    folder = Path(lab.run(federate__method="feddpa")["outdir"])
    out = lab.folder / "exported"
    words = ["export", folder, "--client", 1, "--out", out]
    found = fedsa(*words, "--merge")
    assert found.returncode == 2 and "private adapter" in found.stderr
    assert not out.exists()
    assert fedsa(*words).returncode == 0
    assert (out / "private" / "adapter_config.json").is_file()


def test_a_finished_run_and_all_of_it(lab, fedsa, toy_model):
    summary = lab.run()
    folder, out = Path(summary["outdir"]), lab.folder / "exported"
    found = fedsa("export", folder, "--client", "all", "--out", out)
    assert found.returncode == 0, found.stderr
    assert "after 3 of 3 rounds" in found.stdout
    names = {path.name for path in out.iterdir()}
    assert names == {"client_1", "client_2", "client_3", "global"}
    for name in names:
        found, expected = (
            loaded(each / name, toy_model, torch.float32)
            for each in (out, folder / "adapters")
        )
        assert torch.equal(found, expected)
    own = summary["results"]["last"]["clients"]["2"]["test_acc"]
    card = (out / "client_2/README.md").read_text()
    assert f"| test_acc | {own:.6g} |" in card
    assert "library_name: peft" in card and "`fedsa`" in card
    config = json.loads((out / "client_2/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(toy_model)


def test_global_is_a_with_b_at_zero_and_says_so(lab, fedsa, toy_model):
    folder, out = Path(lab.run()["outdir"]), lab.folder / "exported"
    found = fedsa("export", folder, "--client", "global", "--out", out)
    assert found.returncode == 0
    card = (out / "README.md").read_text()
    for said in (found.stdout, card):
        assert "B at zero" in said and "head" in said
    plain = AutoModelForSequenceClassification.from_pretrained(toy_model)
    before = logits_of(plain)
    model = PeftModel.from_pretrained(plain, out)
    assert any(p.any() for n, p in model.named_parameters() if "lora_A" in n)
    assert_near(logits_of(model), before)


def test_a_method_without_kept_parameters_has_a_whole_global(lab, fedsa):
    folder = lab.run(
        federate__method="fedit", fedsa__policy={"HEAD": "share"}
    )["outdir"]
    out = lab.folder / "exported"
    found = fedsa("export", folder, "--client", "global", "--out", out)
    assert found.returncode == 0 and "zero" not in found.stdout


def test_the_hosts_fedavg_has_one_model(lab, fedsa):
    folder = lab.run(federate__method="FedAvg")["outdir"]
    out = lab.folder / "exported"
    found = fedsa("export", folder, "--client", 2, "--out", out)
    assert found.returncode == 2 and "known are all, global" in found.stderr
    found = fedsa("export", folder, "--client", "global", "--out", out)
    assert found.returncode == 0


def test_bad_input(lab, fedsa, tmp_path):
    folder = lab.run()["outdir"]
    out = tmp_path / "exported"
    for words, said in (
        ((tmp_path, "--client", 1), "holds no run"),
        ((folder, "--client", 9), "known are 1, 2, 3, all, global"),
        ((folder, "--client", "globul"), "did you mean 'global'"),
    ):
        found = fedsa("export", *words, "--out", out)
        assert found.returncode == 2 and said in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1
        assert not out.exists() and not list(tmp_path.glob("*.part"))
    found = fedsa("export", folder, "--client", 1, "--out", folder)
    assert found.returncode == 2 and "not empty" in found.stderr


@pytest.mark.parametrize("merge", [False, True])
def test_the_cards_own_lines_load_it(lab, fedsa, toy_model, merge):
    """As they stand, with the folder's name in its place."""
    folder = Path(lab.run(federate__total_round_num=1)["outdir"])
    out = lab.folder / "exported"
    words = ["--client", 1, "--out", out, *(["--merge"] if merge else [])]
    assert fedsa("export", folder, *words).returncode == 0
    card = (out / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    assert "<this folder>" in code
    known = {"peft": peft, "transformers": transformers}
    exec(code.replace("<this folder>", repr(str(out))), known)
    adapter = folder / "adapters" / "client_1"
    expected = loaded(adapter, toy_model, torch.float32)
    torch.testing.assert_close(
        logits_of(known["model"]), expected, rtol=1e-4, atol=1e-4
    )
    assert known["model"].config.id2label == {0: "negative", 1: "positive"}


@pytest.fixture
def six(lab, toy_model):
    """A finished run of six classes, on a base model of two."""
    lines = ["text,label"]
    lines += [f"w{i % 60} w{i // 60},class {i % 6}" for i in range(120)]
    file = lab.folder / "six.csv"
    file.write_text("\n".join(lines) + "\n")
    return Path(
        lab.run(
            data__root=str(lab.folder),
            data__type="six.csv@text",
            federate__total_round_num=2,
        )["outdir"]
    )


SIX = {i: f"class {i}" for i in range(6)}


def test_peft_loads_what_is_exported_without_an_argument(
    lab, fedsa, six, monkeypatch
):
    """Also once the run is gone; the base model's own head has two classes."""
    expected = logits_of(load_run(six).client(2).model())
    out = lab.folder / "exported"
    assert fedsa("export", six, "--client", 2, "--out", out).returncode == 0
    shutil.rmtree(six)
    monkeypatch.chdir(out)
    auto_class = peft.AutoPeftModelForSequenceClassification
    model = auto_class.from_pretrained(str(out))
    assert model.config.id2label == SIX
    assert_near(logits_of(model), expected)
    assert AutoTokenizer.from_pretrained(out)("w1").input_ids == [2, 5, 3]
    said = json.loads((out / "fs_plugins.json").read_text())
    assert said["id2label"] == {str(i): name for i, name in SIX.items()}


def test_of_all_adapters_each_is_loaded_without_an_argument(lab, fedsa, six):
    run, out = load_run(six), lab.folder / "exported"
    found = fedsa("export", six, "--client", "all", "--out", out)
    assert found.returncode == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"base", "client_1", "client_2", "client_3", "global"}
    auto_class = peft.AutoPeftModelForSequenceClassification
    for ID in (1, 3):
        model = auto_class.from_pretrained(str(out / f"client_{ID}"))
        assert_near(logits_of(model), logits_of(run.client(ID).model()))


def test_a_merged_model_answers_with_the_names_of_its_classes(lab, fedsa, six):
    out = lab.folder / "merged"
    words = ["--client", 1, "--merge", "--out", out]
    assert fedsa("export", six, *words).returncode == 0
    answer = transformers.pipeline("text-classification", str(out))("w1 w2")
    assert answer[0]["label"] in SIX.values()
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {str(i): name for i, name in SIX.items()}
    assert config["label2id"] == {name: i for i, name in SIX.items()}


def test_an_unfinished_runs_adapters_are_loaded_without_an_argument(
    lab, fedsa, six
):
    expected = of_the_run(lab, six, 1)
    shutil.rmtree(six / "adapters")
    (six / "summary.json").unlink()
    out = lab.folder / "exported"
    assert fedsa("export", six, "--client", 1, "--out", out).returncode == 0
    auto_class = peft.AutoPeftModelForSequenceClassification
    assert_near(logits_of(auto_class.from_pretrained(str(out))), expected)
    said = json.loads((out / "fs_plugins.json").read_text())
    assert said["trained"]["round"] == 1


def test_a_base_models_link_to_another_file_is_not_exported(
    lab, fedsa, six, tmp_path
):
    """The folder of a run may be somebody else's."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    (six / "adapters" / "base" / "vocab.txt").symlink_to(secret)
    out = lab.folder / "exported"
    found = fedsa("export", six, "--client", 1, "--out", out)
    assert found.returncode == 2 and "vocab.txt is a link" in found.stderr
    assert not out.exists()


def test_a_run_with_a_base_model_beside_its_adapters_goes_on(fedsa, six):
    """Its links lead to the base model, and nothing is written there."""
    before = logits_of(load_run(six).client(1).model())
    (six / "summary.json").unlink()
    found = fedsa("run", "--resume", six)
    assert found.returncode == 0, found.stderr
    assert torch.equal(logits_of(load_run(six).client(1).model()), before)
    auto_class = peft.AutoPeftModelForSequenceClassification
    model = auto_class.from_pretrained(str(six / "adapters" / "client_1"))
    assert_near(logits_of(model), before)
