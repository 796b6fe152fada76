"""Finds tables of the user's own: files, folders, data sets of the hub."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fs_plugins.data.lines import PACKED
from fs_plugins.data.sources import TABLES, Row, kind_of, read_rows
from fs_plugins.errors import UserError, did_you_mean, first_line, shown

KEY = "data.type"
# The parts of a data set, and what their files and splits may be called.
PARTS = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        source: what the table is called in an error message.
        rows: the rows, each with its place in the source; they can be read
            more than once.
        name: the name of the file without its suffix, or another name that
            tells the file from others.
        classes: the names of the classes whose numbers a column holds, by
            the name of the column, where the source itself declares them.

    """

    source: str
    rows: Iterable[tuple[str, Row]]
    name: str = ""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rows:
    """The rows of a file, which is read anew each time."""

    file: Path
    separator: str

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        return read_rows(self.file, separator=self.separator)


def find_tables(
    name: str, root: str, separator: str = "", needs_train: bool = True
) -> dict[str, list[Table]]:
    """The tables of ``data.type: <name>@text`` or ``<name>@chat``.

    Args:
        name: a file, a pattern of files, or a folder, in the current folder
            or in ``root``; or else a data set of the hub, ``owner/name`` or
            ``owner/name:configuration``.
        root: the folder ``data.root``.
        separator: what separates the columns of csv files; empty stands for
            a comma, and for a tab in tsv files.
        needs_train: whether there must be something to train on.

    Returns:
        The tables by part: ``train``, ``val`` and ``test``, as far as they
        are there.

    Raises:
        UserError: there is nothing of this name, or it has no tables.

    """
    places = [Path(name).expanduser(), Path(root).expanduser() / name]
    for place in places:
        if os.path.isdir(place):
            return _of_folder(place, separator, needs_train)
        if os.path.isfile(place):
            return {"train": [_of_file(place, separator)]}
        if any(sign in name for sign in "*?["):
            files = _matching(place)
            if files:
                return {"train": _of_files(files, separator)}
    if kind_of(Path(name)) or any(sign in name for sign in "*?[~"):
        raise _missing(KEY, name, places)
    return _of_hub(name, places, needs_train)


def find_table(
    key: str, name: str, root: str, separator: str = ""
) -> list[Table]:
    """The table of an option that names one more file.

    Args:
        key: the option.
        name: the file, or a pattern of files.
        root: the folder ``data.root``.
        separator: as for ``find_tables``.

    Raises:
        UserError: there is no such file.

    """
    places = [Path(name).expanduser(), Path(root).expanduser() / name]
    for place in places:
        files = [place] if os.path.isfile(place) else _matching(place)
        if files:
            return _of_files(files, separator)
    raise _missing(key, name, places)


def _matching(pattern: Path) -> list[Path]:
    """The files of tables that match a pattern, sorted."""
    folder = Path(pattern.anchor)
    try:
        found = sorted(folder.glob(str(pattern.relative_to(folder))))
    except (ValueError, OSError, NotImplementedError):
        return []
    return [file for file in found if file.is_file() and kind_of(file)]


def _of_file(file: Path, separator: str) -> Table:
    """The table of a file.

    Raises:
        UserError: the file is of a kind that is not read.

    """
    kind = kind_of(file)
    if not kind:
        raise UserError(
            f"{KEY}: {shown(str(file))} is no table; files of "
            f"{', '.join(TABLES)} are read, also packed "
            f"({', '.join(PACKED)})"
        )
    name = file.name[: file.name.lower().index(kind)]
    return Table(str(file), _Rows(file, separator), name)


def _of_files(files: Sequence[Path], separator: str) -> list[Table]:
    """The tables of several files, each with a name of its own.

    Files of one name are called by their folders, or else by both.
    """
    tables = [_of_file(file, separator) for file in files]
    by_folder = [file.parent.name for file in files]
    by_both = [
        f"{file.parent.as_posix()}/{table.name}"
        for file, table in zip(files, tables, strict=True)
    ]
    for names in ([table.name for table in tables], by_folder, by_both):
        if len({*names}) == len(names):
            break
    return [
        replace(table, name=name)
        for table, name in zip(tables, names, strict=True)
    ]


