"""A run's folder: its files, and what is read from them."""

import ast
import builtins
import json
import re
import shutil
from pathlib import Path

import pandas
import pytest
import torch
import yaml
from helpers import plain_base
from peft import PeftModel
from transformers import AutoModelForCausalLM

from fs_plugins.errors import UserError
from fs_plugins.experiment.evaluations import better, evaluation
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import load_run
from fs_plugins.report.caveats import caveats

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fs_plugins"
IDS = torch.arange(4, 16).view(2, 6)


@pytest.fixture(scope="module")
def finished():
    """Holds the folder of the run that ``folder`` copies, once it is made."""
    return []


@pytest.fixture
def folder(lab, finished, tmp_path):
    """A finished run of the toy model: two rounds."""
    if not finished:
        run = lab.run(federate__total_round_num=2)
        finished.append(Path(run["outdir"]))
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def test_every_file_of_a_run_is_known(language_lab, host_name):
    """Whatever is written into it, by the host or by this package."""
    summary = language_lab.run(
        fedsa__track="tensorboard",
        fedsa__state__backend="disk",
        fedsa__eval__generate={"examples": 1, "max_new_tokens": 2},
    )
    folder = Path(summary["outdir"])
    found = {path.name for path in folder.iterdir()}
    left_out = {RunFolder.HOST_RAW} if host_name == "embedded" else set()
    assert found == set(RunFolder.NAMES) - left_out
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "experiment.yaml",
        "round_1",
        "round_2",
    }


def test_the_documents_name_every_file_of_a_run():
    text = (ROOT / "docs" / "experiments.md").read_text("utf-8")
    _, _, section = text.partition("## What a run leaves behind\n")
    table = re.findall(r"^\| (`.*?) \|", section.partition("\n## ")[0], re.M)
    paths = re.findall(r"`([^`]+)`", " ".join(table))
    assert sorted({path.partition("/")[0] for path in paths}) == sorted(
        RunFolder.NAMES
    )


