"""What one client keeps between rounds, in memory or on disk."""

import abc
import hashlib
import mmap
from collections import OrderedDict
from pathlib import Path

import torch

from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.state.files import (
    link_file,
    read_tensors,
    write_tensors,
)
from fs_plugins.wire import Tensors, spec_of

OPTIMIZER = "optimizer."  # the names of optimizer state begin so
_ALIGN = 64  # bytes; any type of tensor may begin there


class ClientState(abc.ABC):
    """The parameters that never leave a client, and perhaps more.

    With ``fedsa.state.optimizer`` there is optimizer state beside them,
    named ``optimizer.<kind>.<parameter>``.

    Args:
        initial: the values that every client starts from; shared by all
            clients, never written to.

    Attributes:
        version: how often something new was put in; 0: never, the
            parameters are the initial ones.

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
        found = self._load()
        return {name: found[name] for name in self._initial}

    @property
    def optimizer(self) -> Tensors:
        """Optimizer state as the client left it; nothing at first."""
        found = self._load() if self.version else {}
        return {n: t for n, t in found.items() if n.startswith(OPTIMIZER)}

    def save(self, tensors: Tensors) -> None:
        """Keep a copy of the parameters (and of optimizer state)."""
        self._store(tensors)
        self.version += 1

    def write(self, file: Path) -> None:
        """Put all of it into a file."""
        write_tensors(file, self._load())

    def restore(self, file: Path) -> None:
        """Take all of it from such a file.

        Raises:
            UserError: the file is damaged or of another model; what was
                kept stays.

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
        """All tensors."""

    @abc.abstractmethod
    def _store(self, tensors: Tensors) -> None:
        """Copy all tensors."""


class StateInMemory(ClientState):
    """In pages of its own.

    On the heap, what lives as long as the run would lie between the
    activations that come and go, and keep that memory from being used again.
    A client that has not trained costs nothing.
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
        for name, own in self._load().items():
            own.copy_(tensors[name].detach())

    def _load(self) -> dict[str, torch.Tensor]:
        """Tensors on the client's memory."""
        memory = torch.frombuffer(self._memory, dtype=torch.uint8)
        views, start = {}, 0
        for name, (shape, dtype) in self._spec.items():
            size = shape.numel() * dtype.itemsize
            part = memory[start : start + size]
            views[name] = part.view(dtype).view(shape)
            start += _aligned(size)
        return views


class StateOnDisk(ClientState):
    """In a safetensors file, mapped into memory while it is used.

    Args:
        initial: as for ``ClientState``.
        file: is replaced at each ``save``, never written into.
        cache: holds what was used last.

    """

    def __init__(self, initial: Tensors, file: Path, cache: "Cache") -> None:
        super().__init__(initial)
        self.file = file
        self._cache = cache

    def find(self) -> None:
        """Go on with the file of an earlier process, if there is one.

        Raises:
            UserError: the file is damaged or of another model.

        """
        if not self.file.exists():
            return
        try:
            self._cache.put(self.file, self._read(self.file))
        except UserError as error:
            raise UserError(
                f"{error}; restore it, or remove it to start again from the "
                "initial values"
            ) from error
        self.version += 1

    def write(self, file: Path) -> None:
        """Link the file: no bytes are copied."""
        link_file(self.file, file)

    def restore(self, file: Path) -> None:
        """Link the file, once it was found to be good."""
        found = self._read(file)
        link_file(file, self.file)
        self._cache.put(self.file, found)
        self.version += 1

    def forget(self) -> None:
        """Remove the file."""
        super().forget()
        self._cache.drop(self.file)
        self.file.unlink(missing_ok=True)

    def _load(self) -> Tensors:
        found = self._cache.get(self.file)
        if found is None:
            found = self._read(self.file)
            self._cache.put(self.file, found)
        return found

    def _store(self, tensors: Tensors) -> None:
        self._cache.drop(self.file)
        write_tensors(self.file, tensors)


class Cache:
    """The files that were used last, as far as they fit.

    Args:
        limit: bytes.

    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._files: OrderedDict[Path, Tensors] = OrderedDict()

    def get(self, file: Path) -> Tensors | None:
        """The file's tensors, if they are here."""
        if file in self._files:
            self._files.move_to_end(file)
        return self._files.get(file)

    def put(self, file: Path, tensors: Tensors) -> None:
        """Hold a file; let go of those that were used longest ago."""
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
        """Let go of a file."""
        self.size -= _size(self._files.pop(file, {}))


def cache_for(cfg: Config) -> Cache:
    """An empty one, of the size of ``fedsa.state.cache``, for all clients."""
    return Cache(int(cfg.fedsa.state.cache * 1e6))


def client_state_for(
    client: int, initial: Tensors, cfg: Config, cache: Cache, run: str = ""
) -> ClientState:
    """What a client keeps, where ``fedsa.state`` wants it.

    Args:
        client: its ID.
        initial: the values that every client starts from.
        cfg: the configuration.
        cache: of the files that were used last; one for all clients.
        run: the server's name for a distributed run; its clients are
            processes that may be started again, so theirs are always files.

    """
    if cfg.fedsa.state.backend == "memory" and not run:
        return StateInMemory(initial)
    file = _folder(cfg, run) / f"client_{client}.safetensors"
    return StateOnDisk(initial, file, cache)


def _folder(cfg: Config, run: str) -> Path:
    outdir = Path(cfg.outdir)
    if run and outdir.name.startswith("sub_exp"):
        # The host puts a client that is started again into a folder of its
        # own; the one above is that of the run.
        outdir = outdir.parent
    if not cfg.fedsa.state.folder:
        return outdir / "state" / run
    path = str(outdir.absolute())
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    name = run or f"{outdir.name}_{digest}"
    return Path(cfg.fedsa.state.folder).expanduser() / name


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _padded(tensor: torch.Tensor) -> int:
    return _aligned(tensor.nbytes)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
