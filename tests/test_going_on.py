"""Distributed runs whose processes are killed, stopped and started again."""

import json
import shutil
import signal
import time
from pathlib import Path

import peft
import pytest
import torch
from federations import CLIENTS
from helpers import in_float64, plain_base, wait_for
from safetensors.torch import load_file

from fs_plugins.engine.outcome import Outcome
from fs_plugins.state.files import read_facts

ADAPTER = "adapter_model.safetensors"
FINISHED = Outcome("finished")


def adapter(spread, ID):
    """A participant's adapter."""
    name = f"client_{ID}" if ID else "global"
    return load_file(spread.folder(ID) / "adapters" / name / ADAPTER)


def rounds_of(spread):
    """The newest round of which the server has a checkpoint; -1 for none."""
    names = [p.name for p in spread.folder(0).glob("checkpoints/round_*")]
    return max((int(n[6:]) for n in names if n[6:].isdecimal()), default=-1)


def check_metrics(spread, alone, is_exact):
    """Those of the standalone run, in each round."""
    lines = (Path(alone["outdir"]) / "metrics.jsonl").read_text().splitlines()
    for found, line in zip(spread.lines(), lines, strict=True):
        expected = json.loads(line)
        assert found["round"] == expected["round"]
        for ID, own in expected["clients"].items():
            if is_exact:
                assert found["clients"][ID] == own
            assert found["clients"][ID] == pytest.approx(own, rel=1e-9)


def check_adapters(spread, alone):
    """Those of the standalone run, to the bit."""
    for ID in (0, *CLIENTS):
        name = f"client_{ID}" if ID else "global"
        file = Path(alone["outdir"], "adapters", name, ADAPTER)
        found, expected = adapter(spread, ID), load_file(file)
        assert found.keys() == expected.keys()
        for each, value in expected.items():
            assert torch.equal(found[each], value), each


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_as_if_nothing_had_been(
    lab, federation
):
    """SIGKILL of each process at some moment, and of all: to the bit.

    Each job after a kill goes on from what is in the folders.  The last one
    but one is aborted by its user.
    """
    total = 18
    changes = {
        "federate__total_round_num": total,
        "federate__sample_client_num": 2,
        "dataloader__shuffle": True,
    }
    alone = lab.run(expname="alone", **changes)
    spread = federation(**changes)
    killed = [[0], [2], [0, *CLIENTS], [0], [1], [0]]
    for number, IDs in enumerate(killed):
        spread.start()
        wait_for(lambda after=2 * number: rounds_of(spread) >= after, 120)
        time.sleep(0.03 * number)  # somewhere in the round
        spread.kill(*IDs)
        outcome = spread.end()
        if 0 in IDs:
            assert outcome is None
        else:
            (ID,) = IDs
            assert outcome.kind == "failed" and outcome.away
            assert outcome.sentence.startswith(
                f"site-{ID}: it is disconnected"
            )
    spread.start()
    wait_for(lambda: rounds_of(spread) >= 2 * len(killed), 120)
    spread.abort()
    assert spread.end() == Outcome("ended", "the job was ended")
    assert len(spread.lines()) < total
    spread.start()
    assert spread.end() == FINISHED
    check_metrics(spread, alone, is_exact=True)
    check_adapters(spread, alone)


@pytest.mark.slow
def test_changes_of_the_base_model_outlive_all_processes(lab, federation):
    """The server's checkpoint has them, and sends them to who has none."""
    in_float64(lab)
    changes = {
        "federate__total_round_num": 6,
        "federate__method": "fedit",
        "fedsa__aggregator": "fedex",
    }
    alone = lab.run(expname="alone", **changes)
    spread = federation(**changes)
    spread.start()
    wait_for(lambda: rounds_of(spread) >= 3, 120)
    spread.kill(0)
    assert spread.end() is None
    spread.start()
    assert spread.end() == FINISHED
    check_metrics(spread, alone, is_exact=False)


@pytest.mark.slow
def test_two_processes_of_one_client_exclude_each_other(lab, federation):
    """One of an earlier job hangs, and wakes up too late."""
    changes = {"federate__total_round_num": 12}
    alone = lab.run(expname="alone", **changes)
    spread = federation(**changes)
    spread.start()
    wait_for(lambda: rounds_of(spread) >= 2, 120)
    asleep = spread.processes.pop(2)
    asleep.send_signal(signal.SIGSTOP)
    try:
        spread.kill(0)
        assert spread.end() is None
        (own,) = spread.folder(2).glob("state/*/client_2.safetensors")
        before = own.read_bytes()
        spread.start()
        outcome = spread.end()
        assert outcome.kind == "failed" and not outcome.away
        words = f"site-2: {spread.folder(2)} is in use by process"
        assert outcome.sentence.startswith(words)
        assert own.read_bytes() == before
        asleep.send_signal(signal.SIGCONT)
        asleep.wait()  # its job is over
    finally:
        asleep.kill()
        asleep.wait()
    spread.start()
    assert spread.end() == FINISHED
    check_metrics(spread, alone, is_exact=True)
    check_adapters(spread, alone)


@pytest.mark.slow
def test_a_client_that_is_away_at_the_end_has_an_adapter(
    lab, federation, fedsa, toy_model
):
    """What it keeps, with the last A that it was sent, as PEFT loads it.

    The others go on without it, as the run needs two sites only.
    """
    total = 30
    spread = federation(
        needed=2, federate__total_round_num=total, eval__freq=total
    )
    spread.start()
    wait_for(lambda: rounds_of(spread) >= 2, 120)
    spread.kill(3)
    assert spread.end() == FINISHED
    assert spread.evaluated() == [{"1", "2"}]
    out = lab.folder / "exported"
    found = fedsa("export", spread.folder(3), "--client", 3, "--out", out)
    assert found.returncode == 0, found.stderr
    (file,) = spread.folder(3).glob("state/*/client_3.safetensors")
    kept = load_file(file)
    received = load_file(file.with_name("client_3.received.safetensors"))
    rounds = read_facts(file)["round"]
    assert f"client_3, after {rounds} of {total} rounds" in found.stdout
    exported = load_file(out / ADAPTER)
    expected = {
        name.replace(".default", "").replace(".modules_to_save", ""): value
        for name, value in (kept | received).items()
    }
    assert exported.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(exported[name], value), name
    assert any(v.any() for n, v in exported.items() if "lora_B" in n)
    peft.PeftModel.from_pretrained(plain_base(toy_model, torch.float32), out)

    # The server's folder, as if it had been killed at the end.
    folder = spread.folder(0)
    whole = adapter(spread, 0)
    shutil.rmtree(folder / "adapters")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").unlink()
    out = lab.folder / "global"
    found = fedsa("export", folder, "--client", "global", "--out", out)
    assert f"global, after {total} of {total} rounds" in found.stdout
    again = load_file(out / ADAPTER)
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    spread.start()
    assert spread.end() == FINISHED
    assert all(
        torch.equal(value, whole[name])
        for name, value in adapter(spread, 0).items()
    )
    found = json.loads((folder / "summary.json").read_text())
    assert found["results"] == summary["results"]
    adapter(spread, 3)  # it has come back to be told of the end
