"""Run several experiments and set their results side by side."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.config_file import load_config, name_of
from fs_plugins.errors import Interrupted, UserError
from fs_plugins.folder import locked, make_folder
from fs_plugins.report.plots import plot_curves
from fs_plugins.report.tables import (
    comparison_table,
    markdown,
    seeds_table,
    show,
)
from fs_plugins.signals import handling


def compare(
    arguments: Sequence[str | Path],
    seeds: Sequence[int] | None,
    out: Path,
    quiet: bool = False,
) -> bool:
    """Run every file with every seed, each in a process of its own.

    Args:
        arguments: YAML files (``a.yaml+ffa`` too), then perhaps
            ``key value`` pairs for all.
        seeds: by default, each file's own.
        out: gets a folder a run, ``comparison.json``, ``comparison.md`` and
            ``curves.png``.
        quiet: show no progress.

    Returns:
        Whether all went well; what failed is missing from the results.

    Raises:
        UserError: the input is wrong; nothing has run.
        Interrupted: by Ctrl-C or SIGTERM, once the run has ended its round;
            what had finished is reported.

    """
    files, overrides = _files_and_pairs([str(a) for a in arguments])
    runs = []
    for file in files:
        cfg = load_config(file, overrides)  # refuse before running any
        if cfg.federate.mode.lower() == "distributed":
            raise UserError(
                f"{file}: federate.mode is 'distributed'; start each "
                "participant with 'fedsa run' instead"
            )
        runs += [(file, seed) for seed in seeds or [cfg.seed]]
    done: list[dict[str, Any]] = []
    make_folder(out)
    with locked(out):
        stopped_by = _run_all(runs, overrides, out, quiet, done)
        if done:
            _report(done, out)
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
    number = 0
    while number < len(words) and _is_experiment(words[number]):
        number += 1
    if not number:
        raise UserError("compare: name at least one .yaml file")
    return words[:number], words[number:]


def _is_experiment(word: str) -> bool:
    return word.partition("+")[0].endswith((".yaml", ".yml"))


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
    done: list[dict[str, Any]],
) -> int:
    """Add what has finished to ``done``; returns the signal that stopped it.

    The run that is under way gets the signal, and may finish its round.
    """
    for file, seed in runs:
        folder = _free_folder(out, f"{name_of(file)}_seed{seed}")
        process = _start(file, seed, overrides, folder, quiet)
        with _passing_signals_to(process) as received:
            code = process.wait()
        if code == 0:
            done.append(_read(name_of(file), folder))
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
    # A terminal's Ctrl-C would reach it twice, and twice means at once.
    return subprocess.Popen(command, start_new_session=True)


@contextlib.contextmanager
def _passing_signals_to(
    process: "subprocess.Popen[bytes]",
) -> Iterator[list[int]]:
    """SIGINT and SIGTERM go to the process; a list gets them."""
    received: list[int] = []

    def handle(number: int, _: Any) -> None:
        received.append(number)
        process.send_signal(number)

    with handling(handle):
        yield received


def _read(name: str, folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return {
        "name": name,
        "folder": str(folder),
        "summary": summary,
        "curve": [json.loads(line) for line in lines],
    }


def _report(runs: list[dict[str, Any]], out: Path) -> None:
    tables = [comparison_table(runs)]
    over_seeds = seeds_table(runs)
    tables += [over_seeds] if over_seeds else []
    content = [{"name": r["name"], **r["summary"]} for r in runs]
    (out / "comparison.json").write_text(
        json.dumps(content, indent=1) + "\n", encoding="utf-8"
    )
    text = "\n".join(markdown(table) for table in tables)
    (out / "comparison.md").write_text(text, encoding="utf-8")
    plot_curves(runs, out / "curves.png")
    for table in tables:
        show(table)
    print(f"table: {out / 'comparison.md'}  curves: {out / 'curves.png'}")
