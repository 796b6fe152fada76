"""Runs in several threads of one process take turns, round by round.

The random states of Python, numpy and torch, and the handlers of the host's
log, belong to the process.  Whoever has the turn finds them as the run left
them, so that a run has the numbers and the log of one that is alone.  For
runs that work at the same time, start a process each.
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
    """Gives way to other threads' runs between two rounds."""

    def round_ends(self, rnd: int) -> None:
        """Let another run go on, if one waits."""
        with _as_they_were():
            _turn.release()
            _turn.acquire()


@contextmanager
def taking_turns() -> Iterator[Turns]:
    """Be the one run of this process that works, until ``round_ends``.

    Yields:
        What the run tells of the end of each of its rounds.

    """
    with _turn, _as_they_were():
        yield Turns()


@contextmanager
def _as_they_were() -> Iterator[None]:
    """Random states and handlers are afterwards what they were before."""
    log = logging.getLogger("federatedscope")
    states: dict[str, Any] = random_states()
    handlers, propagates, level = [*log.handlers], log.propagate, log.level
    try:
        yield
    finally:
        log.handlers, log.propagate = handlers, propagates
        log.setLevel(level)
        restore_random_states(states)
