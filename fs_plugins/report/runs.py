"""Finds the runs to report on."""

from collections.abc import Sequence
from pathlib import Path

from fs_plugins.errors import UserError
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import Run, load_run, name_without_seed


def union_metric_of(runs: Sequence[Run]) -> str:
    """The ``union_metric`` of the first run that has one; else empty."""
    return next((r.union_metric for r in runs if r.union_metric), "")


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders, or in the folders directly inside them.

    Raises:
        UserError: a folder holds no run, or one of its files cannot be read.

    """
    by_path: dict[Path, Path] = {}  # a run that is named twice counts once
    for folder in folders:
        is_here = RunFolder(folder).has_results
        below = sorted(folder.glob("*/")) if folder.is_dir() else []
        runs = [folder] if is_here else []
        runs += [f for f in below if RunFolder(f).has_results]
        if not runs:
            *names, last = RunFolder.RESULTS
            raise UserError(
                f"{folder} holds no run, nor does a folder in it: none has "
                f"{', '.join(names)} or {last}"
            )
        by_path |= {run.resolve(): run for run in runs}
    runs = list(by_path.values())
    return [
        load_run(folder, name)
        for folder, name in zip(runs, _names(runs), strict=True)
    ]


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
