"""Handles Ctrl-C and SIGTERM during a run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fs_plugins.errors import Interrupted
from fs_plugins.experiment.checkpoint import Checkpoints
from fs_plugins.host.configuration import Config
from fs_plugins.listeners import Listener
from fs_plugins.settings import command_to_resume

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handling(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Call ``handle`` on Ctrl-C and SIGTERM, within the context.

    Outside the main thread, which alone may handle signals, the context does
    nothing.

    Args:
        handle: a function of the signal's number and the stack frame.

    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        for number in STOPPING:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Signals:
    """Notes the signals that ask a run to stop.

    Args:
        at_first: called with the first signal's number.

    Attributes:
        received: the numbers of the signals, the first one first.

    """

    def __init__(
        self, at_first: Callable[[int], None] = lambda number: None
    ) -> None:
        self.received: list[int] = []
        self._at_first = at_first

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals; the second signal ends the process at once."""
        with handling(self._take):
            yield

    def _take(self, number: int, _: Any) -> None:
        self.received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # The signal may have interrupted print(), which cannot be reentered.
        os.write(2, b"stopping after this round; once more: at once\n")
        self._at_first(number)


class Stops(Listener):
    """Ends a run after the round in which it receives the first signal.

    A server that still waits for its clients ends at once.

    Args:
        cfg: the run's configuration.
        checkpoints: the run's checkpoints.

    """

    def __init__(self, cfg: Config, checkpoints: Checkpoints) -> None:
        self._cfg = cfg
        self._checkpoints = checkpoints
        self._signals = Signals(self._at_first)
        self._waits = cfg.federate.mode.lower() == "distributed"

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """Handle signals; the second signal ends the process at once."""
        return self._signals.listening()

    def clients_joined(self) -> None:
        """From now on there are rounds to end."""
        self._waits = False

    def _at_first(self, number: int) -> None:
        if self._waits:
            raise Interrupted(
                "stopped before all clients had joined; "
                f"'{command_to_resume(self._cfg)}' goes on",
                number,
            )

    def round_ends(self, rnd: int) -> None:
        """Write a checkpoint and stop, if a signal was received.

        Raises:
            Interrupted: a signal was received.

        """
        if self._signals.received:
            self._checkpoints.write()
            raise Interrupted(
                f"stopped after round {rnd} of "
                f"{self._cfg.federate.total_round_num}; "
                f"'{command_to_resume(self._cfg)}' goes on",
                self._signals.received[0],
            )