def strings_in(file):
    """The strings of a module that are no docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def test_no_other_module_names_a_file_of_a_run():
    """The embedded host writes its own."""
    names = {name for name in RunFolder.NAMES if "." in name}
    names |= {"experiment.yaml", "state.json", "server.safetensors"}
    here = [
        PACKAGE / "experiment" / name
        for name in ("run_folder.py", "checkpoint_folder.py")
    ]
    others = [
        file
        for file in PACKAGE.rglob("*.py")
        if file not in here
        and PACKAGE / "host" / "embedded" not in file.parents
    ]
    known = {word for file in here for word in strings_in(file)}
    assert names <= known and len(others) > 50
    for file in others:
        words = strings_in(file)
        for name in names:
            assert not any(name in word for word in words), (file, name)
        assert not {"checkpoints", "round_", "lock"} & {*words}, file


def test_checkpoints_are_in_the_order_of_their_rounds(tmp_path):
    for name in ("round_10", "round_9", "round_11.part", "round_x"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    files = RunFolder(tmp_path)
    assert [each.round for each in files.checkpoints()] == [9, 10]
    files.remove_unfinished_checkpoints()
    assert not (tmp_path / "checkpoints" / "round_11.part").exists()
    files.checkpoints()[0].remove()
    found = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(found) == ["round_10", "round_x"]


def test_names_of_adapters_lead_back_to_their_clients():
    names = [RunFolder.adapter_name(client) for client in (0, 1, 12)]
    assert names == ["global", "client_1", "client_12"]
    assert [RunFolder.client_of(name) for name in names] == [0, 1, 12]


def test_an_unfinished_run_tells_what_its_summary_would(folder, lab):
    """The summary of a run that was killed just before it wrote one."""
    whole = load_run(folder, "x")
    (folder / "summary.json").unlink()
    part = load_run(folder, "x")
    assert (whole.source, part.source) == ("summary.json", "metrics.jsonl")
    for key in ("results", "method", "adapter", "model", "data", "seed"):
        assert part.summary[key] == whole.summary[key]
    for key in ("clients", "rounds"):
        assert part.summary[key] == whole.summary[key]
    assert part.metric == whole.metric and part.labels == whole.labels
    note = " ".join(caveats([part]))
    assert "not finished" in note and "round 2 of 2" in note


def test_the_hosts_own_log_has_the_same_results(folder):
    ours = load_run(folder, "x")
    for name in ("summary.json", "metrics.jsonl"):
        (folder / name).unlink()
    hosts = load_run(folder, "x")
    assert hosts.source == "eval_results.log"
    assert len(hosts.curve) == len(ours.curve) == 2
    for a, b in zip(ours.curve, hosts.curve, strict=True):
        assert a["round"] == b["round"]
        for average in ("weighted", "mean"):
            for key in ("test_acc", "val_acc", "test_avg_loss"):
                assert b[average][key] == pytest.approx(a[average][key])
    best = ours.summary["results"]["best"]
    assert hosts.summary["results"]["best"]["round"] == best["round"]
    assert hosts.metric == "test_acc" and hosts.of_clients() == {}


def test_numbers_as_numpy_and_as_nobody_can_read_them(tmp_path):
    """numpy 2 writes np.float64(0.5); a fairness of few clients is nan."""
    (tmp_path / "eval_results.log").write_text(
        "{'Role': 'Server #', 'Round': 0, 'Results_weighted_avg': "
        "{'test_acc': np.float64(0.5), 'test_x': nan, 'test_nan_x': 1.0}, "
        "'Results_avg': {'test_acc': 0.25}, 'Results_fairness': "
        "{'test_acc_bottom10%': -inf}}\n"
        "{'Role': 'Client #1', 'Round': 1, 'Results_raw': {'test_acc': 1}}\n"
        "{'Role': 'Server #', 'Round': 2, 'Results_raw': {'test_acc': 0.75}}\n"
        "{'Role': 'Server #', 'Round': 'Final', 'Results_raw': {'x': {}}}\n"
    )
    clients, whole = load_run(tmp_path, "x").curve
    assert clients["round"] == 1 and clients["mean"] == {"test_acc": 0.25}
    assert clients["weighted"] == {"test_acc": 0.5, "test_nan_x": 1.0}
    assert whole["round"] == 2 and whole["weighted"] == {"test_acc": 0.75}


def test_a_last_line_that_was_cut_short_is_not_there_yet(folder):
    (folder / "summary.json").unlink()
    file = folder / "metrics.jsonl"
    text = file.read_text()
    file.write_text(text[: len(text) - 20])
    assert [line["round"] for line in load_run(folder, "x").curve] == [1]
    file.write_text(text[20:])
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1 is damaged"):
        load_run(folder, "x")


@pytest.mark.parametrize("name", ["summary.json", "label_counts.json"])
def test_truncated_json_is_named(folder, name):
    file = folder / name
    file.write_text(file.read_text()[:-9])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        load_run(folder, "x")


@pytest.mark.parametrize("content", ["[1]", "a: [", "\x00"])
def test_a_configuration_that_is_none(folder, content):
    (folder / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        load_run(folder, "x")


def test_a_configuration_that_says_little(folder):
    (folder / "summary.json").unlink()
    (folder / "config.yaml").write_text("seed: 3\nllm:\n")
    summary = load_run(folder, "x").summary
    assert summary["seed"] == 3 and summary["method"] == "unknown"


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 2}', "null"])
def test_a_summary_that_is_none(folder, content):
    (folder / "summary.json").write_text(content)
    with pytest.raises(UserError, match="no summary of a run"):
        load_run(folder, "x")


@pytest.mark.parametrize(
    "name, content",
    [
        ("summary.json", {"results": 3}),
        ("summary.json", {"results": {"last": 3, "best": None}}),
        ("summary.json", {"results": {"last": {}, "best": None}}),
        ("summary.json", {"communication": None}),
        ("summary.json", {"seed": "x"}),
        ("label_counts.json", []),
        ("label_counts.json", {"1": {"train": 3}}),
        ("label_counts.json", {"one": {"train": {"a": 3}}}),
    ],
)
def test_json_of_something_else_is_named(folder, name, content):
    file = folder / name
    if name == "summary.json":
        content = json.loads(file.read_text()) | content
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{name} |seed"):
        load_run(folder)


@pytest.mark.parametrize(
    "line",
    [
        '{"weighted": 3}',
        '{"round": 1, "weighted": {}, "mean": {}, "clients": {"1": 2}}',
        '{"round": 1, "weighted": {"a": "b"}, "mean": {}, "clients": {}}',
        "[" * 100_000,
    ],
)
def test_a_line_of_something_else_is_named(folder, line):
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 3 is damaged"):
        load_run(folder)


@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
def test_a_file_that_is_no_text_is_named(folder, name):
    (folder / name).write_bytes(b"\xff\xfe\x00seed: 1")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        load_run(folder)


@pytest.mark.parametrize(
    "name", ["config.yaml", "summary.json", "metrics.jsonl"]
)
def test_a_file_that_cannot_be_read_is_named(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} cannot be read"):
        load_run(folder)


@pytest.mark.parametrize(
    "content",
    [
        "seed: 3\nfederate: 3\nllm: [1]\nmodel: x\neval: 2\n",
        "seed: 3\nllm: {adapter: {args: abc}}\n",
        "seed: 3\nllm: {adapter: {args: [null]}}\n",
    ],
)
def test_a_configuration_of_something_else(folder, content):
    """What it says is taken, and nothing more."""
    (folder / "summary.json").unlink()
    (folder / "config.yaml").write_text(content)
    run = load_run(folder)
    assert run.seed == 3 and run.summary["adapter"] == "unknown"


def test_a_seed_that_is_no_number(folder):
    (folder / "summary.json").unlink()
    (folder / "config.yaml").write_text("seed: [1]\n")
    with pytest.raises(UserError, match="seed"):
        load_run(folder)


def test_where_there_is_no_run_at_all(tmp_path):
    for wrong in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="holds no run"):
            load_run(wrong)


def test_a_run_in_python(folder):
    """What its files say, under the names that the documents have."""
    run = load_run(str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    assert run.name == folder.name and run.folder == folder
    assert run.is_finished and run.summary == summary
    assert run.last == summary["results"]["last"]
    assert run.best == summary["results"]["best"]
    assert run.metric == "test_acc" and run.seed == 1
    assert run.config == yaml.safe_load((folder / "config.yaml").read_text())
    assert run.settings["federate.method"] == "fedsa"
    assert run.settings["train.optimizer.lr"] == 0.5
    assert run.clients == [1, 2, 3]
    last = summary["results"]["last"]["clients"]
    assert run.client(2).results == last["2"]
    with pytest.raises(UserError, match="no client 4; known are 1, 2, 3"):
        run.client(4)


def test_metrics_are_a_table(folder, monkeypatch):
    """With pandas and without."""
    run = load_run(folder)
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    table = run.metrics
    assert isinstance(table, pandas.DataFrame)
    assert table["round"].tolist() == [1, 2]
    for key in ("test_acc", "val_avg_loss"):
        found = table[key].tolist(), table[f"mean_{key}"].tolist()
        assert found[0] == [line["weighted"][key] for line in lines]
        assert found[1] == [line["mean"][key] for line in lines]
    sent = [line["uplink_bytes"] for line in lines]
    assert table["uplink_bytes"].tolist() == sent
    load = builtins.__import__

    def without_pandas(name, *words, **more):
        if name == "pandas":
            raise ImportError(name)
        return load(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    rows = run.metrics
    monkeypatch.undo()
    assert isinstance(rows, list)
    assert rows == table.to_dict("records")


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_models_of_a_run(folder, toy_model):
    """They are what transformers and PEFT load, ready to evaluate."""
    run = load_run(folder)
    found = {ID: logits_of(run.client(ID).model()) for ID in run.clients}
    found[0] = logits_of(run.global_model())
    for ID, logits in found.items():
        adapter = folder / "adapters" / (f"client_{ID}" if ID else "global")
        assert adapter == (run.client(ID).adapter if ID else run.adapter)
        base = plain_base(toy_model, torch.float32)
        plain = PeftModel.from_pretrained(base, adapter).eval()
        assert torch.equal(logits, logits_of(plain))
    assert not torch.equal(found[1], found[2])


def test_a_model_is_loaded_without_a_trace(folder):
    """The user's own random numbers stay as they are."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_run(folder).client(1).model()
    assert torch.equal(torch.rand(1), expected)


