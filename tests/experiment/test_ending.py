"""The advice on how to go on works in each mode."""

import pytest

from fs_plugins.config.load import load_config
from fs_plugins.experiment.ending import how_to_go_on

SPREAD = {
    "federate__mode": "distributed",
    "federate__share_local_model": False,
    "distribute__use": True,
    "distribute__data_idx": 2,
}
SERVER = {**SPREAD, "distribute__role": "server"}
CLIENT = {**SPREAD, "distribute__role": "client"}
AVERAGED = {"federate__method": "FedAvg"}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, "'fedsa run --resume {folder}' goes on"),
        (AVERAGED, "'fedsa run --resume {folder}' goes on"),
        (SERVER, "'fedsa federate --cfg ... --resume' goes on"),
        (CLIENT, "it takes part again when the run goes on"),
        ({**SERVER, **AVERAGED}, "the command that this run was started"),
    ],
)
def test_how_to_go_on(lab, changes, words):
    cfg = load_config(lab.file(**changes))
    found = how_to_go_on(cfg)
    assert found.startswith(words.format(folder=cfg.outdir))
    assert ("--resume" in found) == ("--resume" in words)
    assert "export" not in found  # there is nothing to export yet


def test_a_run_without_checkpoints_begins_again(lab):
    cfg = load_config(lab.file(**AVERAGED))
    cfg.federate.sampler = "group"  # which the embedded host does not have
    found = how_to_go_on(cfg)
    assert (
        found == "the command that this run was started with begins it again"
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        (CLIENT, "is that of a client in a distributed run; it takes part"),
        (
            {**SERVER, **AVERAGED},
            "federate.method FedAvg in distributed mode cannot be resumed",
        ),
    ],
)
def test_what_cannot_be_resumed_says_so(lab, fedsa, changes, words):
    from fs_plugins.experiment.folder import remember

    folder = lab.folder / "run"
    remember(load_config(lab.file(**changes)), folder)
    found = fedsa("run", "--resume", folder)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert words in found.stderr
