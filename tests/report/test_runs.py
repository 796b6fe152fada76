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


def test_one_clients_results_are_not_beside_all_of_theirs(
    lab, tmp_path, notes
):
    """A distributed run has a folder for each participant."""
    folder = Path(lab.run(federate__total_round_num=1)["outdir"])
    top = tmp_path / "runs"
    for ID, name in enumerate(("server", "client_1", "client_2")):
        shutil.copytree(folder, top / name)
        file = top / name / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config["federate"]["mode"] = "distributed"
        role = "client" if ID else "server"
        config["distribute"] = {"role": role, "data_idx": ID}
        file.write_text(yaml.safe_dump(config))

    def names(*folders):
        return [run.name for run in find_runs(folders)]

    assert names(top) == ["server"]
    assert len(notes) == 1 and "client_1" in notes[0]
    assert "client_2" in notes[0] and "one client alone" in notes[0]
    assert names(top, top / "client_2") == ["client_2", "server"]
    assert names(top / "client_2", top) == ["client_2", "server"]
    del notes[:]
    assert names(top / "client_2") == ["client_2"]
    shutil.rmtree(top / "server")
    assert names(top) == ["client_1", "client_2"], "there is nothing else"
    assert not notes


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