def test_language_models_of_a_run(language_lab, toy_llama):
    folder = language_lab.run(federate__total_round_num=1)["outdir"]
    client = load_run(folder).client(3)
    base = AutoModelForCausalLM.from_pretrained(toy_llama)
    plain = PeftModel.from_pretrained(base, client.adapter).eval()
    assert torch.equal(logits_of(client.model()), logits_of(plain))


def test_what_a_run_has_no_model_of(lab):
    local = load_run(lab.run(federate__method="local")["outdir"])
    with pytest.raises(UserError, match="no adapter 'global' was saved"):
        local.global_model()
    hosts = load_run(lab.run(federate__method="FedAvg")["outdir"])
    assert hosts.clients == [1, 2, 3] and hosts.global_model() is not None
    with pytest.raises(UserError, match="'client_2' was saved; there is glob"):
        hosts.client(2).model()
    dual = load_run(lab.run(federate__method="feddpa")["outdir"])
    with pytest.raises(UserError, match="a shared and a private adapter"):
        dual.client(2).model()
    assert (dual.client(2).adapter / "private").is_dir()


def test_what_an_unfinished_run_has_no_model_of(folder):
    """Its adapters may be older than its checkpoint."""
    (folder / "summary.json").unlink()
    run = load_run(folder)
    with pytest.raises(UserError, match="has not finished; 'fedsa run --res"):
        run.client(1).model()


