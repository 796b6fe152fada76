"""Kill runs of an experiment at random instants, resume them, compare.

Runs are forked from a process that has imported everything, and has no
threads: starting one takes no time.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from helpers import everything_of, wait_for

from fs_plugins import experiment
from fs_plugins.experiment.run_folder import RunFolder

OPERATIONS = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir")


def forked(action: Any, folder: Path) -> int:
    """The process that does it; what it says goes into a file."""
    process = os.fork()
    if process:
        return process
    with open(f"{folder}.log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            action()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)


def list_operations(asked: Path, die_at: int = -1) -> list[bool]:
    """Note what is done to files; be killed just before number ``die_at``.

    Before the file ``asked`` is there, there is no run.

    Returns:
        For each operation, whether it is done inside an unfinished
        checkpoint.
    """
    done: list[bool] = []

    def heard(event: str, args: tuple[Any, ...]) -> None:
        is_write = event == "open" and args[1] not in (None, "r", "rb")
        if not (is_write or event in OPERATIONS):
            return
        if "trial_" not in str(args[0]) or not asked.exists():
            return
        if len(done) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(".part/" in str(args[0]))

    sys.addaudithook(heard)
    return done


class Trials:
    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.folder = folder
        self.number = 0

    def _start(self, name: str, die_at: int = -1) -> tuple[int, Path]:
        """Run, or resume, in a folder of this name."""
        folder = self.folder / name

        def action() -> None:
            asked = RunFolder(folder).asked
            done = list_operations(asked, die_at)
            if asked.exists():
                experiment.resume(folder, quiet=True)
            else:
                where = ["outdir", str(self.folder), "expname", name]
                experiment.run(self.file, where, quiet=True)
            Path(f"{folder}.operations").write_text(json.dumps(done))

        return forked(action, folder), folder

    def whole(self) -> tuple[Any, float, list[bool]]:
        """The results, seconds and file operations of a run in one go."""
        process, folder = self._start("trial_whole")
        wait_for(RunFolder(folder).asked.exists, 60)
        begin = time.monotonic()
        _, status = os.waitpid(process, 0)
        if status:
            raise RuntimeError(Path(f"{folder}.log").read_text())
        operations = json.loads(Path(f"{folder}.operations").read_text())
        return everything_of(folder), time.monotonic() - begin, operations

    def killed(self, seconds: float, die_at: int) -> dict[str, Any]:
        """Kill a run after so many seconds, or operations; resume it."""
        self.number += 1
        name = f"trial_{self.number}"
        process, folder = self._start(name, die_at)
        if die_at < 0:
            wait_for(RunFolder(folder).asked.exists, 60)
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        at = sorted(f.name for f in folder.glob("checkpoints/*"))
        told = {"checkpoints": at, "killed": os.WIFSIGNALED(status)}
        process, _ = self._start(name)
        _, status = os.waitpid(process, 0)
        if status:
            told["failed"] = Path(f"{folder}.log").read_text()[-2000:]
        else:
            told["results"] = everything_of(folder)
        return told


def kill_and_resume(file: Path, folder: Path, kills: int) -> None:
    """Print, as JSON, where each SIGKILL fell and what differed afterwards.

    Half of them fall at a random time, a quarter before a random operation
    on files, and a quarter before one inside an unfinished checkpoint.
    """
    rng = random.Random(0)
    trials = Trials(file, folder)
    whole, seconds, operations = trials.whole()
    found = []
    every = range(len(operations))
    inside = [number for number in every if operations[number]]
    while len(found) < kills:
        by_time = len(found) % 2 == 0
        places = inside if len(found) % 4 == 1 else every
        told = trials.killed(
            rng.uniform(0, seconds), -1 if by_time else rng.choice(places)
        )
        if told.pop("killed"):  # else it had ended before
            results = told.pop("results", None)
            told["same"] = results == whole
            found.append(told)
    print(json.dumps(found))
