"""Reads the lines of a text file in UTF-8."""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fs_plugins.errors import UserError

# How packed files are opened, by suffix.
PACKED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def lines_of(file: Path) -> Iterator[str]:
    """Read the lines of a file, which may be packed by gzip, bzip2 or xz.

    A line ends with a line feed, a carriage return or both, which are part
    of the line that is returned; other line separators of Unicode do not end
    a line.  A byte order mark is left out.

    Raises:
        UserError: the file cannot be read, or is in another encoding.

    """
    opened = PACKED.get(file.suffix.lower(), open)
    number = 0
    try:
        with opened(file, "rb") as stream:
            for raw in stream:
                if number == 0 and raw.startswith(b"\xef\xbb\xbf"):
                    raw = raw[3:]
                for line in _LINE.findall(_decoded(raw, number, file)):
                    number += 1
                    yield line
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"{file}, line {number + 1}: it cannot be read ({error})"
        ) from None


def _decoded(raw: bytes, before: int, file: Path) -> str:
    """Decode bytes of a file.

    Args:
        raw: the bytes, up to a line feed.
        before: the number of lines that come before them in the file.
        file: the file, for the error message.

    Raises:
        UserError: the bytes are in another encoding than UTF-8.

    """
    start = raw[:2]
    if before == 0 and (start in (b"\xff\xfe", b"\xfe\xff") or 0 in start):
        raise UserError(
            f"{file}, line 1: not UTF-8, but UTF-16 as it seems; save the "
            "file as UTF-8"
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        good = raw[: error.start].decode()
        line = before + len(_LINE.findall(f"{good}."))
        raise UserError(
            f"{file}, line {line}: not UTF-8 (byte 0x{raw[error.start]:02x}, "
            f"{error.reason}); save the file as UTF-8"
        ) from None
