"""Checks of a run's folder before a run goes on in it."""

import os
from pathlib import Path

from fs_plugins.errors import UserError
from fs_plugins.experiment.reading import check_is_file
from fs_plugins.experiment.run_folder import RunFolder


def check_links(files: RunFolder) -> None:
    """Refuse links, through which a resumed run would write elsewhere.

    Files of adapters may have several names, as adapters share those of
    their tokenizer, and the folder of their base model has links.  All of
    them are replaced, never written into.

    Args:
        files: the run's folder.

    Raises:
        UserError: a file or folder of the run is a symbolic link, or a
            file that may be written into has a second name.

    """
    for name in (*files.NAMES, files.HOST_RAW_OPEN):
        top = files.path / name
        for path in (top, *top.rglob("*")):
            if path.parent == files.adapters / files.BASE:
                continue  # It is replaced as a whole.
            if path.is_symlink():
                raise UserError(
                    f"{path} is a link, and a run writes nowhere but into "
                    "its own folder; put what it leads to in its place"
                )
            is_replaced = files.adapters in path.parents
            if not is_replaced and _has_other_names(path):
                raise UserError(
                    f"{path} is a file of several names (hard links), and "
                    "a run would change it under all of them; put a copy "
                    "in its place"
                )


def check_kinds(files: RunFolder) -> None:
    """Refuse a folder in which files and folders are mixed up.

    Called before a run goes on, which writes to all of them.

    Raises:
        UserError: a folder, a pipe or the like is in the place of a file,
            or a file in the place of a folder.

    """
    expected = [files.path / name for name in files.FILES]
    expected += [f for f in files.adapters.rglob("*") if f.suffix]
    for file in expected:
        if os.path.lexists(file):
            check_is_file(file)
    for name in files.FOLDERS:
        folder = files.path / name
        if os.path.lexists(folder) and not folder.is_dir():
            raise UserError(f"{folder} cannot be used: it is no folder")


def _has_other_names(path: Path) -> bool:
    """Whether a file that may be written into has names elsewhere.

    Files of tensors are replaced and never written into, and those of
    several checkpoints may be one.  A process that was killed while it
    linked one has left a second name, which ends in ``.part``.
    """
    is_replaced = path.suffix in (".safetensors", ".part")
    return not is_replaced and path.is_file() and path.stat().st_nlink > 1
