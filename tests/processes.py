"""Processes of their own that start at once.

Importing torch, transformers and PEFT takes seconds.  A process of this
module is forked from one that has imported them and has done nothing else:
with ``forkserver`` of ``multiprocessing``, once for each process that runs
tests.  It is a process as any other, which can be killed.  Where it matters
that Python starts anew, a test starts Python itself.
"""

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FORKS: Any = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "fs_plugins.cli",
        "fs_plugins.commands.compare",
        "fs_plugins.engine.part",
        "fs_plugins.experiment",
        "fs_plugins.trainer.classification",
        "fs_plugins.trainer.language",
        "fs_plugins.worker.client",
        "fs_plugins.worker.server",
        "peft",
        "sklearn.metrics",
        "transformers.models.auto.modeling_auto",
        "transformers.models.bert.modeling_bert",
    ]
)

_POPEN = subprocess.Popen


def no_fsync() -> None:
    """Do not wait for disks: tests kill processes, but no machine."""
    os.fsync = lambda file: None


class BarePython:
    """Runs Python that has imported nothing of the project.

    Each call is forked from one process, which has imported the libraries
    that take long to import, and nothing else.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("bare_python.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, *words: Any, folder: Any = ".", **environment: str | None
    ) -> "subprocess.CompletedProcess[str]":
        """Run ``python <words>``, with ``-c`` or ``-m``, and wait.

        Args:
            words: what stands after ``python``.
            folder: the folder to run it in.
            environment: what is changed in the environment; None removes.
        """
        changed = {**os.environ, **environment}
        wanted = {k: v for k, v in changed.items() if v is not None}
        with tempfile.TemporaryDirectory(prefix="bare_") as name:
            files = [Path(name) / "out", Path(name) / "err"]
            asked = [list(map(str, words)), str(folder), wanted]
            asked.append(list(map(str, files)))
            assert self._process.stdin and self._process.stdout
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            out, err = (file.read_text() for file in files)
        return subprocess.CompletedProcess(words, code, out, err)

    def close(self) -> None:
        self._process.communicate()


class Process:
    """A call in a process of its own; used as ``subprocess.Popen`` is.

    Args:
        function: importable by its name; what it raises is the exit code.
        words: its arguments.
        environment: what is changed in the environment.
    """

    def __init__(
        self, function: Callable[..., Any], *words: Any, **environment: str
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="process_")
        # What such a process starts itself prints to where that prints.
        names = "oe" if _FORKS.get_start_method() == "forkserver" else ""
        self._files = [Path(self._folder.name) / name for name in names]
        self._process = _FORKS.Process(
            target=_call,
            args=(function, words, self._files, environment),
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code; below 0: the signal that ended it; None: it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> int | None:
        self._process.join()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it printed, and what it complained of."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        out, err = (file.read_text() for file in self._files)
        return out, err


def fedsa(*words: Any, **environment: str) -> Process:
    """The command ``fedsa <words>``."""
    return Process(_command, *map(str, words), **environment)


def script(file: Path, folder: Path, *words: Any) -> Process:
    """The command ``python <file> <words>``, in a folder."""
    return Process(_script, str(file), str(folder), *map(str, words))


def started(command: list[Any], **options: Any) -> Any:
    """In place of ``subprocess.Popen``: ``fedsa <words>`` is forked."""
    if command[:3] == [sys.executable, "-m", "fs_plugins"]:
        return fedsa(*command[3:], **options.get("env", {}))
    return _POPEN(command, **options)


def _command(*words: str) -> None:
    """As the command does; the runs of a comparison are forked, too."""
    from fs_plugins.cli import main

    subprocess.Popen = started
    main(list(words))


def _script(file: str, folder: str, *words: str) -> None:
    """As Python does; commands of the project that it starts are forked."""
    os.chdir(folder)
    subprocess.Popen = started
    sys.argv = [file, *words]
    runpy.run_path(file, run_name="__main__")


def _call(
    function: Callable[..., Any],
    words: tuple[Any, ...],
    files: list[Path],
    environment: dict[str, str],
) -> None:
    global _FORKS
    no_fsync()
    _FORKS = multiprocessing.get_context("fork")  # it has no threads, either
    for number, file in enumerate(files, 1):
        to = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(to, number)
        os.close(to)
    os.environ.update(environment)
    function(*words)
