"""Reading tables of text: tsv, csv, json, jsonl, parquet."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs_plugins.data.json_rows import json_rows, jsonl_rows
from fs_plugins.data.lines import lines_of
from fs_plugins.errors import UserError, first_line

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet", ".txt")
Row = Mapping[str, Any]
_LONGEST = 2**31 - 1  # of a field; the csv module's own limit is 131,072


@dataclass(frozen=True)
class Varying:
    """Columns of which a row may have more or fewer than the header.

    Attributes:
        columns: their names, which are next to each other in the header.
        values: what they may hold; a row that differs from the header for
            another reason is told from one that is right by them.

    """

    columns: tuple[str, ...]
    values: frozenset[str]


def find_file(folder: Path, stems: Sequence[str]) -> Path | None:
    """The file ``<stem><suffix>`` that is in ``folder``.

    Raises:
        UserError: there are several, and nothing says which one is meant.

    """
    names = [f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise UserError(
            f"data.root: {folder} holds {found[0].name} and {found[1].name}; "
            "leave the one that is to be read"
        )
    return found[0] if found else None


def read_rows(
    file: Path,
    header: Sequence[str] | None = None,
    varying: Varying | None = None,
    left_out: list[int] | None = None,
) -> Iterator[tuple[str, Row]]:
    """(place, row) for each row of a table; a place is 'line 7', say.

    Args:
        file: a tsv (without quoting, as GLUE has it), csv, json (a list of
            objects) or jsonl, which may be gzipped, or a parquet.  Texts are
            in UTF-8, with or without a byte order mark.
        header: the columns' names, if a tsv or csv doesn't begin with them.
        varying: the columns of which a row of a tsv or csv may have another
            number than the header.
        left_out: takes the line numbers of rows of a tsv or csv with too few
            columns, which are then left out.  Without it they are an error.

    Raises:
        UserError: the file or a row of it is broken; it says where and why.

    """
    kind = Path(file.stem if file.suffix == ".gz" else file.name).suffix
    if kind == ".parquet":
        yield from _parquet(file)
    elif kind == ".json":
        yield from json_rows(file)
    elif kind == ".jsonl":
        yield from jsonl_rows(file)
    else:
        delimiter = "," if kind == ".csv" else "\t"
        yield from _table(file, delimiter, header, varying, left_out)


def is_missing(value: Any) -> bool:
    """Whether a field holds no value: null, or the NaN pandas writes."""
    return value is None or (isinstance(value, float) and value != value)


def text_of(value: Any, name: str, where: str) -> str:
    """A field as a text; a number is written out.

    Args:
        value: the field's value.
        name: the field's name.
        where: the file and the place in it, for the error.

    Raises:
        UserError: the value is missing, is a list or the like, or has no
            place in a text (a lone surrogate, bytes of another encoding).

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


def _parquet(file: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet

    try:
        _check_names(pyarrow.parquet.read_schema(file).names, str(file))
        rows = pyarrow.parquet.read_table(file, partitioning=None).to_pylist()
    except UserError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{file} cannot be read: {first_line(error)}"
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _check_names(names: Iterable[str], where: str) -> None:
    """Refuse two columns of one name.

    Columns without a name are never asked for, so there may be several.
    """
    for name, number in Counter(names).items():
        if name and number > 1:
            raise UserError(f"{where}: there are {number} columns {name!r}")


def _table(
    file: Path,
    delimiter: str,
    header: Sequence[str] | None,
    varying: Varying | None,
    left_out: list[int] | None,
) -> Iterator[tuple[str, Row]]:
    """The rows of a tsv or csv; the arguments are those of ``read_rows``."""
    plain = delimiter == "\t"
    reader = csv.reader(
        lines_of(file),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        strict=True,  # else an open quote takes all that follows for a text
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
            if len(fields) >= len(names):
                hint = " (a text cannot hold a tab)"
                if not plain:
                    hint = " (a text with a comma must be in quotes)"
            raise UserError(f"{where}: {error}{hint}") from None
        yield f"line {line}", row


def _next_fields(reader: Any, where: str) -> list[str] | None:
    """The next row's fields; none at the end of the file.

    Args:
        reader: of the csv module.  Its limit of a field's length is one for
            the whole process, so it is lifted for this row only.
        where: the file and the line, for the error.

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
    """A row's fields by name.

    Args:
        names: the header.
        fields: the row.
        varying: the columns of which there may be more or fewer.

    Raises:
        ValueError: the row doesn't fit the header.

    """
    expected, found = len(names), len(fields)
    places = [
        place
        for place, name in enumerate(names)
        if varying is not None and name in varying.columns
    ]
    if varying is not None and places and found != expected:
        first, after = places[0], places[-1] + 1
        end = max(first, after + found - expected)
        if varying.values.issuperset(fields[first:end]):
            names = names[:first] + names[after:]
            fields = fields[:first] + fields[end:]
    if len(fields) != len(names):
        raise ValueError(f"{found} columns, expected {expected}")
    named = len(names)
    while named and not names[named - 1]:
        named -= 1
    if any(fields[named:]):
        raise ValueError("a value in a column that has no name")
    return dict(zip(names, fields, strict=True))
