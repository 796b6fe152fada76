"""FederatedScope and its stand-in compute the same numbers.

The same YAML files run on both, each in a process of its own, from the same
initial adapter, without shuffling and dropout, in float64: but for the order
of sums, they compute the same.
"""

import itertools
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import args_of, assert_close, in_float64

METHODS = ("fedsa", "fedit", "local", "FedAvg")
CASES = [
    *itertools.product(METHODS, (3, 2), (True, False), ("lora",)),
    *(("fedsa", 2, share, "vera") for share in (True, False)),
    *(("FedAvg", 3, share, "vera") for share in (True, False)),
    ("feddpa", 2, True, "private"),
    ("fedit", 2, True, "fedex"),
    ("fedit", 3, False, "flexlora"),
    ("fedsa", 3, True, "ranks"),
    ("fedsa", 2, True, "language"),
    ("FedAvg", 3, False, "language"),
]


def start(host, *words):
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests.parent), str(tests)])
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"FS_PLUGINS_HOST": host, "PYTHONPATH": path},
        check=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, toy_model, toy_glue, toy_llama, toy_sums):
    """host -> case -> what was recorded."""
    doctor = start("federatedscope", "-m", "fs_plugins", "doctor")
    if "FederatedScope is not installed" in doctor.stderr:
        pytest.skip(
            "FederatedScope is not installed, so its stand-in is not compared "
            "with it; 'fedsa doctor' says how to install it"
        )
    assert doctor.returncode == 0, doctor.stderr
    # by its path, as other folders of tests have a conftest, too
    made = runpy.run_path(str(Path(__file__).parent / "conftest.py"))
    Lab, settings_of = made["Lab"], made["settings_of"]
    language_settings_of = made["language_settings_of"]

    folder = tmp_path_factory.mktemp("conformance")
    classes = Lab(settings_of(toy_model, toy_glue, folder), folder)
    in_float64(classes)
    language = language_settings_of(toy_llama, toy_sums, folder)
    language["fedsa"]["eval"] = {
        "generate": {"examples": 2, "max_new_tokens": 6}
    }
    changes = {
        "lora": {},
        "vera": {
            "llm__adapter__args": args_of("vera"),
            "train__optimizer__lr": 4.0,
        },
        "private": {"train__optimizer__lr": 2.0},
        "fedex": {"fedsa__aggregator": "fedex"},
        "flexlora": {"fedsa__aggregator": "flexlora"},
        "ranks": {"fedsa__ranks": [2, 1]},
        "language": {"train__optimizer__lr": 0.1},
    }
    labs = {"language": Lab(language, folder / "language")}
    labs["language"].folder.mkdir()
    files = [
        labs.get(what, classes).file(
            federate__method=method,
            federate__sample_client_num=sample,
            federate__share_local_model=share,
            federate__total_round_num=4,
            eval__freq=2,
            dataloader__shuffle=False,
            **changes[what],
        )
        for method, sample, share, what in CASES
    ]
    found = {}
    for host in ("embedded", "federatedscope"):
        out = folder / f"{host}.pt"
        result = start(
            host, Path(__file__).parent / "record_runs.py", out, *files
        )
        assert result.returncode == 0, result.stderr
        recorded = torch.load(out)
        found[host] = [recorded[str(file)] for file in files]
    return found


def pair(runs, case):
    index = CASES.index(case)
    return runs["embedded"][index], runs["federatedscope"][index]


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
class TestBothHosts:
    def test_start_from_the_same_adapter(self, runs, case):
        ours, theirs = pair(runs, case)
        assert_equal(ours["start"], theirs["start"])

    def test_have_the_same_parameters_after_every_round(self, runs, case):
        ours, theirs = pair(runs, case)
        assert len(ours["rounds"]) == len(theirs["rounds"]) == 4
        for mine, other in zip(ours["rounds"], theirs["rounds"], strict=True):
            assert mine["global"].keys() == other["global"].keys()
            if other["global"]:
                assert_close(mine["global"], other["global"])
            assert mine["kept"].keys() == other["kept"].keys() == {1, 2, 3}
            for ID, kept in other["kept"].items():
                assert mine["kept"][ID].keys() == kept.keys()
                if kept:
                    assert_close(mine["kept"][ID], kept)

    def test_move_what_they_train(self, runs, case):
        """Or the comparison would say nothing."""
        ours, _ = pair(runs, case)
        last = ours["rounds"][-1]
        tensors = last["global"] | last["kept"][1]
        assert tensors.keys() == ours["start"].keys()
        for name, value in tensors.items():
            assert (value - ours["start"][name]).abs().max() > 1e-3, name

    def test_measure_the_same(self, runs, case):
        ours, theirs = pair(runs, case)
        assert len(ours["metrics"]) == len(theirs["metrics"]) == 2
        for mine, other in zip(
            ours["metrics"], theirs["metrics"], strict=True
        ):
            # Language models compute their loss in float32.
            assert flat(mine) == pytest.approx(flat(other), rel=1e-5)

    def test_send_the_same_messages(self, runs, case):
        ours, theirs = pair(runs, case)
        assert ours["communication"] == theirs["communication"]
        assert kinds(ours) == kinds(theirs)


def flat(tree, prefix=""):
    """Every number of a line of metrics.jsonl, by its path."""
    numbers = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            numbers |= flat(value, f"{prefix}{key}/")
        else:
            numbers[f"{prefix}{key}"] = value
    return numbers


def kinds(run):
    """Who sent what to whom, without what only one host talks about."""
    return [
        (kind, sender, sorted(to) if isinstance(to, list) else to, state)
        for kind, sender, to, state in run["messages"]
    ]