def test_an_adapter_that_cannot_be_loaded_is_named(folder):
    run = load_run(folder)
    file = run.adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is dam"):
        run.global_model()
    (folder / "config.yaml").write_text("seed: 3\n")
    with pytest.raises(UserError, match="names no base model"):
        load_run(folder).global_model()


@pytest.mark.parametrize("backend", ["disk", "memory"])
@pytest.mark.parametrize("rnd", [1, 2])
def test_what_was_trained_is_never_deleted(lab, backend, rnd):
    """A user's mistake in the middle of a run, before any evaluation."""
    from fs_plugins.experiment import run
    from fs_plugins.listeners import Listener

    class Fails(Listener):
        def round_begins(self, number, clients):
            if number == rnd:
                raise UserError("something is wrong")

    file = lab.file(
        eval__freq=10,
        fedsa__state__backend=backend,
        expname="run",
        federate__total_round_num=4,
    )
    with pytest.raises(UserError, match="something is wrong"):
        run(file, quiet=True, listeners=[Fails()])
    folder = RunFolder(Path(lab.settings["outdir"]) / "run")
    assert folder.path.exists() == (rnd == 2)
    if rnd == 2:
        assert folder.checkpoints()


def test_a_result_that_is_not_finite_is_null(tmp_path):
    """The files stay JSON; who reads them finds the others' results."""
    nan = float("nan")
    clients = {
        1: {"val_total": 2, "val_acc": 0.5, "val_loss": nan},
        2: {"val_total": 6, "val_acc": nan, "val_loss": nan},
    }
    files = RunFolder(tmp_path)
    line = evaluation(1, clients) | {"uplink_bytes": 1, "downlink_bytes": 2}
    files.append_evaluation(line)
    (text,) = (tmp_path / RunFolder.METRICS).read_text().splitlines()
    written = json.loads(text, parse_constant=pytest.fail)
    assert written["weighted"] == {
        "val_acc": 0.5,
        "val_loss": None,
        "val_total": 8,
    }
    assert written["clients"]["2"]["val_acc"] is None
    (found,), _ = files.read_evaluations()
    assert found["weighted"] == {"val_acc": 0.5, "val_total": 8}
    assert found["clients"]["2"] == {"val_total": 6}
    assert load_run(tmp_path).last["mean"] == {"val_acc": 0.5, "val_total": 8}


def test_files_with_nan_of_an_earlier_version_are_read(folder):
    """They held what is no JSON."""
    for name in (RunFolder.SUMMARY, RunFolder.METRICS):
        file = folder / name
        text = re.sub(r'("val_loss": )[\d.e-]+', r"\1NaN", file.read_text())
        assert "NaN" in text
        file.write_text(text)
    run = load_run(folder)
    for results in (run.last, run.best, *run.curve):
        assert "val_loss" not in results["weighted"]
        assert "val_acc" in results["weighted"]
    assert "val_loss" not in run.metrics.columns


def test_a_round_without_the_deciding_result_is_never_the_best():
    """Nothing is better than nan, which would stay the best for ever."""
    nan, good = (
        evaluation(1, {1: {"val_total": 1, "val_acc": value}})
        for value in (float("nan"), 0.5)
    )
    assert better("val_acc", nan, None) is None
    assert better("val_acc", good, better("val_acc", nan, None)) is good
    assert better("val_acc", nan, good) is good
