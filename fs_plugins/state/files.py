"""Files that are never half-written, and files of tensors.

What is private can be read by its owner only, in folders that only the owner
can enter.
"""

import contextlib
import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fs_plugins.errors import UserError
from fs_plugins.wire import Spec, Tensors, WireError, check_tensors

_CHECKSUM = "crc32"


@contextlib.contextmanager
def replacing(file: Path, private: bool = False) -> Iterator[BinaryIO]:
    """Write a file; a crash at any instant leaves the old file or the new.

    Several processes may write in one folder.  A link that stands in the
    place of the new file is never followed.

    Args:
        file: the file; missing folders above it are created.
        private: whether only the file's owner may read it, and enter the
            folder if it is created.

    Yields:
        A stream, whose contents become those of the file at the end of the
        context.

    Raises:
        OSError: there is no space, or no permission; the old file stays.

    """
    if private:
        _make_private(file.parent)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(file)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(part, flags, 0o600 if private else 0o666)
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):  # write() sets no name
            error.filename = error.filename or str(file)
        raise


def write_file(file: Path, data: bytes, private: bool = False) -> None:
    """Write a file, as ``replacing`` does.

    Args:
        file: the file; missing folders above it are created.
        data: the contents of the file.
        private: whether only the file's owner may read it.

    Raises:
        OSError: there is no space, or no permission; the old file stays.

    """
    with replacing(file, private) as stream:
        stream.write(data)


def _part_of(file: Path) -> Path:
    """A name for a file that becomes ``file``, which nobody can foresee."""
    return file.with_name(f"{file.name}.{secrets.token_hex(8)}.part")


def remove_parts(folder: Path, name: str = "*") -> None:
    """Remove what writers that were killed have left in a folder.

    Args:
        folder: a folder in which no other process writes such a file now.
        name: the name of the file that was written; ``*`` for all files.

    """
    for part in folder.glob(f"{name}.{'[0-9a-f]' * 16}.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def ensure_private(folder: Path) -> None:
    """Create a folder that its owner alone may enter, unless it exists.

    Args:
        folder: the folder, whose name is not the user's choice.

    Raises:
        OSError: the folder cannot be created.
        UserError: it was put there by another user, or is a link.

    """
    if not _make_private(folder):
        _check_own(folder)


def _make_private(folder: Path) -> bool:
    """Create a folder for its owner alone; False if it exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return False
    return True


def _check_own(folder: Path) -> None:
    """Refuse a folder whose contents another user can choose."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(
            f"{folder} is a link or a file, in the place of a folder for "
            "what only you may read; remove it"
        )
    if _is_of_others(folder, found):
        raise UserError(
            f"{folder} belongs to another user, who could read or replace "
            "what is written there; name a folder of your own"
        )
    if found.st_mode & 0o022:
        os.chmod(folder, stat.S_IMODE(found.st_mode) & ~0o022)


def belongs_to_others(file: Path) -> bool:
    """Whether a file is another user's, or a link."""
    found = os.lstat(file)
    return not stat.S_ISREG(found.st_mode) or _is_of_others(file, found)


def _is_of_others(path: Path, found: os.stat_result) -> bool:
    """Whether a path belongs to somebody who does not own its folder either.

    The owner of a folder can replace what is in it in any case.
    """
    return found.st_uid not in (os.geteuid(), path.parent.stat().st_uid)


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
    ensure_private(new.parent)
    part = _part_of(new)
    try:
        os.link(old, part)
    except OSError:
        write_file(new, old.read_bytes(), private=True)
        return
    part.replace(new)
    # Of two names of one file, rename(2) leaves the first.
    part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make sure that a power failure loses no file name in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_tensors(
    file: Path, tensors: Tensors, facts: Mapping[str, str] | None = None
) -> None:
    """Write a private safetensors file with a checksum.

    Args:
        file: the file.
        tensors: the tensors to write, by name.
        facts: what the file says about the tensors, by name.

    Raises:
        OSError: there is no space, or no permission; the old file stays.
        UserError: the file's folder is another user's, or a link.

    """
    ensure_private(file.parent)
    plain = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    facts = dict(facts or {})
    metadata = {**facts, _CHECKSUM: _checksum(plain, facts)}
    write_file(file, save(plain, metadata), private=True)


def read_facts(file: Path) -> dict[str, str]:
    """What a file of ``write_tensors`` says about its tensors.

    The tensors are not read, and so the checksum is not checked.

    Raises:
        UserError: the file is missing, or no file of tensors.

    """
    try:
        with safe_open(file, framework="pt") as opened:
            facts: dict[str, str] = dict(opened.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    facts.pop(_CHECKSUM, None)
    return facts


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
        if file.exists() and not file.is_file():
            raise WireError("it is no file")
        with safe_open(file, framework="pt") as opened:
            facts: dict[str, str] = dict(opened.metadata() or {})
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
        if facts.pop(_CHECKSUM, None) != _checksum(tensors, facts):
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


def _checksum(tensors: Tensors, facts: Mapping[str, str]) -> str:
    total = 0
    if facts:
        total = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        flat = tensors[name].reshape(-1).view(torch.uint8)
        total = zlib.crc32(flat.numpy().data, total)
    return f"{total:08x}"
