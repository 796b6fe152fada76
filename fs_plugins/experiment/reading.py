"""Reads files of a run, which may be damaged or hold something else."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.errors import UserError

# The exceptions that the parser of a damaged file may raise.
_DAMAGE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)


def configuration_in(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: the file cannot be read, is damaged, or holds no keys.

    """
    data = bytes_in(file)
    try:
        config = yaml.safe_load(data.decode()) or {}
    except (yaml.YAMLError, *_DAMAGE) as error:
        raise UserError(f"{file} is damaged: it is no YAML") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} holds no configuration keys")
    return config


def json_in(file: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: the file cannot be read, or is damaged.

    """
    data = bytes_in(file)
    try:
        return json.loads(data.decode())
    except _DAMAGE as error:
        raise UserError(
            f"{file} is damaged ({error}); remove it, and what else the "
            "run's folder holds is reported"
        ) from error


def evaluations_in(
    file: Path, parse: Callable[[str], dict[str, Any] | None]
) -> Iterator[dict[str, Any]]:
    """The evaluations in a file.

    A damaged last line without a line break is ignored: the run was stopped
    while it wrote the line, or is still writing it.

    Args:
        file: the file, with a line for each evaluation.
        parse: a function that converts a line to an evaluation, or to None
            if the line holds something else.

    Raises:
        UserError: the file cannot be read, or one of its lines is damaged.

    """
    text = bytes_in(file).decode(errors="replace")
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            evaluation = parse(line)
        except _DAMAGE as error:
            if number == len(lines) and not text.endswith("\n"):
                return
            raise UserError(
                f"{file}, line {number} is damaged ({error})"
            ) from error
        if evaluation is not None:
            yield evaluation


def digest_of(value: Any) -> str:
    """The checksum of what a JSON file says, however it is laid out."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def bytes_in(file: Path) -> bytes:
    """The contents of a file.

    Raises:
        UserError: the file cannot be read.

    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
