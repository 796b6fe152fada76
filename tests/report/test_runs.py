"""Which runs a report is about, and what it must say of them."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import finished_run

from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run
from fs_plugins.report.caveats import caveats, tasks
from fs_plugins.report.runs import find_runs


def test_names_tell_runs_apart(lab, tmp_path):
    """By seed alone they share a name; else by the folder above."""
    folder = Path(lab.run(federate__total_round_num=1)["outdir"])
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
    text = "\n".join(caveats(runs))
    assert "d, seed 0: no results yet" in text
    assert "different tasks, not compared with each other" in text
    assert "different rounds: a 2, b 9" in text
    assert "model differ: other, tiny" in text
    assert caveats([runs[2]]) == []


def test_other_data_at_the_clients_are_said():
    one, two = (
        finished_run(name, {"test_acc": json.loads("0.5")}) for name in "ab"
    )
    runs = [
        type(one)("a", one.folder, one.summary, labels={"1": {}}),
        type(two)("b", two.folder, two.summary, labels={"2": {}}),
    ]
    assert "the clients have other data in b than in a" in caveats(runs)[0]


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
    assert caveats(runs) == [
        "toy, test_acc: train.local_update_steps is 4 in a, c; 2 in b"
    ]
    assert caveats([runs[0], runs[1], runs[3]]) == []
