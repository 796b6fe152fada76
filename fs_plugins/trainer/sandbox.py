"""Runs a program that a model has written.

The program runs in a process of its own, in an empty folder, with limited
time and memory.  It can still reach the network and the files that the user
may read: on a machine that matters, run the whole experiment in a container.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile

MEMORY = 1 << 30  # bytes
_FILES = 1 << 20  # bytes of each file that the program may write
# The secret word is printed only after the program has run to its end, so
# that a program that exits early with code 0 does not pass.
_GUARD = """
import os, resource, runpy, sys
word = sys.stdin.readline()
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
seconds, memory, size = map(int, sys.argv[2:5])
for kind, most in (
    (resource.RLIMIT_CPU, seconds),
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_FSIZE, size),
    (resource.RLIMIT_CORE, 0),
):
    try:
        resource.setrlimit(kind, (most, most))
    except (OSError, ValueError):
        pass
file = sys.argv[1]
sys.argv[:] = [file]
runpy.run_path(file)
os.write(out, word.encode())
"""


def passes(program: str, seconds: float) -> bool:
    """Whether a program runs to its end without an error.

    Args:
        program: the Python source of the program.
        seconds: the time after which the program is stopped.

    """
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "program.py")
        with open(file, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(program)
        limits = (int(seconds) + 1, MEMORY, _FILES)
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _GUARD, file, *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(f"{word}\n".encode(), seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return out.decode(errors="replace").strip() == word
