"""What reports read: runs that ended, or did not, or are damaged."""

import json
import shutil

import pytest
import yaml
from helpers import finished_run

from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run
from fs_plugins.report.remarks import remarks, tasks
from fs_plugins.report.runs import find_runs


@pytest.fixture
def folder(lab):
    """A finished run of the toy model: two rounds."""
    from pathlib import Path

    return Path(lab.run(federate__total_round_num=2)["outdir"])


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
    note = " ".join(remarks([part]))
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


def test_names_tell_runs_apart(folder, tmp_path):
    """By seed alone they share a name; else by the folder above."""
    for name in ("a/x_seed0", "a/x_seed1", "b/x_seed0", "b/y_seed0_2"):
        shutil.copytree(folder, tmp_path / "runs" / name)
    top = tmp_path / "runs"
    found = find_runs([top / "a", top / "b", top / "a" / "x_seed1"])
    assert [run.name for run in found] == [
        "a/x",
        "x",
        "b/x",
        "y_seed0_2",
    ]


def test_where_there_is_no_run(tmp_path):
    for wrong in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="holds no run"):
            find_runs([wrong])


def test_what_a_reader_must_know():
    acc = {"test_acc": 0.5}
    runs = [finished_run(name, acc) for name in "abcd"]
    runs[0].summary["model"] = "other"
    runs[1].summary["results"]["last"]["round"] = 9
    runs[2].summary["data"] = "elsewhere"
    runs[3].summary["results"]["last"] = None
    assert list(tasks(runs)) == ["toy, test_acc", "elsewhere, test_acc"]
    text = "\n".join(remarks(runs))
    assert "d, seed 0: no results yet" in text
    assert "different tasks, not compared with each other" in text
    assert "different rounds: a 2, b 9" in text
    assert "model differ: other, tiny" in text
    assert remarks([runs[2]]) == []


def test_other_data_at_the_clients_are_said():
    one, two = (
        finished_run(name, {"test_acc": json.loads("0.5")}) for name in "ab"
    )
    runs = [
        type(one)("a", one.folder, one.summary, labels={"1": {}}),
        type(two)("b", two.folder, two.summary, labels={"2": {}}),
    ]
    assert "the clients have other data in b than in a" in remarks(runs)[0]


def test_other_settings_than_the_method_are_said(tmp_path):
    """They explain a difference as well as the method does."""

    def one(name, steps, seed=0):
        folder = tmp_path / f"{name}{seed}"
        folder.mkdir()
        settings = {"local_update_steps": steps, "batch_or_epoch": "batch"}
        text = yaml.safe_dump({"train": settings})
        (folder / "config.yaml").write_text(text)
        summary = finished_run(name, {"test_acc": 0.5}).summary
        summary["seed"] = seed
        (folder / "summary.json").write_text(json.dumps(summary))
        return load_run(folder, name)

    runs = [one("a", 4), one("a", 4, 1), one("b", 2), one("c", 4)]
    assert remarks(runs) == [
        "toy, test_acc: train.local_update_steps is 4 in a, c; 2 in b"
    ]
    assert remarks([runs[0], runs[1], runs[3]]) == []
