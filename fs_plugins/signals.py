"""Ctrl-C and SIGTERM, handled for a while."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

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
