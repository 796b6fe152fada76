"""Reads files of ``torch.save`` in which nothing but tensors is accepted."""

from pathlib import Path
from typing import Any

import torch

from fs_plugins.errors import UserError, first_line

# Before, such a file could execute what it liked (CVE-2025-32434).
_SAFE = (2, 6)


def read_weights(file: Path, key: str) -> dict[str, Any]:
    """The contents of a file of ``federate.save_to``.

    Tensors and plain values are read; a file that asks for anything else
    when it is unpickled is refused before that happens.

    Args:
        file: the file.
        key: the configuration key that names the file, for the error message.

    Raises:
        UserError: the file cannot be read, or holds something else.

    """
    if tuple(map(int, torch.__version__.split(".")[:2])) < _SAFE:
        raise UserError(
            f"{key}: {file} is read with torch 2.6 or newer only; before, "
            "such a file could execute code"
        )
    try:
        read: Any = torch.load(file, map_location="cpu", weights_only=True)
    # The unpickler raises whatever a damaged file makes of it.
    except Exception as error:
        raise UserError(
            f"{key}: {file} cannot be used: {first_line(error)}"
        ) from error
    if not isinstance(read, dict) or not {"model", "cur_round"} <= {*read}:
        raise UserError(f"{key}: {file} is no file of federate.save_to")
    return read
