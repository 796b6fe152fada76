"""Reads the objects of a JSON list, or of a file of JSON lines."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fs_plugins.data.lines import lines_of
from fs_plugins.errors import UserError, first_line

_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Read the objects of a file that holds one JSON list.

    Yields:
        For each object, its place in the file (``record 7``), and the object.

    Raises:
        UserError: the file is broken, or does not hold a list of objects.

    """
    text = "".join(lines_of(file))
    place = _after_space(text, 0)
    if text[place : place + 1] != "[":
        raise UserError(_why_no_list(file, text))
    number, place = 0, _after_space(text, place + 1)
    is_open = text[place : place + 1] != "]"
    while is_open:
        number += 1
        try:
            row, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", place)) + 1
            raise UserError(
                f"{file}, record {number} (line {line}): {_why(error)}"
            ) from None
        if not isinstance(row, dict):
            raise UserError(
                f"{file} is not a list of JSON objects (record {number} is "
                "none)"
            )
        yield f"record {number}", row
        place = _after_space(text, place)
        is_open = text[place : place + 1] == ","
        if is_open:
            place = _after_space(text, place + 1)
    if text[place : place + 1] != "]" or text[place + 1 :].strip():
        line = text.count("\n", 0, place) + 1
        raise UserError(
            f"{file}, line {line}: not JSON (after record {number} there is "
            "neither another one nor the end of the list)"
        )


def _after_space(text: str, place: int) -> int:
    """The first place from ``place`` on that holds no white space."""
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _why_no_list(file: Path, text: str) -> str:
    """The error message for a file whose content is not a JSON list."""
    try:
        first, end = _DECODER.raw_decode(text, _after_space(text, 0))
    except (ValueError, RecursionError) as error:
        return f"{file}: {_why(error)}" if text.strip() else f"{file} is empty"
    if isinstance(first, dict) and text[end:].strip().startswith("{"):
        return f"{file} holds JSON lines; name the file .jsonl"
    return f"{file} is not a list of JSON objects"


def jsonl_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Read the objects of a file of JSON lines; blank lines are skipped.

    Yields:
        For each object, its place in the file (``line 7``), and the object.

    Raises:
        UserError: a line is broken, or does not hold an object.

    """
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        try:
            row = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number}: {_why(error)}") from None
        if not isinstance(row, dict):
            raise UserError(
                f"{file}, line {number}: not a JSON object (a list of them "
                "belongs into a .json)"
                if isinstance(row, list)
                else f"{file}, line {number}: not a JSON object"
            )
        yield f"line {number}", row


def _object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """Make a JSON object of its pairs; refuse a key that occurs twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _why(error: BaseException) -> str:
    """The reason for an error of the JSON decoder, for an error message."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg})"
    if isinstance(error, RecursionError):
        return "its lists and objects are nested too deeply"
    return first_line(error)
