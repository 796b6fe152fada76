"""Checks functions that a model has written, in processes of their own.

The model's program runs in an empty folder, with limited time, memory, files
and processes.  ``guard`` says how the result is found so that the program
cannot say it by itself.  This is no security boundary: the program can reach
the files that the user may read and, where the system offers no namespaces,
the network and the user's other processes.  On a machine that matters, run
the whole experiment in a container.
"""

import contextlib
import errno
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fs_plugins.data.human_eval import Problem
from fs_plugins.trainer import guard

logger = logging.getLogger("federatedscope.fs_plugins")
NAMESPACES = True  # whether namespaces are used where they are allowed
_GRACE = 15.0  # seconds after which the supervisor itself has failed
_TO_REMOVE = 60.0  # seconds
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_MARK = "FS_PLUGINS_SANDBOX"


def passes(problem: Problem, completion: str, seconds: float) -> bool:
    """Whether a completion solves a problem.

    Whatever goes wrong, the completion has not solved it.

    Args:
        problem: the problem of HumanEval.
        completion: what follows the problem's prompt in the program.
        seconds: the time after which the program has failed.

    """
    try:
        with _empty_folder() as folder:
            program = f"{problem.prompt}{completion}\n"
            (folder / guard.PROGRAM).write_text(
                program, encoding="utf-8", errors="replace"
            )
            return _passes(problem, folder, seconds)
    except Exception as error:
        logger.warning("a program could not be run: %s", error)
        return False


def _passes(problem: Problem, folder: Path, seconds: float) -> bool:
    mark = secrets.token_hex(16)
    words = [problem.entry_point, str(seconds), str(NAMESPACES)]
    task = {
        "prompt": problem.prompt,
        "test": problem.test,
        "entry_point": problem.entry_point,
    }
    process = subprocess.Popen(
        [sys.executable, "-I", guard.__file__, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={"OMP_NUM_THREADS": "1", _MARK: mark},
        start_new_session=True,
    )
    try:
        process.communicate(json.dumps(task).encode(), seconds + _GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode not in (guard.PASSED, 1):
        _end_marked(mark)  # The program has ended its supervisor.
    return process.returncode == guard.PASSED


def _end_marked(mark: str) -> None:
    """End the processes that have a mark in their environment, on Linux."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


@contextlib.contextmanager
def _empty_folder() -> Iterator[Path]:
    """Make a temporary folder, and remove it whatever has become of it."""
    folder = Path(tempfile.mkdtemp())
    # By this number the folder is found even if it is moved.
    top = os.open(folder, _FOLDER)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            _clear(top)
        os.close(top)
        for remove in (folder.rmdir, folder.unlink):
            with contextlib.suppress(OSError):
                remove()


def _clear(top: int) -> None:
    """Remove all that is in a folder, however deep, but never follow a link.

    One folder is open at a time, as a path to a deep one would be too long.

    Args:
        top: the descriptor of the open folder.

    Raises:
        OSError: something cannot be removed, or is moved meanwhile.

    """
    os.fchmod(top, 0o700)
    end = time.monotonic() + _TO_REMOVE
    folder, above = os.dup(top), list[tuple[str, tuple[int, int]]]()
    try:
        while time.monotonic() < end:
            names = os.listdir(folder)
            below = next((n for n in names if not _is_unlinked(n, folder)), "")
            if below:
                above.append((below, _identity(folder)))
                folder = _instead(folder, _opened(below, folder))
                continue
            if not above:
                return
            name, parent = above.pop()
            folder = _instead(folder, os.open("..", _FOLDER, dir_fd=folder))
            if _identity(folder) != parent:
                return
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else somebody writes still
    finally:
        os.close(folder)


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new


def _is_unlinked(name: str, folder: int) -> bool:
    """Unlink a file; False if it is a folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        return False
    return True


def _opened(name: str, folder: int) -> int:
    """The descriptor of a folder, with all permissions for its owner."""
    os.chmod(name, 0o700, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)
