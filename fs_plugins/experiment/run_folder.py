"""The files of a run's folder: their names, reading and writing."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fs_plugins.config.load import load_config
from fs_plugins.config.yaml_file import dump
from fs_plugins.errors import UserError
from fs_plugins.experiment.checkpoint_folder import (
    CLIENT,
    ROUND,
    CheckpointFolder,
)
from fs_plugins.experiment.evaluations import (
    as_json,
    as_read,
    is_evaluation,
)
from fs_plugins.experiment.host_results import evaluation_of_host
from fs_plugins.experiment.reading import (
    bytes_in,
    check_path,
    configuration_in,
    evaluations_in,
    is_client_ID,
    is_count,
    json_in,
)
from fs_plugins.experiment.summary import problem_of
from fs_plugins.host.configuration import Config
from fs_plugins.state.files import remove_parts, write_file

Json = dict[str, Any]
Counts = dict[str, dict[str, dict[str, int]]]  # client, split, class

_REMOVE = "remove it, and what else the run's folder holds is reported"
_CHECKSUM = "# sha256 "  # the first line of what was asked for begins so


class RunFolder:
    """The folder of a run, which need not exist yet.

    No other class knows the names of the files in the folder.  Methods that
    read a file raise a ``UserError`` that names the file if it is damaged,
    cannot be read, or does not hold what a run writes.

    Args:
        path: the path of the folder.

    Raises:
        UserError: no folder can have this path, or it is forbidden.

    """

    CONFIG = "config.yaml"
    SUMMARY = "summary.json"
    METRICS = "metrics.jsonl"
    GENERATIONS = "generations.jsonl"
    HOST_RESULTS = "eval_results.log"
    HOST_RAW = "eval_results.raw.gz"  # by FederatedScope itself only
    HOST_RAW_OPEN = "eval_results.raw"  # until it is compressed
    HOST_COSTS = "system_metrics.log"
    LOG = "exp_print.log"
    LABEL_COUNTS = "label_counts.json"
    ADAPTERS = "adapters"
    CHECKPOINTS = "checkpoints"
    CLIENT_STATE = "state"
    TENSORBOARD = "tensorboard"
    LOCK = "lock"
    FILES = (
        *(SUMMARY, METRICS, CONFIG, LABEL_COUNTS, LOG, LOCK, GENERATIONS),
        *(HOST_RESULTS, HOST_RAW, HOST_COSTS),
    )
    FOLDERS = (ADAPTERS, CHECKPOINTS, CLIENT_STATE, TENSORBOARD)
    NAMES = (*FILES, *FOLDERS)
    # The files from which results can be read, the most complete first.
    RESULTS = (SUMMARY, METRICS, HOST_RESULTS)
    GLOBAL = "global"  # the name of the server's adapter
    # the base model with the run's own config.json, beside the adapters
    BASE = "base"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        check_path(self.path)
        self.asked = self.path / self.CHECKPOINTS / "experiment.yaml"
        self.adapters = self.path / self.ADAPTERS
        self.lock = self.path / self.LOCK
        self.log = self.path / self.LOG
        self.generations = self.path / self.GENERATIONS
        self.tensorboard = self.path / self.TENSORBOARD
        # The logs, which a resumed run cuts to the lengths that they had at
        # its checkpoint.
        self.growing = tuple(
            self.path / name
            for name in (
                *(self.METRICS, self.GENERATIONS),
                *(self.HOST_RESULTS, self.HOST_COSTS),
            )
        )

    # the configuration

    def read_config(self) -> Json:
        """The complete configuration; empty if the host has not written it."""
        file = self.path / self.CONFIG
        return configuration_in(file) if file.exists() else {}

    def write_asked(self, tree: Mapping[str, Any]) -> None:
        """Write the configuration that was asked for.

        A run is resumed with this configuration, which has a checksum in its
        first line.
        """
        text = dump(tree)
        digest = hashlib.sha256(text.encode()).hexdigest()
        data = f"{_CHECKSUM}{digest}\n{text}".encode()
        write_file(self.asked, data, private=True)

    def load_asked(self, trust_plugins: bool = False) -> Config:
        """The configuration that the run was begun with.

        Args:
            trust_plugins: whether plugins that it names are imported, which
                executes them.

        Raises:
            UserError: the file is missing or cannot be used, or it names
                plugins that are not trusted.

        """
        self.check_asked()
        return load_config(self.asked, trust_plugins=trust_plugins)

    def check_asked(self) -> None:
        """Refuse a missing or changed file of what was asked for."""
        # Unlike Path.exists, this is False in a folder that is another user's.
        if not os.path.exists(self.asked):
            raise UserError(
                f"{self.path} holds no run to resume, export or analyze "
                f"({self.asked} is missing, or not yours to read)"
            )
        first, _, text = bytes_in(self.asked).partition(b"\n")
        digest = hashlib.sha256(text).hexdigest()
        if first != f"{_CHECKSUM}{digest}".encode():
            raise UserError(
                f"{self.asked} cannot be used: its checksum is wrong; change "
                "the configuration of a run with 'key value' pairs instead"
            )

    # results

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, and so has written a summary."""
        return (self.path / self.SUMMARY).exists()

    @property
    def has_evaluations(self) -> bool:
        """Whether the run has written an evaluation."""
        return (self.path / self.METRICS).exists()

    @property
    def holds_training(self) -> bool:
        """Whether anything that a run has trained or measured is here.

        That is results, adapters, checkpoints, or what a client keeps.
        """
        kept = (self.path / self.CLIENT_STATE).rglob("*.safetensors")
        return (
            self.has_evaluations
            or bool(self.saved_adapters())
            or bool(self.checkpoints())
            or any(kept)
        )

    @property
    def has_results(self) -> bool:
        """Whether there is a file from which results can be read."""
        return any((self.path / name).is_file() for name in self.RESULTS)

    def read_summary(self) -> Json | None:
        """The summary; None if the run has not finished."""
        if not self.is_finished:
            return None
        file = self.path / self.SUMMARY
        summary = json_in(file, _REMOVE)
        problem = problem_of(summary)
        if problem:
            raise UserError(
                f"{file} is no summary of a run that we know: {problem}"
            )
        results = summary["results"]
        read = {name: as_read(e) for name, e in results.items() if e}
        return {**summary, "results": {**results, **read}}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary of a run that has ended."""
        text = json.dumps(as_json(summary), indent=1, allow_nan=False) + "\n"
        write_file(self.path / self.SUMMARY, text.encode())

    def remove_summary(self) -> None:
        """Remove the summary of a run that is continued."""
        (self.path / self.SUMMARY).unlink(missing_ok=True)

    def read_evaluations(self) -> tuple[list[Json], str]:
        """All evaluations, and the name of the file that holds them.

        The evaluations of a run by FederatedScope alone are read from the
        host's log.  Without any file both are empty.
        """
        for name, parse in (
            (self.METRICS, _evaluation_in),
            (self.HOST_RESULTS, _evaluation_of_host),
        ):
            file = self.path / name
            if file.exists():
                return list(evaluations_in(file, parse)), name
        return [], ""

    @property
    def has_metrics(self) -> bool:
        """Whether an evaluation was written."""
        return (self.path / self.METRICS).exists()

    def append_evaluation(self, line: Mapping[str, Any]) -> None:
        """Add a line to the evaluations."""
        with open(self.path / self.METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(as_json(line), allow_nan=False) + "\n")

    def remove_evaluations(self, rnd: int) -> None:
        """Remove the evaluations after a round and the rounds behind it."""
        file = self.path / self.METRICS
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["round"] < rnd]
        write_file(file, "".join(kept).encode())

    # the data

    def read_label_counts(self) -> Counts | None:
        """The number of examples by client, split and class.

        None if the run has not written it.
        """
        file = self.path / self.LABEL_COUNTS
        if not file.exists():
            return None
        counts = json_in(file, _REMOVE)
        if not _are_counts(counts) or not all(map(is_client_ID, counts)):
            raise UserError(f"{file} holds no numbers of examples")
        read: Counts = counts
        return read

    def write_label_counts(self, counts: Mapping[str, Any]) -> None:
        """Write the number of examples by client, split and class.

        An existing file stays as it is: the run is resumed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / self.LABEL_COUNTS
        if not file.exists():
            file.write_text(json.dumps(counts, indent=1), encoding="utf-8")

    # what was trained

    @classmethod
    def adapter_name(cls, client: int, names: Sequence[str] = ()) -> str:
        """The name of a client's adapter, which is that of its folder.

        Args:
            client: the client's ID; 0 stands for the server.
            names: the clients' names, if they have names; a character that
                no folder may have is written as its number.

        """
        if not client:
            return cls.GLOBAL
        return quote(names[client - 1], " ") if names else f"{CLIENT}{client}"

    @classmethod
    def client_of(cls, adapter: str, names: Sequence[str] = ()) -> int:
        """The ID of the client whose adapter has a name; 0 for the server.

        Args:
            adapter: the name of the adapter.
            names: the clients' names, if they have names.

        """
        if names:
            name = unquote(adapter)
            return names.index(name) + 1 if name in names else 0
        number = adapter.removeprefix(CLIENT)
        return int(number) if number.isdecimal() else 0

    def saved_adapters(self) -> dict[str, Path]:
        """The folders of the saved adapters, by name."""
        return {
            path.name: path
            for path in sorted(self.adapters.glob("*"))
            if path.name != self.BASE and not path.name.startswith(".")
        }

    @property
    def are_adapters_newest(self) -> bool:
        """Whether no checkpoint is newer than the saved adapters."""
        return self.is_finished or not self.checkpoints()

    def checkpoint(self, rnd: int) -> CheckpointFolder:
        """The folder of the checkpoint after a round."""
        path = self.path / self.CHECKPOINTS / f"{ROUND}{rnd}"
        return CheckpointFolder(path)

    def checkpoints(self) -> list[CheckpointFolder]:
        """The complete checkpoints, the oldest first."""
        folders = [
            CheckpointFolder(path)
            for path in (self.path / self.CHECKPOINTS).glob(f"{ROUND}*")
            if path.name.removeprefix(ROUND).isdecimal()
        ]
        return sorted(folders, key=lambda folder: folder.round)

    def remove_unfinished_checkpoints(self) -> None:
        """Remove what a crash has left incomplete, checkpoints above all."""
        for part in (self.path / self.CHECKPOINTS).glob("*.part"):
            shutil.rmtree(part, ignore_errors=True)
        for folder in (
            self.path,
            self.asked.parent,
            self.path / self.CLIENT_STATE,
            *self.saved_adapters().values(),
        ):
            remove_parts(folder)


def _evaluation_in(line: str) -> Json:
    value: Json = json.loads(line)
    if not is_evaluation(value):
        raise ValueError("no results")
    return as_read(value)


def _evaluation_of_host(line: str) -> Json | None:
    value = evaluation_of_host(line)
    if value is not None and not is_evaluation(value):
        raise ValueError("no results")
    return value


def _are_counts(value: Any, depth: int = 2) -> bool:
    """Whether a value holds whole numbers by client, split and class."""
    if not isinstance(value, dict):
        return False
    if depth:
        return all(_are_counts(entry, depth - 1) for entry in value.values())
    return all(map(is_count, value.values()))
