"""SIGKILL at any instant: the run goes on, and ends as if nothing had been."""

import json

import pytest
from crash_runs import kill_and_resume
from processes import Process


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["memory", "disk"])
def test_killed_at_random_instants(lab, tmp_path, backend):
    """Half of the 50 fall between two operations on files."""
    file = lab.file(
        fedsa__state__backend=backend,
        federate__total_round_num=4,
        federate__client_num=4,
        federate__sample_client_num=2,
    )
    process = Process(kill_and_resume, file, tmp_path, 25)
    told, err = process.communicate()
    assert process.returncode == 0, err
    trials = json.loads(told.splitlines()[-1])
    assert len(trials) == 25
    assert [t for t in trials if not t["same"]] == []
    # They fell all over the run: before its first checkpoint, after it,
    # and while one was being written.
    rounds = {max(t["checkpoints"], default="") for t in trials}
    assert len(rounds) >= 3
    names = [name for t in trials for name in t["checkpoints"]]
    assert any(name.endswith(".part") for name in names)
