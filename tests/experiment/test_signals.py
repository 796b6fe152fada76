"""Ctrl-C and SIGTERM end a round, lose nothing, and are told as such."""

import os
import signal
from pathlib import Path

import processes
import pytest
from helpers import everything_of, folder_of, resumed, wait_for, whole_of

from fs_plugins.config.load import load_config
from fs_plugins.errors import Interrupted
from fs_plugins.experiment.signals import Stops


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_round_and_says_how_to_go_on(
    lab, monkeypatch, number
):
    whole = whole_of(lab)
    from fs_plugins.worker.client import FedSAClient

    handle = FedSAClient.callback_funcs_for_model_para

    def signalled(self, message):
        if message.state == 1 and self.ID == 2:
            os.kill(os.getpid(), number)
        return handle(self, message)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(FedSAClient, "callback_funcs_for_model_para", signalled)
        with pytest.raises(Interrupted) as stopped:
            lab.run(fedsa__checkpoint__every=0)
    assert signal.getsignal(number) is before
    folder = folder_of(lab)
    assert stopped.value.signal == number
    assert "stopped after round 2 of 3" in str(stopped.value)
    assert f"fedsa run --resume {folder}" in str(stopped.value)
    assert (folder / "checkpoints/round_2").is_dir()
    assert (folder / "adapters/client_3").is_dir()
    assert everything_of(resumed(folder)) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_waits_for_its_clients_has_no_round_to_end(lab, number):
    cfg = load_config(lab.file())
    cfg.federate.mode = "distributed"
    stops = Stops(cfg, None)
    with stops.listening(), pytest.raises(Interrupted) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.signal == number
    assert "before all clients had joined" in str(stopped.value)
    stops = Stops(cfg, None)
    stops.clients_joined()
    with stops.listening():
        os.kill(os.getpid(), number)  # the round ends first


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_exits_as_shells_expect(lab, number):
    file = lab.file(federate__total_round_num=500, eval__freq=500)
    process = processes.fedsa("run", "--cfg", file)
    outdir = Path(lab.settings["outdir"])
    wait_for(lambda: any(outdir.rglob("checkpoints/round_*")), 60)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    *_, sentence = err.strip().splitlines()
    assert sentence.startswith("fedsa: stopped after round")
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_comparison_that_is_stopped_reports_what_had_finished(
    lab, tmp_path, number
):
    """And the run that was under way can be resumed."""
    short = lab.file(federate__total_round_num=1)
    long = lab.file(federate__total_round_num=500, eval__freq=500)
    out = tmp_path / "compared"
    process = processes.fedsa("compare", short, long, "--out", out, "--quiet")
    second = out / f"{long.stem}_seed1"
    wait_for(lambda: any(second.glob("checkpoints/round_*")), 60)
    process.send_signal(number)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "1 of 2 runs had finished" in err and "Traceback" not in err
    assert f"fedsa run --resume {second}" in err
    assert short.stem in said and (out / "comparison.json").exists()
