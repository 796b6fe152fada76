"""Runs a job on this machine, with a process for each site."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.config.yaml_file import dump
from fs_plugins.engine.kit import CLASSES
from fs_plugins.engine.outcome import RESULTS, SERVER, Outcome, read_outcome
from fs_plugins.engine.site import FILE, SIMULATED
from fs_plugins.errors import Interrupted
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.signals import handling

FLARE = "flare"  # the folder that FLARE works in, in that of the run
LOG = "flare.log"
_JOB = "simulate_job"  # what FLARE calls the job
_PAUSE = 0.2  # seconds between two looks at the results
_PATIENCE = 20.0  # seconds for FLARE to end


class Simulation:
    """FLARE's simulator, for the runs of one folder.

    Args:
        folder: the run's folder; it gets a folder for the server, one for
            each site, and one for FLARE.
        of_clients: values of the configuration of each site alone.

    """

    def __init__(
        self,
        folder: Path,
        of_clients: Sequence[Mapping[str, Any]],
    ) -> None:
        self._folder = folder.absolute()
        self._own = {
            "outdir": str(self._folder.parent),
            SIMULATED: [dict(values) for values in of_clients],
        }
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, job: Path, sites: Sequence[str], needed: int
    ) -> Iterator[dict[str, Any]]:
        """Run a job to its end.

        Args:
            job: the folder of the job.
            sites: the sites, which the simulator starts itself.
            needed: not used; all sites are there.

        Yields:
            The lines of results, as they come.

        Raises:
            Interrupted: Ctrl-C or SIGTERM has ended it.

        """
        workspace = self._folder / FLARE
        local = workspace / "local"
        local.mkdir(parents=True, exist_ok=True)
        (local / FILE).write_text(dump(self._own), encoding="utf-8")
        allowed = {"format_version": 2, "class_allow_list": CLASSES}
        (local / "resources.json").write_text(json.dumps(allowed))
        words = [str(job.absolute()), str(workspace), ",".join(sites)]
        module = "fs_plugins.engine.simulator"
        with (
            (self._folder / LOG).open("ab") as log,
            subprocess.Popen(
                [sys.executable, "-m", module, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process
            ) as process,
            _ending(process),
        ):
            lines = _Lines(self._folder / SERVER / RunFolder.METRICS)
            while process.poll() is None:
                yield from lines.new()
                time.sleep(_PAUSE)
            yield from lines.new()

    def outcome(self) -> Outcome | None:
        """How the job has ended; None if its server has not said it."""
        return read_outcome(self._folder / FLARE / SERVER / _JOB / RESULTS)


class _Lines:
    """The new lines of a growing file of JSON.

    Args:
        file: the file, which may not be there yet.

    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = file.stat().st_size if file.exists() else 0

    def new(self) -> Iterator[dict[str, Any]]:
        """The lines that are complete, and were not returned before."""
        if not self._file.exists():
            return
        with self._file.open("rb") as opened:
            # A run that goes on from a checkpoint cuts the file.
            self._read = min(self._read, self._file.stat().st_size)
            opened.seek(self._read)
            for line in opened:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    yield json.loads(line)


@contextlib.contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End the process and those that it has started, whatever happens."""

    def stop(number: int, _: Any) -> None:
        raise Interrupted("stopped", number)

    try:
        with handling(stop):
            yield
    finally:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        _signal(process, signal.SIGKILL)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Signal a process and all that belong to its session's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
