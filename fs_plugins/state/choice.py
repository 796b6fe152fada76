"""Chooses where a client's state is kept, as ``fedsa.state`` says."""

import hashlib
from pathlib import Path

from fs_plugins.host.configuration import Config
from fs_plugins.state.client_state import (
    Cache,
    ClientState,
    StateInMemory,
    StateOnDisk,
)
from fs_plugins.state.files import ensure_private, write_file
from fs_plugins.state.process_state import StateOfProcess
from fs_plugins.wire import Tensors

_FOLDER = "state"
_NEWEST = "run"  # holds the name of the run that was taken part in last


def cache_for(cfg: Config) -> Cache:
    """An empty cache of ``fedsa.state.cache`` megabytes, for all clients."""
    return Cache(int(cfg.fedsa.state.cache * 1e6))


def client_state_for(
    client: int, initial: Tensors, cfg: Config, cache: Cache, run: str = ""
) -> ClientState:
    """The state of a client, in memory or on disk as ``fedsa.state`` says.

    Args:
        client: the client's ID.
        initial: the values that every client starts from.
        cfg: the configuration.
        cache: the cache of files, which all clients share.
        run: the server's name for a distributed run, or ``""``.  The clients
            of a distributed run are processes that may be started again, so
            that their state is always on disk.

    """
    if cfg.fedsa.state.backend == "memory" and not run:
        return StateInMemory(initial)
    file = _folder(cfg, run) / f"client_{client}.safetensors"
    kind = StateOfProcess if run else StateOnDisk
    return kind(initial, file, cache)


def remember_run(cfg: Config, run: str) -> None:
    """Note in a client's folder which distributed run it takes part in.

    Args:
        cfg: the configuration.
        run: the server's name for the run.

    """
    note = _note(cfg)
    ensure_private(note.parent)
    write_file(note, run.encode(), private=True)


def state_of_last_run(
    client: int, initial: Tensors, cfg: Config
) -> StateOfProcess | None:
    """The state of a client in the distributed run that it joined last.

    Args:
        client: the client's ID.
        initial: the values that every client starts from.
        cfg: the configuration.

    Returns:
        The state, which is not read yet; None if the client joined no run.

    """
    note = _note(cfg)
    if not note.exists():
        return None
    run = note.read_text(encoding="utf-8")
    file = _folder(cfg, run) / f"client_{client}.safetensors"
    return StateOfProcess(initial, file, cache_for(cfg))


def _note(cfg: Config) -> Path:
    return _outdir(cfg) / _FOLDER / _NEWEST


def _outdir(cfg: Config) -> Path:
    """The run's folder, which all processes of a client have in common."""
    outdir = Path(cfg.outdir)
    # FederatedScope gives a client that is started again a new folder below
    # the folder of the run.
    return outdir.parent if outdir.name.startswith("sub_exp") else outdir


def _folder(cfg: Config, run: str) -> Path:
    """The folder of the clients' files in a run."""
    outdir = _outdir(cfg) if run else Path(cfg.outdir)
    if not cfg.fedsa.state.folder:
        return outdir / _FOLDER / run
    path = str(outdir.absolute())
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    name = run or f"{outdir.name}_{digest}"
    return Path(cfg.fedsa.state.folder).expanduser() / name