def _of_folder(
    folder: Path, separator: str, needs_train: bool
) -> dict[str, list[Table]]:
    """The tables of a folder: by part, or else all of them for training."""
    if (folder / "dataset_info.json").exists() or (
        folder / "dataset_dict.json"
    ).exists():
        return _of_saved(folder, needs_train)
    files = sorted(f for f in folder.iterdir() if f.is_file() and kind_of(f))
    if not files:
        raise UserError(
            f"{KEY}: the folder {shown(str(folder))} holds no table; files "
            f"of {', '.join(TABLES)} are read"
        )
    parts: dict[str, list[Table]] = {}
    for file in files:
        table = _of_file(file, separator)
        for part, names in PARTS.items():
            if table.name.lower() in names:
                if part in parts:
                    raise UserError(
                        f"{KEY}: {folder} has two files for one part, "
                        f"{Path(parts[part][0].source).name} and {file.name}"
                    )
                parts[part] = [table]
    if "train" in parts or (parts and not needs_train):
        return parts
    if parts:
        raise UserError(
            f"{KEY}: {folder} has {Path(files[0]).name}, but no train.csv "
            "or the like to train on"
        )
    return {"train": _of_files(files, separator)}


def _of_saved(folder: Path, needs_train: bool) -> dict[str, list[Table]]:
    """The tables of a folder of ``datasets``' ``save_to_disk``."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    # The library raises errors of several packages for a spoilt folder.
    except Exception as error:
        raise UserError(
            f"{KEY}: {folder} cannot be read: {first_line(error)}"
        ) from error
    return _of_splits(loaded, str(folder), needs_train)


def _of_hub(
    name: str, places: Sequence[Path], needs_train: bool
) -> dict[str, list[Table]]:
    """The tables of a data set of the hub."""
    import datasets

    title, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(title, configuration or None)
    # Besides the errors of the library there are those of the network.
    except Exception as error:
        raise UserError(
            f"{KEY}: there is no file or folder {shown(name)}"
            f"{_hint(name, places)}, and the hub has no such data set that "
            f"can be loaded: {first_line(error)}"
        ) from error
    return _of_splits(loaded, name, needs_train)


def _of_splits(
    loaded: Any, source: str, needs_train: bool
) -> dict[str, list[Table]]:
    """The tables of a data set of ``datasets``, with or without splits."""
    if not isinstance(loaded, Mapping):
        return {"train": [table_of(loaded, source)]}
    parts: dict[str, list[Table]] = {}
    for part, names in PARTS.items():
        for split in names:
            if split in loaded and part not in parts:
                parts[part] = [table_of(loaded[split], f"{source} {split}")]
    if "train" not in parts and (needs_train or not parts):
        raise UserError(
            f"{KEY}: {source} has no split 'train', but "
            f"{', '.join(map(repr, loaded))}"
        )
    return parts


def table_of(data: Any, source: str) -> Table:
    """The table of a ``datasets.Dataset``.

    Args:
        data: the data set.
        source: what it is called in an error message.

    """
    features = getattr(data, "features", None) or {}
    classes = {
        column: tuple(names)
        for column, feature in features.items()
        if (names := _names_in(feature))
    }
    return Table(source, Numbered(data), "", classes)


def _names_in(feature: Any) -> Any:
    """The names of classes that a column declares, or a column of lists."""
    inner = getattr(feature, "feature", None)
    return getattr(feature, "names", None) or getattr(inner, "names", None)


@dataclass(frozen=True)
class Numbered:
    """The rows of a data set, with their numbers."""

    data: Any

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for number, row in enumerate(self.data):
            yield f"row {number}", row


def _missing(key: str, name: str, places: Sequence[Path]) -> UserError:
    folders = " or ".join(
        dict.fromkeys(shown(str(place.parent)) for place in places)
    )
    return UserError(
        f"{key}: there is no file {shown(name)} in {folders}"
        f"{_hint(name, places)}"
    )


def _hint(name: str, places: Sequence[Path]) -> str:
    """A file that may have been meant."""
    names: list[str] = []
    for place in places:
        try:
            names += [f.name for f in place.parent.iterdir() if kind_of(f)]
        except OSError:
            continue
    return did_you_mean(Path(name).name, names)
