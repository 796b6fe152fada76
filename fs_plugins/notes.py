"""What a user should know although a run goes on: one sentence each.

A note goes to the run's log, and to the terminal where ``show_notes`` was
called, as the command does.
"""

import logging
import sys

_logger = logging.getLogger("federatedscope.fs_plugins.notes")


def note(sentence: str) -> None:
    """Tell the user something that does not stop a run."""
    _logger.warning("%s", sentence)


class _Terminal(logging.Handler):
    """Writes to what ``sys.stderr`` is at that moment.

    Unless the host's log is on the terminal already, as with ``--verbose``.
    """

    def emit(self, record: logging.LogRecord) -> None:
        host = logging.getLogger("federatedscope").handlers
        if any(type(each) is logging.StreamHandler for each in host):
            return
        print(f"note: {record.getMessage()}", file=sys.stderr)


def show_notes() -> None:
    """Show notes on the terminal, too, from now on."""
    if not _logger.handlers:
        _logger.addHandler(_Terminal())
