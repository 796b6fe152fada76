"""The whole state of a standalone run, on disk, between its rounds."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fs_plugins.errors import UserError
from fs_plugins.experiment.digests import digests_of, digests_of_files
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.run_folder import CheckpointFolder, RunFolder
from fs_plugins.host.protocols import Runner, Worker
from fs_plugins.listeners import Listener
from fs_plugins.seeds import random_states, restore_random_states
from fs_plugins.state import ClientState
from fs_plugins.state.files import (
    link_file,
    read_tensors,
    sync_folder,
    write_file,
    write_tensors,
)
from fs_plugins.wire import Tensors, WireError, check_tensors, spec_of
from fs_plugins.worker.ours import is_our_server, our_clients

_SCHEMA = 1  # of what is no tensor
# What a worker's monitor counts, on either host.
_COUNTERS = (
    "total_model_size",
    "total_flops",
    "flop_count",
    "flops_per_sample",
    "total_upload_bytes",
    "total_download_bytes",
    "global_convergence_round",
    "local_convergence_round",
)
_STOPPER = ("counter_no_improve", "best_metric", "early_stopped")


class Checkpoints(Listener):
    """Writes a run's checkpoints and takes one up again.

    A checkpoint is the state after a number of rounds: the global parameters
    and what else the aggregator carries from round to round, what each client
    keeps, all random-number states, best results, counters, and the lengths
    of the logs.  What a client draws depends on seed, client and round alone,
    so no loader has a state.  A checkpoint appears under its name at once,
    complete; what has not changed since the one before is a link to it, so
    that it costs no bytes.

    Args:
        runner: a runner of either host, standalone, not yet run.
        recorder: the run's.

    """

    def __init__(self, runner: Runner, recorder: Recorder) -> None:
        self._runner = runner
        self._recorder = recorder
        self._files = RunFolder(runner.cfg.outdir)
        self._keep = runner.cfg.fedsa.checkpoint.keep
        # at once: the files may change while the run goes on
        self._plugins = digests_of_files(runner.cfg.fedsa.plugins)
        # The newest one, and which version of each client's is in it.
        self._newest: CheckpointFolder | None = None
        self._waiting: Mapping[str, Any] | None = None
        self._versions: dict[int, int] = {}

    def write(self) -> CheckpointFolder:
        """Write a checkpoint of the present; returns its folder.

        Raises:
            OSError: there is no room; earlier ones stay.

        """
        server = self._runner.server
        folder = self._files.checkpoint(server.state)
        if folder.path.exists():  # resumed from, or written at this round
            return folder
        part = folder.unfinished()
        shutil.rmtree(part.path, ignore_errors=True)
        part.path.mkdir(parents=True)
        try:
            versions = self._write_clients(part)
            write_tensors(part.server, self._tensors())
            logs = {log.name: _synced_size(log) for log in self._files.growing}
            state = self._facts() | {"kept": sorted(versions), "logs": logs}
            text = json.dumps(state, default=lambda number: number.item())
            write_file(part.state, text.encode())
            sync_folder(part.path)
            part.path.replace(folder.path)
            sync_folder(folder.path.parent)
        except OSError:
            shutil.rmtree(part.path, ignore_errors=True)
            raise
        self._newest, self._versions = folder, versions
        for old in self._files.checkpoints()[: -self._keep]:
            old.remove()
        return folder

    def round_ends(self, rnd: int) -> None:
        """Write one, if it is time."""
        every = self._runner.cfg.fedsa.checkpoint.every
        if every and rnd % every == 0:
            self.write()

    def _write_clients(self, part: CheckpointFolder) -> dict[int, int]:
        """What clients keep; returns its version by client."""
        versions = {}
        for ID, kept in self._kept().items():
            if not kept.version:
                continue
            versions[ID] = kept.version
            if self._newest and self._versions.get(ID) == kept.version:
                link_file(self._newest.client(ID), part.client(ID))
            else:
                kept.write(part.client(ID))
        return versions

    def restore(self, force: bool = False) -> int:
        """Take up the newest checkpoint; returns how many rounds it knows.

        Without one the run begins with its first round.

        Args:
            force: data, base model and plugins may have changed.

        Raises:
            UserError: the checkpoint is damaged, or not of this run.

        """
        self._files.remove_unfinished_checkpoints()
        found = self._files.checkpoints()
        if not found:
            for log in self._files.growing:
                log.unlink(missing_ok=True)
            return 0
        folder, *earlier = reversed(found)
        with _advice_on(folder, earlier):
            state = _read_state(folder)
        self._check_sizes(state["data"])
        if not force:
            self._check_digests(state.get("digests", {}))
        with _advice_on(folder, earlier):
            return self._restore(folder, state)

    def _check_sizes(self, known: Mapping[str, Any]) -> None:
        for ID, size in _sizes_of(self._runner.data).items():
            had = known.get(str(ID))
            if had != size:
                raise UserError(
                    f"the data are not those of the run: client {ID} has "
                    f"{size} examples to train, validate and test, and had "
                    f"{had}"
                )

    def _check_digests(self, known: Mapping[str, str]) -> None:
        for what, digest in self._digests.items():
            if known.get(what, digest) != digest:
                raise UserError(
                    f"since the last checkpoint {what} changed; put back what "
                    "was there, or add --force"
                )

    @cached_property
    def _digests(self) -> dict[str, str]:
        return digests_of(self._runner) | self._plugins

    def _restore(
        self, folder: CheckpointFolder, state: Mapping[str, Any]
    ) -> int:
        server = self._runner.server
        self.restore_parameters(folder)
        for log in self._files.growing:
            _cut(log, state["logs"][log.name])
        server.state = state["round"]
        if is_our_server(server):
            server.rejected_updates = state["rejected_updates"]
            server.known_rounds = {
                int(ID): rounds for ID, rounds in state["known_rounds"].items()
            }
        self._recorder.restore(state["recorder"])
        self._newest = folder
        # The clients are yet to join, which is counted, and was before.
        self._waiting = state
        return int(state["round"])

    def clients_joined(self) -> None:
        """Restore what joining would have counted."""
        if self._waiting is not None:
            for ID, worker in self._workers().items():
                _restore_worker(worker, self._waiting["workers"][str(ID)])
            restore_random_states(self._waiting["random"])
            self._waiting = None

    def restore_parameters(self, folder: CheckpointFolder) -> None:
        """Take up what is trained, and nothing else, of a checkpoint.

        Raises:
            UserError: it is damaged, or not of this run.

        """
        known = _read_state(folder)["kept"]
        self._restore_tensors(folder.server)
        for ID, kept in self._kept().items():
            if ID in known:
                kept.restore(folder.client(ID))
                self._versions[ID] = kept.version
            else:
                kept.forget()

    def _facts(self) -> dict[str, Any]:
        server = self._runner.server
        ours = server if is_our_server(server) else None
        return {
            "schema": _SCHEMA,
            "round": server.state,
            "rejected_updates": ours.rejected_updates if ours else 0,
            "known_rounds": ours.known_rounds if ours else {},
            "workers": {
                ID: _state_of_worker(w) for ID, w in self._workers().items()
            },
            "data": _sizes_of(self._runner.data),
            "digests": self._digests,
            "random": random_states(),
            "recorder": self._recorder.state(),
        }

    def _workers(self) -> dict[int, Worker]:
        return {0: self._runner.server, **self._runner.client}

    def _kept(self) -> dict[int, ClientState]:
        """By client; nothing with the host's own workers."""
        return {ID: c.kept for ID, c in our_clients(self._runner).items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """What the aggregator carries; or the models of the host's workers.

        With those, each participant's model is its state.
        """
        server = self._runner.server
        if is_our_server(server):
            return _joined(server.aggregator.state())
        return _joined(
            {str(ID): model.state_dict() for ID, model in self._models()}
        )

    def _models(self) -> Iterable[tuple[int, Any]]:
        """The different models of the host's own workers."""
        seen = set()
        for ID, worker in self._workers().items():
            if id(worker.model) not in seen:
                seen.add(id(worker.model))
                yield ID, worker.model

    def _restore_tensors(self, file: Path) -> None:
        found = read_tensors(file)
        expected = self._tensors()
        try:
            # An aggregator may carry more than it begins with.
            known = {name: found[name] for name in expected if name in found}
            check_tensors(known, spec_of(expected))
        except WireError as error:
            raise UserError(f"{file} is of another run: {error}") from error
        server = self._runner.server
        groups = _split(found)
        if is_our_server(server):
            server.aggregator.restore(groups)
            return
        for ID, model in self._models():
            model.load_state_dict(groups.get(str(ID), {}), strict=False)


@contextlib.contextmanager
def _advice_on(
    folder: CheckpointFolder, earlier: Sequence[CheckpointFolder]
) -> Iterator[None]:
    """Says what can be done if a checkpoint is no good."""
    try:
        yield
    except UserError as error:
        others = f" to go on from {earlier[0].path.name}" if earlier else ""
        raise UserError(
            f"{error}; repair it, or remove {folder.path}{others}"
        ) from error


def _read_state(folder: CheckpointFolder) -> dict[str, Any]:
    file = folder.state
    try:
        state: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    if not isinstance(state, dict) or state.get("schema") != _SCHEMA:
        raise UserError(f"{file} cannot be used: it is of another version")
    return state


def _joined(groups: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    return {
        f"{group}/{name}": tensor
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def _split(tensors: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for joined, tensor in tensors.items():
        group, _, name = joined.partition("/")
        # A copy: the file may be replaced while the tensor is in use.
        groups.setdefault(group, {})[name] = tensor.clone()
    return groups


def _state_of_worker(worker: Worker) -> dict[str, Any]:
    stopper = worker.early_stopper
    # A client's history matters if it can stop early, the server's always.
    remembers = worker.ID == 0 or stopper.patience > 0
    return {
        "state": worker.state,
        "best": worker.best_results,
        "history": worker.history_results if remembers else {},
        "stopper": _present(stopper, _STOPPER),
        "counters": _present(worker._monitor, _COUNTERS),
    }


def _restore_worker(worker: Worker, state: Mapping[str, Any]) -> None:
    worker.state = state["state"]
    worker.best_results = state["best"]
    worker.history_results = state["history"]
    for thing, values in (
        (worker.early_stopper, state["stopper"]),
        (worker._monitor, state["counters"]),
    ):
        for name, value in values.items():
            setattr(thing, name, value)


def _present(thing: Any, names: Iterable[str]) -> dict[str, Any]:
    return {n: getattr(thing, n) for n in names if hasattr(thing, n)}


def _sizes_of(data: Any) -> dict[int, list[int]]:
    """Examples to train, validate and test, by client."""
    return {
        ID: [
            len(getattr(own, f"{split}_data", None) or ())
            for split in ("train", "val", "test")
        ]
        for ID, own in data.items()
        if ID and own is not None
    }


def _synced_size(log: Path) -> int:
    """Its length, once all of it is on the disk."""
    with contextlib.suppress(FileNotFoundError), open(log, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size
    return 0


def _cut(log: Path, size: int) -> None:
    """Drop what a log has got since the checkpoint.

    Raises:
        UserError: the log is shorter than it was.

    """
    now = log.stat().st_size if log.exists() else 0
    if now < size:
        raise UserError(
            f"{log} has {now} bytes and had {size} at the checkpoint"
        )
    if now > size:
        os.truncate(log, size)
