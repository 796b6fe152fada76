"""Ctrl-C and SIGTERM, handled for a while."""

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

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handling(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Call ``handle`` on either signal; afterwards, what was before.

    In a thread it does nothing: only the main one may handle signals.
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


class Stops(Listener):
    """Ends a run after the round in which the first signal has come.

    Args:
        cfg: the run's configuration.
        checkpoints: the run's.

    """

    def __init__(self, cfg: Config, checkpoints: Checkpoints) -> None:
        self._cfg = cfg
        self._checkpoints = checkpoints
        self._received: list[int] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals; the second one acts at once."""
        with handling(self._take):
            yield

    def _take(self, number: int, _: Any) -> None:
        self._received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # print() may be what was interrupted
        os.write(2, b"stopping after this round; once more: at once\n")

    def round_ends(self, rnd: int) -> None:
        """Write a checkpoint and stop, if a signal has come."""
        if self._received:
            self._checkpoints.write()
            raise Interrupted(
                f"stopped after round {rnd} of "
                f"{self._cfg.federate.total_round_num}; 'fedsa run --resume "
                f"{self._cfg.outdir}' goes on",
                self._received[0],
            )
