"""Lets runs in several threads of one process take turns, round by round.

The random states of Python, numpy and torch, and the handlers of the host's
log, belong to the whole process.  They are saved when a run gives way and
restored when its turn comes again, so that each run has the same results and
log as if it were alone.  For runs in parallel, start a process for each run.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fs_plugins.listeners import Listener
from fs_plugins.seeds import random_states, restore_random_states

_turn = threading.RLock()


class Turns(Listener):
    """Gives way to the runs of other threads between two rounds."""

    def round_ends(self, rnd: int) -> None:
        """Let another run continue, if one waits."""
        with _as_they_were():
            _turn.release()
            _turn.acquire()


@contextmanager
def taking_turns() -> Iterator[Turns]:
    """Wait for the turn, and keep it except between two rounds.

    Yields:
        A listener, which must be told of the end of each round.

    """
    with _turn, _as_they_were():
        yield Turns()


@contextmanager
def _as_they_were() -> Iterator[None]:
    """Restore random states and log handlers at the end."""
    log = logging.getLogger("federatedscope")
    states: dict[str, Any] = random_states()
    handlers, propagates, level = [*log.handlers], log.propagate, log.level
    try:
        yield
    finally:
        log.handlers, log.propagate = handlers, propagates
        log.setLevel(level)
        restore_random_states(states)
