"""Lets runs in several threads of one process take turns, round by round.

The random states of Python, numpy and torch, and the handlers of the host's
log, belong to the whole process.  They are saved when a run gives way and
restored when its turn comes again, so that each run has the same results and
log as if it were alone.  For runs in parallel, start a process for each run.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fs_plugins.listeners import Listener
from fs_plugins.seeds import random_states, restore_random_states


class _Turn:
    """A lock that threads get in the order in which they ask for it.

    The thread that has the turn may take it again.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[object] = deque()
        self._owner: int | None = None
        self._depth = 0

    @property
    def is_mine(self) -> bool:
        """Whether this thread has the turn."""
        return self._owner == threading.get_ident()

    def take(self) -> None:
        """Wait for the turn."""
        if self.is_mine:
            self._depth += 1
            return
        ticket = object()
        with self._condition:
            self._waiting.append(ticket)
            try:
                self._condition.wait_for(
                    lambda: self._owner is None and self._waiting[0] is ticket
                )
                self._owner, self._depth = threading.get_ident(), 1
            finally:
                self._waiting.remove(ticket)
                self._condition.notify_all()

    def leave(self) -> None:
        """Give the turn to the thread that has waited longest."""
        with self._condition:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._condition.notify_all()


_turn = _Turn()


def _begin_anew() -> None:
    """In a forked process nobody else has the turn, or waits for it."""
    _turn.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_begin_anew)


class Turns(Listener):
    """Gives way to the runs of other threads between two rounds."""

    def end(self) -> None:
        """Give up the turn, in a run that waits for others.

        Such a run shares the state of the process with the other runs.
        """
        _turn.leave()

    def round_ends(self, rnd: int) -> None:
        """Let another run continue, if one waits."""
        if not _turn.is_mine:
            return
        restore = _state()
        _turn.leave()
        try:
            _turn.take()
        except BaseException:
            # The run is ended, in its own state: the others end their round.
            _turn.take()
            raise
        finally:
            restore()


@contextmanager
def taking_turns() -> Iterator[Turns]:
    """Wait for the turn, and keep it except between two rounds.

    Yields:
        A listener, which must be told of the end of each round.

    """
    _turn.take()
    restore = _state()
    try:
        yield Turns()
    finally:
        if _turn.is_mine:
            restore()
            _turn.leave()


def _state() -> Callable[[], None]:
    """A function that restores the random states and log handlers of now."""
    log = logging.getLogger("federatedscope")
    states = random_states()
    handlers, propagates, level = [*log.handlers], log.propagate, log.level

    def restore() -> None:
        log.handlers, log.propagate = handlers, propagates
        log.setLevel(level)
        restore_random_states(states)

    return restore
