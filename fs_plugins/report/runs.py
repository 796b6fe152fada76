"""Finds the runs to report on."""

from collections.abc import Sequence
from pathlib import Path

from fs_plugins.errors import UserError
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import Run, load_run, name_without_seed
from fs_plugins.notes import note


def union_metric_of(runs: Sequence[Run]) -> str:
    """The ``union_metric`` of the first run that has one; else empty."""
    return next((r.union_metric for r in runs if r.union_metric), "")


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders, or in the folders directly inside them.

    Beside a whole run, a client's own results inside a folder are left out,
    as they are in those of the whole run, and a note says so.

    Raises:
        UserError: a folder holds no run, or one of its files cannot be read.

    """
    by_path: dict[Path, Path] = {}  # a run that is named twice counts once
    for folder in folders:
        is_here = RunFolder(folder).has_results
        below = sorted(folder.glob("*/")) if folder.is_dir() else []
        found = [folder] if is_here else []
        found += [f for f in below if RunFolder(f).has_results]
        if not found:
            *names, last = RunFolder.RESULTS
            raise UserError(
                f"{folder} holds no run, nor does a folder in it: none has "
                f"{', '.join(names)} or {last}"
            )
        by_path |= {run.resolve(): run for run in found}
    paths = list(by_path.values())
    runs = [
        load_run(folder, name)
        for folder, name in zip(paths, _names(paths), strict=True)
    ]
    if all(run.own_client for run in runs):
        return runs
    named = {folder.resolve() for folder in folders}
    shown = [
        run
        for run in runs
        if not run.own_client or run.folder.resolve() in named
    ]
    left = [str(run.folder) for run in runs if run not in shown]
    if left:
        note(
            "left out, as each has the results of one client alone: "
            f"{', '.join(left)}; name such a folder to show it"
        )
    return shown


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names without the seed.

    Where two are alike, the name of the folder above is put before them.
    """
    short = [folder.resolve().name for folder in folders]
    return [
        name_without_seed(
            name
            if short.count(name) == 1
            else f"{folder.resolve().parent.name}/{name}"
        )
        for name, folder in zip(short, folders, strict=True)
    ]
