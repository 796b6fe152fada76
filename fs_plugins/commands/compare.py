"""Run several experiments and set their results side by side."""

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.config.load import load_config, name_of
from fs_plugins.config.option import PATH
from fs_plugins.errors import Interrupted, UserError
from fs_plugins.experiment.folder import locked, make_folder, writing_to
from fs_plugins.experiment.runs import Run, load_run
from fs_plugins.experiment.signals import handling
from fs_plugins.notes import note
from fs_plugins.report.caveats import caveats
from fs_plugins.report.comparison import write_comparison
from fs_plugins.report.tables import show
from fs_plugins.settings import is_distributed
from fs_plugins.terms import START_WITH_FEDERATE


def compare(
    arguments: Sequence[str | Path],
    seeds: Sequence[int] | None,
    out: Path,
    quiet: bool = False,
) -> bool:
    """Run every file with every seed, each in a process of its own.

    Args:
        arguments: YAML files, perhaps with variations (``a.yaml+ffa``), then
            perhaps ``key value`` pairs that hold for all files.
        seeds: the seeds to run each file with; None takes the file's own.
        out: the folder that gets a folder for each run, and the files of
            ``write_comparison``.
        quiet: show no progress.

    Returns:
        Whether all runs have finished.  A run that failed is missing from
        the results.

    Raises:
        UserError: the input is wrong; nothing has run.
        Interrupted: by Ctrl-C or SIGTERM, once the run has ended its round;
            what had finished is reported.

    """
    files, overrides = _files_and_pairs([str(a) for a in arguments])
    runs = []
    asked = [["seed", str(seed)] for seed in seeds or ()] or [[]]
    for file, pair in itertools.product(files, asked):
        # What is wrong is refused before anything runs.
        cfg = load_config(file, [*overrides, *pair])
        _folder_of(file, cfg.seed)
        if is_distributed(cfg):
            raise UserError(f"{file}: {START_WITH_FEDERATE}")
        runs.append((file, int(cfg.seed)))
    done: list[Run] = []
    make_folder(out)
    with locked(out):
        stopped_by = _run_all(runs, overrides, out, quiet, done)
        if done:
            report(done, out)
    if stopped_by:
        raise Interrupted(
            f"stopped: {len(done)} of {len(runs)} runs had finished",
            stopped_by,
        )
    missing = len(runs) - len(done)
    if missing:
        print(f"{missing} of {len(runs)} runs failed", file=sys.stderr)
    return not missing


def _files_and_pairs(words: list[str]) -> tuple[list[str], list[str]]:
    """Divide the command's words into YAML files and ``key value`` pairs."""
    number = 0
    while number < len(words) and _is_experiment(words[number]):
        number += 1
    if not number:
        raise UserError("compare: name at least one .yaml file")
    return words[:number], words[number:]


def _names(files: Sequence[str]) -> dict[str, str]:
    """The runs' names by file; files of the same name keep their folders."""
    files = list(dict.fromkeys(files))
    short = [name_of(file) for file in files]
    return {
        file: name if short.count(name) == 1 else file
        for file, name in zip(files, short, strict=True)
    }


def _is_experiment(word: str) -> bool:
    return word.partition("+")[0].endswith((".yaml", ".yml"))


def _folder_of(file: str, seed: int) -> str:
    """The name of the folder of a run."""
    return PATH.read("expname", f"{name_of(file)}_seed{seed}")


def _free_folder(out: Path, name: str) -> Path:
    """A folder that no earlier run has used."""
    folder, number = out / name, 1
    while folder.exists():
        number += 1
        folder = out / f"{name}_{number}"
    return folder


def _run_all(
    runs: Sequence[tuple[str, int]],
    overrides: list[str],
    out: Path,
    quiet: bool,
    done: list[Run],
) -> int:
    """Run one after the other, until all have run or a signal arrives.

    The run that is under way when a signal arrives is sent the signal, too,
    and ends its round.

    Args:
        runs: YAML files and seeds.
        overrides: ``key value`` pairs that hold for all runs.
        out: the folder that gets a folder for each run.
        quiet: show no progress.
        done: gets the runs that have finished.

    Returns:
        The number of the signal, or 0.

    """
    names = _names([file for file, _ in runs])
    for file, seed in runs:
        folder = _free_folder(out, _folder_of(file, seed))
        process = _start(file, seed, overrides, folder, quiet)
        with _passing_signals_to(process) as received:
            code = process.wait()
        if code == 0:
            done.append(load_run(folder, names[file]))
        if received:
            return received[0]
    return 0


def _start(
    file: str, seed: int, overrides: list[str], folder: Path, quiet: bool
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "fs_plugins", "run", "--cfg", file]
    command += ["--quiet"] if quiet else []
    command += [*overrides, "seed", str(seed), "outdir", str(folder.parent)]
    command += ["expname", folder.name, "expname_tag", ""]
    # In the terminal's own process group the run would receive Ctrl-C twice,
    # from the terminal and from us, and a second one ends it at once.
    return subprocess.Popen(command, start_new_session=True)


@contextlib.contextmanager
def _passing_signals_to(
    process: "subprocess.Popen[bytes]",
) -> Iterator[list[int]]:
    """Send SIGINT and SIGTERM on to a process; yields those received."""
    received: list[int] = []

    def handle(number: int, _: Any) -> None:
        received.append(number)
        process.send_signal(number)

    with handling(handle):
        yield received


def report(runs: Sequence[Run], out: Path) -> None:
    """Write the comparison of runs, and print its tables.

    Args:
        runs: the runs, finished or not.
        out: the folder that gets the report, which exists.

    Raises:
        UserError: the folder cannot be written to.

    """
    with writing_to(out):
        tables = write_comparison(runs, out)
    for sentence in caveats(runs):
        note(sentence)
    for table in tables:
        show(table)
    print(f"report: {out / 'report.html'} (report.md, comparison.json)")
