"""The runs that are reported on."""

from collections.abc import Sequence
from pathlib import Path

from fs_plugins.errors import UserError
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import Run, load_run, name_without_seed


def union_metric_of(runs: Sequence[Run]) -> str:
    """The ``union_metric`` of the first run that has one; else empty."""
    return next((r.union_metric for r in runs if r.union_metric), "")


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders: theirs, or those right below them.

    Raises:
        UserError: a folder holds no run, or a file of it cannot be read.

    """
    found: dict[Path, Path] = {}
    for folder in folders:
        below = sorted(folder.glob("*/")) if folder.is_dir() else []
        runs = [f for f in (folder, *below) if RunFolder(f).has_results]
        if not runs:
            *names, last = RunFolder.RESULTS
            raise UserError(
                f"{folder} holds no run, nor does a folder in it: none has "
                f"{', '.join(names)} or {last}"
            )
        found |= {run.resolve(): run for run in runs}
    runs = list(found.values())
    return [
        load_run(folder, name)
        for folder, name in zip(runs, _names(runs), strict=True)
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    """Folders' names without the seed; with the folder above where needed."""
    short = [folder.resolve().name for folder in folders]
    return [
        name_without_seed(
            name
            if short.count(name) == 1
            else f"{folder.resolve().parent.name}/{name}"
        )
        for name, folder in zip(short, folders, strict=True)
    ]
