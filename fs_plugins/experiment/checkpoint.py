"""Checkpoints: the whole state of a run between two rounds."""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fs_plugins.errors import UserError
from fs_plugins.experiment.checkpoint_folder import CheckpointFolder
from fs_plugins.experiment.digests import (
    data_of,
    digests_of,
    digests_of_files,
)
from fs_plugins.experiment.growing import GrowingFile
from fs_plugins.experiment.reading import digest_of, json_in
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.states import (
    joined,
    restore_worker,
    split,
    state_of_worker,
)
from fs_plugins.host.protocols import Runner, Worker
from fs_plugins.listeners import Listener
from fs_plugins.seeds import random_states, restore_random_states
from fs_plugins.state import ClientState
from fs_plugins.state.files import (
    ensure_private,
    link_file,
    read_tensors,
    sync_folder,
    write_file,
    write_tensors,
)
from fs_plugins.wire import WireError, check_tensors, spec_of
from fs_plugins.worker.ours import clients_of, is_our_server, our_clients

_SCHEMA = 3  # the version of state.json


class Checkpoints(Listener):
    """Writes the checkpoints of a run, and restores the newest one.

    A checkpoint is the state after a number of rounds: the global parameters
    and all else that the aggregator carries from round to round, what each
    client keeps, the states of all random generators, best results,
    counters, and lengths and checksums of the logs.  The random numbers of a
    client depend on seed, client and round alone, so data loaders have no
    state.
    A checkpoint appears under its name only when it is complete.  A file that
    has not changed since the previous checkpoint is a link to it.

    In distributed mode the checkpoints are those of the server, which knows
    the run's name and not what clients keep.  There is one more of them
    before the first round, so that the name is never lost, and one after the
    last round, before the clients are told that it was the last.

    Args:
        runner: a runner of either host that has not run yet and has a
            server.
        recorder: the recorder of the run.

    """

    def __init__(self, runner: Runner, recorder: Recorder) -> None:
        self._runner = runner
        self._recorder = recorder
        self._files = RunFolder(runner.cfg.outdir)
        self._keep = runner.cfg.fedsa.checkpoint.keep
        # Plugins are read now, as the files may change during the run.
        self._plugins = digests_of_files(runner.cfg.fedsa.plugins)
        self._logs = [GrowingFile(path) for path in self._files.growing]
        # The newest checkpoint, and the version of each client's state in it.
        self._newest: CheckpointFolder | None = None
        self._waiting: Mapping[str, Any] | None = None
        self._versions: dict[int, int] = {}

    def write(self) -> CheckpointFolder:
        """Write a checkpoint of the present state, and return its folder.

        Raises:
            OSError: the disk is full; earlier checkpoints stay.

        """
        server = self._runner.server
        folder = self._files.checkpoint(server.state)
        if folder.path.exists():  # restored from, or just written
            return folder
        part = folder.unfinished()
        shutil.rmtree(part.path, ignore_errors=True)
        ensure_private(part.path.parent)
        part.path.mkdir(mode=0o700)
        try:
            versions = self._write_clients(part)
            write_tensors(part.server, self._tensors())
            logs = {log.path.name: log.mark() for log in self._logs}
            state = self._facts() | {"kept": sorted(versions), "logs": logs}
            text = json.dumps(state, default=lambda number: number.item())
            whole = {"sha256": digest_of(json.loads(text)), "state": state}
            text = json.dumps(whole, default=lambda number: number.item())
            write_file(part.state, text.encode(), private=True)
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
        """Write a checkpoint after every ``fedsa.checkpoint.every`` rounds."""
        every = self._runner.cfg.fedsa.checkpoint.every
        if every and rnd % every == 0:
            self.write()

    def clients_leave(self) -> None:
        """Write a checkpoint, as no client is there to repeat the round."""
        cfg = self._runner.cfg
        is_last = self._runner.server.state == cfg.federate.total_round_num
        if cfg.fedsa.checkpoint.every and is_last:
            self.write()

    def _write_clients(self, part: CheckpointFolder) -> dict[int, int]:
        """Write what clients keep, and return its version by client."""
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
        """Restore the newest checkpoint; without one, remove the logs.

        Args:
            force: whether data, base model and plugins may have changed.

        Returns:
            The number of rounds that are over.

        Raises:
            UserError: the checkpoint is damaged, or of another run.

        """
        self._files.remove_unfinished_checkpoints()
        checkpoints = self._files.checkpoints()
        if not checkpoints:
            for log in self._files.growing:
                log.unlink(missing_ok=True)
            return 0
        folder, *earlier = reversed(checkpoints)
        with self._advice_on(folder, earlier):
            state = _read_state(folder)
        self._check_sizes(state["data"])
        if not force:
            self._check_digests(state.get("digests", {}))
        with self._advice_on(folder, earlier):
            return self._restore(folder, state)

    @contextlib.contextmanager
    def _advice_on(
        self, folder: CheckpointFolder, earlier: Sequence[CheckpointFolder]
    ) -> Iterator[None]:
        """Add to an error what can be done about a damaged checkpoint.

        To remove it is advised only if an earlier one is whole.
        """
        try:
            yield
        except UserError as error:
            whole = next(filter(self._is_whole, earlier), None)
            advice = "repair it"
            if whole is not None:
                advice += (
                    f", or remove {folder.path} to go on from "
                    f"{whole.path.name}"
                )
            raise UserError(f"{error}; {advice}") from error

    def _is_whole(self, folder: CheckpointFolder) -> bool:
        """Whether a run could go on from a checkpoint."""
        try:
            state = _read_state(folder)
            for log in self._logs:
                log.check(state["logs"][log.path.name])
            read_tensors(folder.server)
            for ID in state["kept"]:
                read_tensors(folder.client(ID))
        except UserError:
            return False
        return True

    def _check_sizes(self, known: Mapping[str, Any]) -> None:
        for ID, size in _sizes_of(data_of(self._runner)).items():
            had = known.get(str(ID))
            if had != size:
                raise UserError(
                    f"the data are not those of the run: client {ID} has "
                    f"{size} examples to train, validate and test, and had "
                    f"{had}"
                )

    def _check_digests(self, known: Mapping[str, str]) -> None:
        for name, digest in self._digests.items():
            if known.get(name, digest) != digest:
                raise UserError(
                    f"since the last checkpoint {name} changed; put back what "
                    "was there, or add --force"
                )

    @cached_property
    def _digests(self) -> dict[str, str]:
        return digests_of(self._runner) | self._plugins

    def _restore(
        self, folder: CheckpointFolder, state: Mapping[str, Any]
    ) -> int:
        server = self._runner.server
        for log in self._logs:
            log.check(state["logs"][log.path.name])
        self.restore_parameters(folder)
        for log in self._logs:
            log.cut(state["logs"][log.path.name])
        server.state = state["round"]
        if is_our_server(server):
            server.refusals = state["refusals"]
            server.run_name = state.get("run", server.run_name)
            # Clients of their own processes may know less by now.
            server.known_rounds = {
                int(ID): rounds
                for ID, rounds in state["known_rounds"].items()
                if int(ID) in self._kept()
            }
        self._recorder.restore(state["recorder"])
        self._newest = folder
        # The clients have yet to join.  This changes counters that already
        # include it, so they are restored after it.
        self._waiting = state
        return int(state["round"])

    def clients_joined(self) -> None:
        """Restore the counters that joining has changed."""
        if self._waiting is None:
            if self._is_distributed:
                self.round_ends(0)
        else:
            for ID, worker in self._workers().items():
                restore_worker(worker, self._waiting["workers"][str(ID)])
            restore_random_states(self._waiting["random"])
            self._waiting = None

    def restore_parameters(self, folder: CheckpointFolder) -> None:
        """Restore the parameters of a checkpoint, and nothing else.

        Raises:
            UserError: the checkpoint is damaged, or of another run.

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
            "refusals": ours.refusals if ours else {},
            "run": ours.run_name if ours else "",
            "known_rounds": ours.known_rounds if ours else {},
            "workers": {
                ID: state_of_worker(w) for ID, w in self._workers().items()
            },
            "data": _sizes_of(data_of(self._runner)),
            "digests": self._digests,
            "random": random_states(),
            "recorder": self._recorder.state(),
        }

    def _workers(self) -> dict[int, Worker]:
        return {0: self._runner.server, **clients_of(self._runner)}

    @property
    def _is_distributed(self) -> bool:
        return self._runner.mode == "distributed"

    def _kept(self) -> dict[int, ClientState]:
        """What each client keeps; empty with the host's own workers."""
        clients = our_clients(self._runner)
        return {ID: client.kept for ID, client in clients.items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The tensors that the aggregator carries from round to round.

        With the host's own workers, the participants' models.
        """
        server = self._runner.server
        if is_our_server(server):
            return joined(server.aggregator.state())
        return joined(
            {str(ID): model.state_dict() for ID, model in self._models()}
        )

    def _models(self) -> Iterable[tuple[int, Any]]:
        """The models of the host's own workers, each model once."""
        seen = set()
        for ID, worker in self._workers().items():
            if id(worker.model) not in seen:
                seen.add(id(worker.model))
                yield ID, worker.model

    def _restore_tensors(self, file: Path) -> None:
        tensors = read_tensors(file)
        expected = self._tensors()
        try:
            # An aggregator may carry more tensors later than at the start.
            known = {n: tensors[n] for n in expected if n in tensors}
            check_tensors(known, spec_of(expected))
        except WireError as error:
            raise UserError(f"{file} is of another run: {error}") from error
        server = self._runner.server
        groups = split(tensors)
        if is_our_server(server):
            server.aggregator.restore(groups)
            return
        for ID, model in self._models():
            model.load_state_dict(groups.get(str(ID), {}), strict=False)


def _read_state(folder: CheckpointFolder) -> dict[str, Any]:
    file = folder.state
    whole = json_in(file)
    if not isinstance(whole, dict) or {*whole} != {"sha256", "state"}:
        raise UserError(f"{file} cannot be used: it is of another version")
    state: dict[str, Any] = whole["state"]
    if whole["sha256"] != digest_of(state):
        raise UserError(f"{file} cannot be used: its checksum is wrong")
    if not isinstance(state, dict) or state.get("schema") != _SCHEMA:
        raise UserError(f"{file} cannot be used: it is of another version")
    state["logs"].setdefault(RunFolder.GENERATIONS, [0, 0])  # of old runs
    return state


def _sizes_of(data: Any) -> dict[int, list[int]]:
    """The numbers of training, validation and test examples, by client."""
    return {
        ID: [
            len(getattr(client_data, f"{split}_data", None) or ())
            for split in ("train", "val", "test")
        ]
        for ID, client_data in data.items()
        if ID and client_data is not None
    }
