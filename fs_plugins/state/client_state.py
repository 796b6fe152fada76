"""What one client keeps between rounds, in memory or on disk."""

import abc
import mmap
from collections import OrderedDict
from pathlib import Path

import torch

from fs_plugins.errors import UserError
from fs_plugins.state.files import (
    belongs_to_others,
    ensure_private,
    link_file,
    read_tensors,
    write_tensors,
)
from fs_plugins.wire import Tensors, spec_of

OPTIMIZER = "optimizer."  # the prefix of the names of optimizer state
_ALIGN = 64  # bytes; a tensor of any type may begin at a multiple


class ClientState(abc.ABC):
    """The parameters that a client keeps to itself between rounds.

    With ``fedsa.state.optimizer``, the state of the optimizer is kept beside
    the parameters, under the names ``optimizer.<kind>.<parameter>``.

    Args:
        initial: the values that every client starts from; all clients share
            these tensors, which are never written to.

    Attributes:
        version: how often new values were saved or restored; at 0 the
            parameters have their initial values.

    """

    def __init__(self, initial: Tensors) -> None:
        self._initial = initial
        self.version = 0

    @property
    def values(self) -> Tensors:
        """The parameters as the client left them.

        Raises:
            UserError: the client's file is damaged.

        """
        if not self.version:
            return self._initial
        tensors = self._load()
        return {name: tensors[name] for name in self._initial}

    @property
    def optimizer(self) -> Tensors:
        """Optimizer state as the client left it; empty at first."""
        tensors = self._load() if self.version else {}
        return {n: t for n, t in tensors.items() if n.startswith(OPTIMIZER)}

    def save(self, tensors: Tensors) -> None:
        """Keep a copy of the parameters, and of optimizer state if given."""
        self._store(tensors)
        self.version += 1

    def write(self, file: Path) -> None:
        """Write everything that the client keeps into a file."""
        write_tensors(file, self._load())

    def restore(self, file: Path) -> None:
        """Read everything that the client keeps from a file of ``write``.

        Raises:
            UserError: the file is damaged or of another model; the client
                keeps what it had.

        """
        self._store(self._read(file))
        self.version += 1

    def forget(self) -> None:
        """Go back to the initial values."""
        self.version = 0

    def _read(self, file: Path) -> dict[str, torch.Tensor]:
        return read_tensors(file, spec_of(self._initial), free=OPTIMIZER)

    @abc.abstractmethod
    def _load(self) -> Tensors:
        """All tensors that were stored last."""

    @abc.abstractmethod
    def _store(self, tensors: Tensors) -> None:
        """Store copies of these tensors in place of the earlier ones."""


class StateInMemory(ClientState):
    """Client state in memory, in pages of its own.

    On the heap, tensors that live as long as the run would lie between the
    short-lived activations, and keep the freed memory around them from being
    used again.  A client that has not trained takes no memory.

    Args:
        initial: as for ``ClientState``.

    """

    def __init__(self, initial: Tensors) -> None:
        super().__init__(initial)
        self._memory = mmap.mmap(-1, 1)
        self._spec = spec_of({})

    def _store(self, tensors: Tensors) -> None:
        spec = spec_of(tensors)
        if spec != self._spec:
            size = sum(_padded(t) for t in tensors.values())
            self._memory = mmap.mmap(-1, max(size, 1))
            self._spec = spec
        for name, stored in self._load().items():
            stored.copy_(tensors[name].detach())

    def _load(self) -> dict[str, torch.Tensor]:
        """Views of the client's memory as tensors."""
        memory = torch.frombuffer(self._memory, dtype=torch.uint8)
        views, start = {}, 0
        for name, (shape, dtype) in self._spec.items():
            size = shape.numel() * dtype.itemsize
            data = memory[start : start + size]
            views[name] = data.view(dtype).view(shape)
            start += _aligned(size)
        return views


class StateOnDisk(ClientState):
    """Client state in a safetensors file, mapped into memory while in use.

    Args:
        initial: as for ``ClientState``.
        file: the client's file; each ``save`` replaces it, and nothing ever
            writes into it.
        cache: the cache of files, which all clients share.

    """

    def __init__(self, initial: Tensors, file: Path, cache: "Cache") -> None:
        super().__init__(initial)
        self.file = file
        self._cache = cache

    def find(self) -> None:
        """Continue from the file of an earlier process, if there is one.

        Raises:
            UserError: the file is damaged, of another model, or of another
                user.

        """
        if not self.file.exists():
            return
        ensure_private(self.file.parent)
        if belongs_to_others(self.file):
            raise UserError(
                f"{self.file} is a link or another user's, and not what the "
                "client has kept; remove it"
            )
        try:
            self._cache.put(self.file, self._read(self.file))
        except UserError as error:
            raise UserError(
                f"{error}; restore it, or remove it to start again from the "
                "initial values"
            ) from error
        self.version += 1

    def write(self, file: Path) -> None:
        """Link the client's file as ``file``, without a copy of the data."""
        link_file(self.file, file)

    def restore(self, file: Path) -> None:
        """Link ``file`` as the client's file, after a check of its contents.

        Raises:
            UserError: the file is damaged or of another model; the client
                keeps what it had.

        """
        tensors = self._read(file)
        link_file(file, self.file)
        self._cache.put(self.file, tensors)
        self.version += 1

    def forget(self) -> None:
        """Go back to the initial values, and remove the client's file."""
        super().forget()
        self._cache.drop(self.file)
        self.file.unlink(missing_ok=True)

    def _load(self) -> Tensors:
        tensors = self._cache.get(self.file)
        if tensors is None:
            tensors = self._read(self.file)
            self._cache.put(self.file, tensors)
        return tensors

    def _store(self, tensors: Tensors) -> None:
        self._cache.drop(self.file)
        write_tensors(self.file, tensors)


class Cache:
    """The tensors of the most recently used files, up to a total size.

    Args:
        limit: the most bytes that the tensors may take together.

    Attributes:
        size: the bytes that the tensors take now.

    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._files: OrderedDict[Path, Tensors] = OrderedDict()

    def get(self, file: Path) -> Tensors | None:
        """The tensors of a file; None if the cache does not hold them."""
        if file in self._files:
            self._files.move_to_end(file)
        return self._files.get(file)

    def put(self, file: Path, tensors: Tensors) -> None:
        """Add a file's tensors; drop the least recently used files.

        Args:
            file: the file.
            tensors: the contents of the file; they are not added if they
                alone exceed the limit.

        """
        self.drop(file)
        size = _size(tensors)
        if size > self.limit:
            return
        while self.size + size > self.limit:
            _, oldest = self._files.popitem(last=False)
            self.size -= _size(oldest)
        self._files[file] = tensors
        self.size += size

    def drop(self, file: Path) -> None:
        """Remove the tensors of a file from the cache."""
        self.size -= _size(self._files.pop(file, {}))


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _padded(tensor: torch.Tensor) -> int:
    return _aligned(tensor.nbytes)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
