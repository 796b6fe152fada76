"""Reading tables of text: tsv, csv, json, jsonl, parquet."""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.errors import UserError

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet", ".txt")
Row = Mapping[str, Any]


def find_file(folder: Path, stems: Sequence[str]) -> Path | None:
    """The first of ``<stem><suffix>`` that is in ``folder``."""
    for stem in stems:
        for suffix in SUFFIXES:
            file = folder / f"{stem}{suffix}"
            if file.is_file():
                return file
    return None


def read_rows(
    file: Path, header: Sequence[str] | None = None
) -> Iterator[tuple[int, Row]]:
    """(line, row) for each row of a table.

    Args:
        file: a tsv (without quoting, as GLUE has it), csv, parquet, json (a
            list of objects) or jsonl, which may be gzipped.
        header: the columns' names, if the file doesn't begin with them.

    Raises:
        UserError: a broken line, by its number.

    """
    if file.suffix == ".parquet":
        yield from enumerate(_parquet(file), 1)
    elif file.suffix == ".json":
        yield from enumerate(_json(file), 1)
    elif file.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _jsonl(file)
    else:
        yield from _table(file, header)


def _parquet(file: Path) -> list[Row]:
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(file).to_pylist()
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    return rows


def _json(file: Path) -> list[Row]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) for r in rows
    ):
        raise UserError(f"{file} is not a list of JSON objects")
    return rows


def _jsonl(file: Path) -> Iterator[tuple[int, Row]]:
    opened = gzip.open if file.suffix == ".gz" else open
    number = 0
    try:
        with opened(file, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, _object(line)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file}, line {number or 1}: {error}") from None


def _object(line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg})") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _table(
    file: Path, header: Sequence[str] | None
) -> Iterator[tuple[int, Row]]:
    plain = file.suffix != ".csv"
    with open(file, encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(
            stream,
            delimiter="\t" if plain else ",",
            quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        )
        names = list(header) if header else next(reader, [])
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(
                    f"{file}, line {reader.line_num + 1}: {error}"
                ) from None
            if not fields:
                continue
            if len(fields) < len(names):
                raise UserError(
                    f"{file}, line {reader.line_num}: {len(fields)} columns, "
                    f"expected {len(names)}"
                )
            # MNLI's lines have a varying number of annotators' labels.
            yield reader.line_num, dict(zip(names, fields, strict=False))
