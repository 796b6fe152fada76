"""Reads the rows of a table as texts, labels and instructions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fs_plugins.data.chat import IncompleteError, chat_in
from fs_plugins.data.columns import Columns, is_needed, listed, plain
from fs_plugins.data.sources import Row, is_missing, text_of
from fs_plugins.data.tables import Table
from fs_plugins.errors import UserError, shown

_KEY = "fedsa.data"
_SKIP = f" ({_KEY}.incomplete: skip leaves such rows out)"
Label = str | int | float


@dataclass(frozen=True)
class Numbers:
    """The numbers of classes.

    Attributes:
        names: the names of the classes, in the order of their numbers.
        of: the number of a class, by its name and by whatever else a table
            may call it.

    """

    names: Sequence[str]
    of: Mapping[Label, int]


@dataclass
class ReadRows:
    """The rows of a part as they were read, before classes have numbers."""

    texts: list[tuple[str, ...]] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.texts) or len(self.answers)


def read_rows_of(
    table: Table,
    columns: Columns,
    into: ReadRows,
    skips: bool = False,
    numbers: Numbers | None = None,
) -> None:
    """Add the rows of a table to what was read.

    Args:
        table: the table.
        columns: what its columns hold.
        into: what was read before, to which the rows are added.
        skips: whether rows that lack a text or a label are left out;
            otherwise they are an error.
        numbers: the number of each class by its name or number, if the
            classes are known.

    Raises:
        UserError: a value is missing or wrong; names the table and the row.

    """
    declared = table.classes.get(columns.label, ())
    for place, row in table.rows:
        where = f"{table.source}, {place}"
        if skips and _is_incomplete(row, columns):
            into.left_out += 1
            continue
        if columns.answers:
            try:
                into.answers.append(_fields(row, columns, where))
            except IncompleteError as error:
                if not skips:
                    raise UserError(f"{error}{_SKIP}") from None
                into.left_out += 1
                continue
        else:
            into.texts.append(
                tuple(text_in(row, name, where) for name in columns.text)
            )
            into.labels.append(_label(row, columns, where, declared, numbers))
        if columns.client:
            value = _cell(row, columns.client, where)
            name = str(value).strip()
            if not name:
                raise UserError(f"{where}: {columns.client!r} is empty")
            into.clients.append(name)
        elif columns.by_file:
            into.clients.append(table.name)


def _label(
    row: Row,
    columns: Columns,
    where: str,
    declared: Sequence[str],
    numbers: Numbers | None,
) -> Label:
    """The class of a row, or its score.

    Args:
        row: the row.
        columns: what its columns hold.
        where: the table and the row, for an error message.
        declared: the names that the table gives the numbers of classes.
        numbers: the number of each class, if the classes are known.

    """
    value = _cell(row, columns.label, where)
    if columns.is_score:
        return _score(value, columns.label, where)
    label = _class(value, columns.label, where)
    if isinstance(label, int) and 0 <= label < len(declared):
        label = declared[label]
    if numbers is not None and label not in numbers.of:
        raise UserError(
            f"{where}: the label {shown(label)} is none of the classes "
            f"{listed(numbers.names)}"
        )
    return label


def _is_incomplete(row: Row, columns: Columns) -> bool:
    needed = [*columns.text, columns.label, columns.client]
    needed += [n for f, n in columns.answers.items() if is_needed(f)]
    return any(
        is_missing(plain(row.get(name))) or not str(row.get(name)).strip()
        for name in needed
        if name
    )


def _cell(row: Row, name: str, where: str) -> Any:
    """The value of a column, which must be there."""
    value = plain(row.get(name))
    if is_missing(value):
        raise UserError(f"{where}: the value of {name!r} is missing{_SKIP}")
    return value


def text_in(
    row: Row, name: str, where: str, allows_blank: bool = False
) -> str:
    """The text in a column of a row.

    Args:
        row: the row.
        name: the name of the column.
        where: the table and the row, for an error message.
        allows_blank: whether the text may consist of white space.

    Raises:
        UserError: the column is missing, empty, or holds no text.

    """
    value = _cell(row, name, where)
    if not isinstance(value, (str, bytes)):
        raise UserError(f"{where}: {name!r} is {shown(value)}, not a text")
    text = text_of(value, name, where)
    if not (text if allows_blank else text.strip()):
        raise UserError(f"{where}: {name!r} is empty{_SKIP}")
    return text


def _fields(row: Row, columns: Columns, where: str) -> dict[str, Any]:
    """The fields of an instruction."""
    fields: dict[str, Any] = {}
    for field_, name in columns.answers.items():
        if field_ == "messages":
            fields[field_] = chat_in(plain(row.get(name)), name, where)
        elif is_needed(field_):
            fields[field_] = text_in(row, name, where, allows_blank=True)
        elif not is_missing(plain(row.get(name))):
            fields[field_] = text_of(row[name], name, where)
    return fields


def _class(value: Any, name: str, where: str) -> Label:
    """The name or the number of a class."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip():
        return text_of(value, name, where).strip()
    if isinstance(value, int):
        return value
    hint = ""
    if isinstance(value, float):
        hint = f"; scores are named by {_KEY}.target"
    elif isinstance(value, str):
        raise UserError(f"{where}: {name!r} is empty{_SKIP}")
    raise UserError(
        f"{where}: the label {shown(value)} in {name!r} is neither a name "
        f"nor the number of a class{hint}"
    )


def _score(value: Any, name: str, where: str) -> float:
    """A finite score."""
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not np.isfinite(number):
        raise UserError(
            f"{where}: {shown(value)} in {name!r} is not a finite number"
        )
    return number
