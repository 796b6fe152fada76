"""Two runs in one process do not know of each other."""

import itertools
import logging
import os
import threading
from pathlib import Path

import pytest
from helpers import everything_of

from fs_plugins.experiment import run

DROPOUT = [
    {
        "adapter_package": "peft",
        "r": 2,
        "lora_dropout": 0.2,
        "target_modules": ["query", "value"],
    }
]
# what a run could leave to another: a change of the base model, clients'
# files, models that share a base, the random state
RUNS = {
    "flora": {
        "federate__method": "fedit",
        "fedsa__aggregator": "flora",
        "federate__share_local_model": False,
    },
    "disk": {
        "fedsa__state__backend": "disk",
        "fedsa__state__optimizer": True,
        "train__optimizer": {"type": "AdamW", "lr": 0.05},
    },
    "sampled": {"federate__sample_client_num": 2, "seed": 5},
}


@pytest.fixture
def started(lab):
    """Runs one of ``RUNS`` in a folder; returns all of its results."""

    def start(name, folder):
        outdir = lab.folder / folder / name
        file = lab.files[name]
        summary = run(file, {"outdir": outdir}, quiet=True)
        return everything_of(Path(summary["outdir"]))

    changes = {"llm__adapter__args": DROPOUT, "dataloader__shuffle": True}
    lab.files = {n: lab.file(**changes, **own) for n, own in RUNS.items()}
    return start


def test_runs_after_one_another_are_as_if_alone(started):
    alone = {name: started(name, "alone") for name in RUNS}
    assert alone["flora"]["metrics"] != alone["sampled"]["metrics"]
    again = {name: started(name, "again") for name in reversed(RUNS)}
    assert again == alone


def test_runs_in_threads_are_as_if_alone(started):
    """Their rounds alternate, and so do their logs."""
    alone = {name: started(name, "alone") for name in RUNS}
    beside = {}
    order = []

    class Watch(logging.Handler):
        def emit(self, record):
            order.append(threading.current_thread().name)

    def start(name):
        beside[name] = started(name, "beside")

    watch = Watch()
    logger = logging.getLogger("federatedscope.core.workers.server")
    logger.addHandler(watch)
    threads = [
        threading.Thread(target=start, args=(name,), name=name)
        for name in RUNS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.removeHandler(watch)
    assert beside == alone
    switches = sum(a != b for a, b in itertools.pairwise(order))
    assert switches > len(RUNS), "they ran after one another"


def test_what_a_run_leaves_of_the_process_is_as_before(started):
    """Random states, and where the host's log goes."""
    import torch

    log = logging.getLogger("federatedscope")
    handler = logging.NullHandler()
    log.addHandler(handler)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    started("sampled", "one")
    assert torch.equal(torch.rand(2), expected)
    assert handler in log.handlers
    log.removeHandler(handler)


def test_a_run_that_is_interrupted_while_it_waits_spoils_no_other(started):
    """The other run has its random state and its log to the end."""
    from fs_plugins.experiment.turns import taking_turns

    alone = started("sampled", "alone")
    results = {}

    class ImpatientError(Exception):
        pass

    def other():
        results["beside"] = started("sampled", "beside")

    thread = threading.Thread(target=other)
    with pytest.raises(ImpatientError), taking_turns() as turns:
        thread.start()
        while thread.is_alive():
            turns.round_ends(1)
        raise ImpatientError
    assert results["beside"] == alone


def test_a_forked_process_does_not_wait_for_a_thread_of_its_parent():
    from fs_plugins.experiment.turns import taking_turns

    has_turn, may_end = threading.Event(), threading.Event()

    def hold():
        with taking_turns():
            has_turn.set()
            may_end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has_turn.wait()
    child = os.fork()
    if not child:
        with taking_turns():
            os._exit(0)
    _, status = os.waitpid(child, 0)
    may_end.set()
    thread.join()
    assert status == 0
