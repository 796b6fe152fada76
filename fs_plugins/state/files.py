"""Files that are never half-written, and files of tensors."""

import contextlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fs_plugins.errors import UserError
from fs_plugins.wire import Spec, Tensors, WireError, check_tensors

_CHECKSUM = "crc32"


def write_file(file: Path, data: bytes, private: bool = False) -> None:
    """Write a file; a crash at any instant leaves the old file or the new.

    A link that stands in the place of the new file is never followed.

    Args:
        file: the file; missing folders above it are created.
        data: the contents of the file.
        private: whether only the file's owner may read it.

    Raises:
        OSError: there is no space, or no permission; the old file stays.

    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with open(part, "xb", opener=_private if private else None) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        error.filename = error.filename or str(file)  # write() sets no name
        raise


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def link_file(old: Path, new: Path) -> None:
    """Make ``new`` a hard link to ``old``, without a second copy on the disk.

    Both files are only ever replaced, never written into, so that a later
    change of one does not affect the other.  Where the file system has no
    hard links, ``new`` becomes a copy.

    Args:
        old: a file that exists.
        new: the link; a file of this name is replaced, and missing folders
            above it are created.

    """
    new.parent.mkdir(parents=True, exist_ok=True)
    part = new.with_name(new.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.link(old, part)
    except OSError:
        write_file(part, old.read_bytes(), private=True)
    part.replace(new)


def sync_folder(folder: Path) -> None:
    """Make sure that a power failure loses no file name in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_tensors(file: Path, tensors: Tensors) -> None:
    """Write a safetensors file with a checksum, as ``write_file`` does.

    Args:
        file: the file.
        tensors: the tensors to write, by name.

    """
    plain = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    write_file(file, save(plain, {_CHECKSUM: _checksum(plain)}), private=True)


def read_tensors(
    file: Path, spec: Spec | None = None, free: str = ""
) -> dict[str, torch.Tensor]:
    """The tensors of a file of ``write_tensors``, mapped into memory.

    Args:
        file: the file.
        spec: the names, shapes and types that are expected; None to accept
            any.
        free: a prefix; tensors whose names begin with it are not compared
            with ``spec``.

    Raises:
        UserError: the file is missing, damaged, or not what is expected.

    """
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
        if metadata.get(_CHECKSUM) != _checksum(tensors):
            raise WireError("its checksum is wrong")
        if spec is not None:
            bound = {
                name: tensor
                for name, tensor in tensors.items()
                if not (free and name.startswith(free))
            }
            check_tensors(bound, spec)
    except (OSError, SafetensorError, WireError) as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    return tensors


def _checksum(tensors: Tensors) -> str:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        flat = tensors[name].reshape(-1).view(torch.uint8)
        total = zlib.crc32(flat.numpy().data, total)
    return f"{total:08x}"
