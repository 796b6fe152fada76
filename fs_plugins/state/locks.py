"""Files that one process at a time locks."""

import errno
import fcntl
import os
from pathlib import Path
from typing import TextIO


class LockedError(Exception):
    """Another process has locked a file.

    Args:
        process: the number of the other process; empty if it is not known.

    Attributes:
        process: as above.

    """

    def __init__(self, process: str) -> None:
        super().__init__(f"locked by process {process}")
        self.process = process


def lock_file(file: Path) -> TextIO:
    """Lock a file until it is closed, at the latest when the process ends.

    The file holds the number of the process.  It must not be replaced, as a
    lock belongs to the file and not to its name.

    Args:
        file: the file, which is created if it does not exist.  A link is not
            followed.

    Returns:
        The open file.

    Raises:
        LockedError: another process has locked the file.
        OSError: the file cannot be written.

    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = os.open(file, flags, 0o666)
    opened = os.fdopen(descriptor, "a+", encoding="utf-8", errors="replace")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return opened  # a file system that knows no locks
        opened.seek(0)
        process = opened.read().strip()
        opened.close()
        raise LockedError(process) from None
    opened.truncate(0)
    opened.write(str(os.getpid()))
    opened.flush()
    return opened
