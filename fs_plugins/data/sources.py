"""Reads the rows of csv, tsv, json, jsonl, parquet and arrow files."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs_plugins.data.json_rows import json_rows, jsonl_rows
from fs_plugins.data.lines import PACKED, lines_of
from fs_plugins.errors import UserError, first_line, shown

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet", ".txt")
# The suffixes of the files that can be read; the last three are binary.
TABLES = (
    *(".csv", ".tsv", ".json", ".jsonl", ".ndjson"),
    *(".parquet", ".arrow", ".feather"),
)
_BINARY = TABLES[-3:]
Row = Mapping[str, Any]
# The longest field, in characters; the csv module's own limit is 131,072.
_LONGEST = 2**31 - 1


@dataclass(frozen=True)
class Varying:
    """Columns of which a row may have more or fewer than the header.

    Attributes:
        columns: the names of the columns, which are next to each other in
            the header.
        values: the values that the columns may hold.  They tell a row with
            another number of these columns from a row that is broken.

    """

    columns: tuple[str, ...]
    values: frozenset[str]


def find_file(folder: Path, stems: Sequence[str]) -> Path | None:
    """The only file of a folder that has one of the given names.

    Args:
        folder: the folder.
        stems: the possible names of the file, without their suffix.

    Returns:
        The file; None if there is none.

    Raises:
        UserError: there are several such files.

    """
    names = [f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    files = [folder / name for name in names if (folder / name).is_file()]
    if len(files) > 1:
        raise UserError(
            f"data.root: {folder} holds {files[0].name} and {files[1].name}; "
            "leave the one that is to be read"
        )
    return files[0] if files else None


def kind_of(file: Path) -> str:
    """The suffix in ``TABLES`` of a file, which may be packed; or ``""``."""
    name = file.name.lower()
    for packed in PACKED:
        stem = name.removesuffix(packed)
        if stem != name and Path(stem).suffix not in _BINARY:
            name = stem
            break
    suffix = Path(name).suffix
    return suffix if suffix in TABLES else ""


def read_rows(
    file: Path,
    header: Sequence[str] | None = None,
    varying: Varying | None = None,
    left_out: list[int] | None = None,
    separator: str | None = None,
) -> Iterator[tuple[str, Row]]:
    """Read the rows of a table.

    Args:
        file: a csv, tsv, json (a list of objects), jsonl, parquet or arrow
            file.  Those of text may be packed by gzip, bzip2 or xz, and are
            in UTF-8, with or without a byte order mark.
        header: the names of the columns, if a tsv or csv file does not begin
            with them.
        varying: the columns of which a row of a tsv or csv file may have
            another number than the header.
        left_out: a list to which the line numbers of rows of a tsv or csv
            file with too few columns are added; such rows are left out.  If
            it is None, such rows are an error.
        separator: what separates the columns of a csv or tsv file in which
            a text may be in quotes; empty for a comma or, in a tsv file, a
            tab.  If it is None, tsv files have no quotes, as in GLUE.

    Yields:
        For each row, its place in the file (such as ``line 7``), and the
        row's values by column.

    Raises:
        UserError: the file or one of its rows is broken; says where and why.

    """
    kind = kind_of(file)
    if kind in _BINARY:
        yield from _binary(file, kind)
    elif kind == ".json":
        yield from json_rows(file)
    elif kind in (".jsonl", ".ndjson"):
        yield from jsonl_rows(file)
    else:
        usual = "," if kind == ".csv" else "\t"
        form = _Form(
            separator or usual, kind == ".csv" or separator is not None
        )
        yield from _table(file, form, header, varying, left_out)


def is_missing(value: Any) -> bool:
    """Whether a value is null, or NaN, which pandas writes for null."""
    return value is None or (isinstance(value, float) and value != value)


def text_of(value: Any, name: str, where: str) -> str:
    """Convert the value of a field to a text.

    Args:
        value: the field's value: a text, bytes in UTF-8 or a number.
        name: the field's name.
        where: the file and the place in it, for the error message.

    Raises:
        UserError: the value is missing, is a list or a mapping, or is not
            valid Unicode (a lone surrogate, bytes of another encoding).

    """
    if is_missing(value):
        raise UserError(f"{where}: the value of {name!r} is missing")
    if isinstance(value, Mapping | list | tuple):
        raise UserError(f"{where}: {name!r} is not a text")
    try:
        text = value.decode() if isinstance(value, bytes) else str(value)
        text.encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise UserError(
            f"{where}: {name!r} is not valid Unicode text ({error.reason})"
        ) from None
    return text


def _binary(file: Path, kind: str) -> Iterator[tuple[str, Row]]:
    """The rows of a parquet or arrow file, a part of it at a time."""
    import pyarrow

    number = 0
    try:
        for batch in _batches(file, kind):
            if not number:
                _check_names(batch.schema.names, str(file))
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{file} cannot be read: {first_line(error)}"
        ) from error


def _batches(file: Path, kind: str) -> Iterator[Any]:
    """The record batches of a parquet or arrow file.

    Arrow files are in the format of files or in that of streams, which
    ``datasets`` writes.
    """
    import pyarrow
    import pyarrow.parquet

    if kind == ".parquet":
        parquet = pyarrow.parquet.ParquetFile(file)
        _check_names(parquet.schema_arrow.names, str(file))
        yield from parquet.iter_batches(10_000)
        return
    with pyarrow.OSFile(str(file)) as opened:
        try:
            reader = pyarrow.ipc.open_file(opened)
        except pyarrow.ArrowInvalid:
            opened.seek(0)
            yield from pyarrow.ipc.open_stream(opened)
        else:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def _check_names(names: Iterable[str], where: str) -> None:
    """Refuse two columns of the same name.

    Columns without a name are never read, so there may be several of them.
    """
    for name, number in Counter(names).items():
        if name and number > 1:
            raise UserError(f"{where}: there are {number} columns {name!r}")


@dataclass(frozen=True)
class _Form:
    """What a csv or tsv file looks like.

    Attributes:
        separator: the character between two columns.
        has_quotes: whether a text may be in quotes.

    """

    separator: str
    has_quotes: bool


def _table(
    file: Path,
    form: _Form,
    header: Sequence[str] | None,
    varying: Varying | None,
    left_out: list[int] | None,
) -> Iterator[tuple[str, Row]]:
    """The rows of a tsv or csv file, with the arguments of ``read_rows``."""
    if len(form.separator) != 1 or form.separator in '\r\n"':
        raise UserError(
            f"fedsa.data.separator: {shown(form.separator)} is not one "
            "character that can stand between two columns"
        )
    reader = csv.reader(
        lines_of(file),
        delimiter=form.separator,
        quoting=csv.QUOTE_MINIMAL if form.has_quotes else csv.QUOTE_NONE,
        # Without it, an open quote makes one text of the rest of the file.
        strict=True,
    )
    names = list(header or ())
    while True:
        line = reader.line_num + 1
        where = f"{file}, line {line}"
        fields = _next_fields(reader, where)
        if fields is None:
            return
        if not fields:
            continue
        if not names:
            names = fields
            _check_names(names, where)
            continue
        if left_out is not None and len(fields) < len(names):
            left_out.append(line)
            continue
        try:
            row = _fitting(names, fields, varying)
        except ValueError as error:
            hint = ""
            if len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
                raise UserError(
                    f"{where}: {error} (is another character than "
                    f"{_name_of(form.separator)} between the columns? "
                    "fedsa.data.separator)"
                ) from None
            if len(fields) >= len(names):
                hint = " (a text cannot hold a tab)"
                if form.has_quotes:
                    hint = (
                        f" (a text with a {_name_of(form.separator)} must be "
                        "in quotes)"
                    )
            raise UserError(f"{where}: {error}{hint}") from None
        yield f"line {line}", row


def _name_of(separator: str) -> str:
    return {",": "comma", "\t": "tab", ";": "semicolon"}.get(
        separator, repr(separator)
    )


def _next_fields(reader: Any, where: str) -> list[str] | None:
    """The fields of the next row; None at the end of the file.

    The csv module's limit of a field's length is shared by the whole
    process, so it is lifted for one row at a time.

    Args:
        reader: a reader of the csv module.
        where: the file and the line, for the error message.

    Raises:
        UserError: the row is broken.

    """
    limit = csv.field_size_limit(_LONGEST)
    try:
        fields: list[str] | None = next(reader, None)
    except csv.Error as error:
        raise UserError(
            f"{where}: {error} (a text in quotes ends with a quote, and has "
            "its own quotes doubled)"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return fields


def _fitting(
    names: list[str], fields: list[str], varying: Varying | None
) -> Row:
    """The fields of a row by the names of their columns.

    Args:
        names: the names of the columns, from the header.
        fields: the fields of the row.
        varying: the columns of which the row may have more or fewer than the
            header; a row with another number of them goes without them.

    Raises:
        ValueError: the row does not fit the header.

    """
    expected, actual = len(names), len(fields)
    places = [
        place
        for place, name in enumerate(names)
        if varying is not None and name in varying.columns
    ]
    if varying is not None and places and actual != expected:
        first, after = places[0], places[-1] + 1
        end = max(first, after + actual - expected)
        if varying.values.issuperset(fields[first:end]):
            names = names[:first] + names[after:]
            fields = fields[:first] + fields[end:]
    if len(fields) != len(names):
        raise ValueError(f"{actual} columns, expected {expected}")
    named = len(names)
    while named and not names[named - 1]:
        named -= 1
    if any(fields[named:]):
        raise ValueError("a value in a column that has no name")
    return dict(zip(names, fields, strict=True))
