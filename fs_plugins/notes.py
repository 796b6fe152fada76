"""Notes: sentences that tell the user something without stopping a run.

A note goes to the run's log and, once ``show_notes`` was called, to the
terminal; the command calls it.
"""

import logging
import sys

from fs_plugins.errors import printable

_logger = logging.getLogger("federatedscope.fs_plugins.notes")


def note(sentence: str) -> None:
    """Tell the user something that does not stop a run."""
    _logger.warning("%s", printable(sentence))


class _Terminal(logging.Handler):
    """Writes notes to the current ``sys.stderr``.

    If the host's log is on the terminal already, as with ``--verbose``, it
    contains the notes, and nothing more is written.
    """

    def emit(self, record: logging.LogRecord) -> None:
        host = logging.getLogger("federatedscope").handlers
        if any(type(handler) is logging.StreamHandler for handler in host):
            return
        print(f"note: {record.getMessage()}", file=sys.stderr)


def show_notes() -> None:
    """Also show notes on the terminal from now on."""
    if not _logger.handlers:
        _logger.addHandler(_Terminal())
