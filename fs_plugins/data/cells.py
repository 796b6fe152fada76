"""Reads the rows of a table as texts, labels and instructions."""

from dataclasses import dataclass, field
from typing import Any

from fs_plugins.data.chat import IncompleteError, chat_in
from fs_plugins.data.columns import Columns, is_needed, plain
from fs_plugins.data.labels import (
    SKIP,
    Label,
    LabelReader,
    LabelSet,
    Numbers,
    cell_of,
)
from fs_plugins.data.sources import Row, is_missing, text_of
from fs_plugins.data.tables import Table
from fs_plugins.errors import UserError, shown


@dataclass
class ReadRows:
    """The rows of a part as they were read, before classes have numbers.

    Attributes:
        texts: the texts of each row.
        labels: the class or the score of each row, or its classes.
        answers: the fields of each instruction.
        clients: the client that each row belongs to.
        left_out: how many rows were left out.
        spellings: the spellings of each label with the white space around
            it.

    """

    texts: list[tuple[str, ...]] = field(default_factory=list)
    labels: list[Label | LabelSet] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    left_out: int = 0
    spellings: dict[str, set[str]] = field(default_factory=dict)

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
    name = (*columns.labels, columns.label)[0]
    declared = table.classes.get(name, ())
    reader = LabelReader(columns, declared, numbers, into.spellings)
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
                    raise UserError(f"{error}{SKIP}") from None
                into.left_out += 1
                continue
        else:
            into.texts.append(
                tuple(text_in(row, name, where) for name in columns.text)
            )
            into.labels.append(reader.read(row, where))
        if columns.client:
            value = cell_of(row, columns.client, where)
            name = str(value).strip()
            if not name:
                raise UserError(f"{where}: {columns.client!r} is empty")
            into.clients.append(name)
        elif columns.by_file:
            into.clients.append(table.name)


def _is_incomplete(row: Row, columns: Columns) -> bool:
    needed = [*columns.text, columns.label, columns.client]
    needed += [n for f, n in columns.answers.items() if is_needed(f)]
    # An empty text among several labels says that none applies.
    if any(is_missing(plain(row.get(name))) for name in columns.labels):
        return True
    return any(
        is_missing(plain(row.get(name))) or not str(row.get(name)).strip()
        for name in needed
        if name
    )


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
    value = cell_of(row, name, where)
    if not isinstance(value, (str, bytes)):
        raise UserError(f"{where}: {name!r} is {shown(value)}, not a text")
    text = text_of(value, name, where)
    if not (text if allows_blank else text.strip()):
        raise UserError(f"{where}: {name!r} is empty{SKIP}")
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
