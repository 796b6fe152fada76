"""Reads files of a run, which may be damaged or hold something else.

What is read is checked here and in the modules that know its form, once, so
that whoever uses it can rely on the form.
"""

import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from fs_plugins.config.yaml_file import parse_of_host, reason_of
from fs_plugins.errors import UserError

# The exceptions that the parser of a damaged file may raise.
_DAMAGE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
_MOST_VALUES = 30_000  # of a configuration; a run adds the classes' names
_MOST = 2**63 - 1  # the largest whole number
_CLIENT_ID = re.compile(r"[0-9]{1,9}")


def configuration_in(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: the file cannot be read, is damaged, or holds no keys.

    """
    try:
        config = parse_of_host(bytes_in(file).decode(), _MOST_VALUES)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged: {reason_of(error)}") from error
    if config is not None and not isinstance(config, dict):
        raise UserError(f"{file} holds no configuration keys")
    return config or {}


def json_in(file: Path, advice: str = "") -> Any:
    """The value in a JSON file.

    Args:
        file: the file.
        advice: what can be done about a damaged file.

    Raises:
        UserError: the file cannot be read, or is damaged.

    """
    data = bytes_in(file)
    try:
        return json.loads(data.decode())
    except _DAMAGE as error:
        advice = advice and f"; {advice}"
        raise UserError(f"{file} is damaged ({error}){advice}") from error


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
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
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
    check_is_file(file)
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


def check_is_file(file: Path) -> None:
    """Refuse what cannot be read as a file, such as a folder or a pipe.

    To read a pipe or a device might never end.

    Raises:
        UserError: there is no such file, or it is something else.

    """
    try:
        mode = os.stat(file).st_mode
    except (OSError, ValueError) as error:
        raise _unusable(file, error) from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{file} cannot be read: it is no file")


def check_path(path: Path) -> None:
    """Refuse a path that no file or folder can have, or that is forbidden.

    Raises:
        UserError: says what is wrong with the path.

    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{path} cannot be read: {reason}")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float)


def are_numbers(values: Any) -> bool:
    """Whether a value read from a file holds numbers by name.

    A number that was not finite is null there.
    """
    return isinstance(values, dict) and all(
        isinstance(name, str) and (number is None or is_number(number))
        for name, number in values.items()
    )


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number that can count something."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and 0 <= value <= _MOST


def is_client_ID(value: str) -> bool:
    """Whether a text is the ID of a client; 0 stands for the server."""
    return _CLIENT_ID.fullmatch(value) is not None
