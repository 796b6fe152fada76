"""Files that only grow while a run goes on, and are cut if it is resumed."""

import contextlib
import os
import zlib
from pathlib import Path

from fs_plugins.errors import UserError

_PIECE = 2**20  # bytes that are read at a time


class GrowingFile:
    """A log, of which a checkpoint knows the length and the checksum.

    Args:
        path: the file, which need not exist yet.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = self._checksum = 0

    def mark(self) -> list[int]:
        """The length and the checksum (CRC-32) of all that is on the disk.

        What is new since the last call is read, and nothing else.
        """
        with (
            contextlib.suppress(FileNotFoundError),
            open(self.path, "rb") as file,
        ):
            os.fsync(file.fileno())
            if os.fstat(file.fileno()).st_size < self._size:
                self._size = self._checksum = 0
            file.seek(self._size)
            while piece := file.read(_PIECE):
                self._size += len(piece)
                self._checksum = zlib.crc32(piece, self._checksum)
        return [self._size, self._checksum]

    def check(self, mark: list[int]) -> None:
        """Refuse a file that has not grown from what it was.

        Args:
            mark: what ``mark`` has returned at the checkpoint.

        Raises:
            UserError: the file is shorter, or begins differently.

        """
        size, checksum = mark
        now = self.path.stat().st_size if self.path.is_file() else 0
        if now < size:
            raise UserError(
                f"{self.path} has {now} bytes and had {size} at the checkpoint"
            )
        found, left = 0, size
        if size:
            with open(self.path, "rb") as file:
                while left:
                    piece = file.read(min(left, _PIECE))
                    found, left = zlib.crc32(piece, found), left - len(piece)
        if found != checksum:
            raise UserError(
                f"{self.path} is not what it was at the checkpoint: its "
                "checksum is wrong"
            )

    def cut(self, mark: list[int]) -> None:
        """Cut the file to its length at the checkpoint.

        Args:
            mark: what ``mark`` has returned at the checkpoint.

        """
        self._size, self._checksum = mark
        if self.path.exists() and self.path.stat().st_size > self._size:
            os.truncate(self.path, self._size)
