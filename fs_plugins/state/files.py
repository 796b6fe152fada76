"""Tensors in files that are never half-written."""

import os
from pathlib import Path

import torch

from fs_plugins.errors import UserError
from fs_plugins.wire import Spec, Tensors, WireError, decode, encode


def write_tensors(file: Path, tensors: Tensors) -> None:
    """Write a safetensors file; a crash leaves the old one or the new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with open(part, "wb") as stream:
        stream.write(encode(tensors))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def read_tensors(file: Path, spec: Spec) -> dict[str, torch.Tensor]:
    """What ``write_tensors`` wrote.

    Raises:
        UserError: the file is broken, or is not what ``spec`` expects.

    """
    try:
        return decode(file.read_bytes(), spec)
    except (OSError, WireError) as error:
        raise UserError(
            f"{file} does not hold what this client keeps: {error}; restore "
            "the file, or remove it to start again from the initial values"
        ) from error
