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
from helpers import free_port, in_float64, plain_base, wait_for
from safetensors.torch import load_file

from fs_plugins.state.files import read_facts

ADAPTER = "adapter_model.safetensors"


def adapter(spread, ID):
    """A participant's adapter, wherever its last process has saved it."""
    name = f"client_{ID}" if ID else "global"
    (file,) = spread.folder(ID).rglob(f"adapters/{name}/{ADAPTER}")
    return load_file(file)


def rounds_of(spread):
    """The newest round of which the server has a checkpoint; -1 for none."""
    names = [p.name for p in spread.folder(0).glob("checkpoints/round_*")]
    return max((int(n[6:]) for n in names if n[6:].isdecimal()), default=-1)


def check_results(spread, alone, is_exact):
    """Those of the standalone run, in each round."""
    lines = (Path(alone["outdir"]) / "metrics.jsonl").read_text().splitlines()
    for found, line in zip(spread.lines(), lines, strict=True):
        expected = json.loads(line)
        assert found["round"] == expected["round"]
        for ID, own in expected["clients"].items():
            if is_exact:
                assert found["clients"][ID] == own
            assert found["clients"][ID] == pytest.approx(own, rel=1e-9)


def end_all(spread):
    """In good order."""
    for ID in (0, *CLIENTS):
        code, _, err = spread.end(ID)
        assert (code, err) == (0, ""), err


PATIENT = {"wait": 120.0, "lost_after": 10.0}


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_as_if_nothing_had_been(
    lab, federation
):
    """SIGKILL at three moments, then SIGTERM: each number is to the bit.

    The clients stay alive, but for the second time, when all processes end
    as in a power failure.
    """
    total = 20
    changes = {
        "federate__total_round_num": total,
        "federate__sample_client_num": 2,
        "dataloader__shuffle": True,
    }
    alone = lab.run(expname="alone", **changes)
    spread = federation(**changes, fedsa__transport=PATIENT)
    spread.start_all()
    for number, after in enumerate((0, total // 4, total // 2)):
        wait_for(lambda after=after: rounds_of(spread) >= after, 120)
        time.sleep(0.03 * number)  # somewhere in the round
        code, _, _ = spread.kill(0, signal.SIGKILL)
        assert code == -signal.SIGKILL
        for ID in CLIENTS if number == 1 else ():
            spread.kill(ID, signal.SIGKILL)
            spread.start(ID)
        spread.resume()
    wait_for(lambda: rounds_of(spread) >= 3 * total // 4, 120)
    code, _, err = spread.kill(0, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert f"'fedsa run --resume {spread.folder(0)}' goes on" in err
    assert "Traceback" not in err
    spread.resume()
    end_all(spread)
    check_results(spread, alone, is_exact=True)
    for ID in (0, *CLIENTS):
        name = f"client_{ID}" if ID else "global"
        file = Path(alone["outdir"], "adapters", name, ADAPTER)
        found, expected = adapter(spread, ID), load_file(file)
        assert found.keys() == expected.keys()
        for each, value in expected.items():
            assert torch.equal(found[each], value), each


@pytest.mark.slow
def test_changes_of_the_base_model_outlive_the_server(lab, federation):
    """A client that is alive has them already, one that starts has none."""
    in_float64(lab)
    changes = {
        "federate__total_round_num": 8,
        "federate__method": "fedit",
        "fedsa__aggregator": "fedex",
    }
    alone = lab.run(expname="alone", **changes)
    spread = federation(**changes, fedsa__transport=PATIENT)
    spread.start_all()
    wait_for(lambda: rounds_of(spread) >= 3, 120)
    spread.kill(0, signal.SIGKILL)
    spread.kill(2, signal.SIGKILL)
    spread.start(2)
    spread.resume()
    end_all(spread)
    check_results(spread, alone, is_exact=False)


@pytest.mark.slow
def test_clients_and_server_that_end_and_start_again(federation):
    """Each says how to go on, and loses nothing of what it has trained.

    A client is stopped by SIGTERM; one sleeps while a second process of the
    same client starts; one is killed and never comes back.
    """
    spread = federation(
        federate__total_round_num=5000,
        eval__freq=5,
        fedsa__transport={"wait": 60.0, "lost_after": 1.0},
    )
    spread.start_all()
    wait_for(lambda: len(spread.lines()) > 1, 120)

    code, _, err = spread.kill(1, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    *_, sentence = err.strip().splitlines()
    assert sentence.startswith("fedsa: left the run; the command that this")
    assert f"fedsa export {spread.folder(1)} --client 1" in sentence
    (kept,) = spread.folder(1).glob("state/*/client_1.safetensors")
    left = kept.read_bytes()
    trained = int(read_facts(kept)["round"])
    assert trained > 1

    asleep = spread.processes[2]
    asleep.send_signal(signal.SIGSTOP)
    (own,) = spread.folder(2).glob("state/*/client_2.safetensors")
    before = own.read_bytes()
    spread.ports[2] = free_port()  # the first process still has the old one
    spread.start(2)
    code, _, err = spread.end(2)
    assert code == 2 and err.count("\n") == 1, err
    assert "client_2.safetensors is kept by process" in err
    assert own.read_bytes() == before
    assert not list(spread.folder(2).glob("sub_exp*"))
    asleep.send_signal(signal.SIGCONT)
    spread.processes[2] = asleep
    wait_for(lambda: {"2", "3"} in spread.evaluated()[-3:], 120)
    wait_for(lambda: int(read_facts(own)["round"]) > trained, 120)

    assert kept.read_bytes() == left
    spread.start(1)
    wait_for(lambda: {"1", "2", "3"} in spread.evaluated()[-3:], 120)
    code, _, _ = spread.kill(3, signal.SIGKILL)
    assert code == -signal.SIGKILL
    wait_for(lambda: spread.evaluated()[-1] == {"1", "2"}, 120)

    spread.processes[0].send_signal(signal.SIGTERM)
    code, _, err = spread.end(0)
    assert code == 128 + signal.SIGTERM, err


@pytest.mark.slow
def test_a_client_that_is_away_at_the_end_has_an_adapter(
    lab, federation, fedsa, toy_model
):
    """What it keeps, with the last A that it was sent, as PEFT loads it."""
    spread = federation(
        federate__total_round_num=60,
        eval__freq=60,
        fedsa__transport={"wait": 60.0, "lost_after": 5.0},
    )
    spread.start_all()
    wait_for(lambda: rounds_of(spread) >= 2, 120)
    spread.kill(3, signal.SIGKILL)
    for ID in (0, 1, 2):
        code, _, err = spread.end(ID)
        assert (code, err) == (0, ""), err
    out = lab.folder / "exported"
    found = fedsa("export", spread.folder(3), "--client", 3, "--out", out)
    assert found.returncode == 0, found.stderr
    (file,) = spread.folder(3).glob("state/*/client_3.safetensors")
    kept = load_file(file)
    received = load_file(file.with_name("client_3.received.safetensors"))
    rounds = read_facts(file)["round"]
    assert f"client_3, after {rounds} of 60 rounds" in found.stdout
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
    assert "global, after 60 of 60 rounds" in found.stdout
    again = load_file(out / ADAPTER)
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    found = fedsa("run", "--resume", folder, "fedsa.transport.wait", 1)
    assert found.returncode == 0, found.stderr
    assert all(
        torch.equal(value, whole[name])
        for name, value in adapter(spread, 0).items()
    )
    found = json.loads((folder / "summary.json").read_text())
    assert found["results"] == summary["results"]
