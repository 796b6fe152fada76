"""Runs, as their folders tell of them."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fs_plugins.config.yaml_file import flatten
from fs_plugins.errors import UserError
from fs_plugins.experiment.evaluations import leading_metric, worst_of
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.saved_models import load_adapted
from fs_plugins.experiment.summary import summary_so_far


def as_frame(rows: list[dict[str, Any]]) -> Any:
    """The rows as a ``pandas.DataFrame``, if pandas is installed."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


@dataclass(frozen=True)
class Run:
    """A run, finished or not, as it was when its folder was read.

    Attributes:
        name: what it is called; runs that differ in their seed alone share
            it.
        folder: where it is.
        summary: what the run's summary holds.  For a run without one it is
            what the other files tell, and None elsewhere.
        curve: all evaluations: ``round``, ``weighted``, ``mean``,
            ``clients``, ``uplink_bytes`` and ``downlink_bytes``.
        labels: how many examples of each class each client has, by split;
            None if the run has not noted it.
        source: the name of the file that the results are from.
        config: the whole configuration, as YAML has it; empty if the host
            has not written it.

    """

    name: str
    folder: Path
    summary: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] | None = None
    source: str = RunFolder.SUMMARY
    config: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration's values, by keys such as ``federate.method``."""
        return dict(flatten(self.config))

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.source == RunFolder.SUMMARY

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.summary["seed"])

    @property
    def last(self) -> dict[str, Any]:
        """The results of the last evaluation; empty before the first."""
        return self._results("last")

    @property
    def best(self) -> dict[str, Any]:
        """The results of the round that was best on validation, so far."""
        return self._results("best")

    def _results(self, which: str) -> dict[str, Any]:
        found: dict[str, Any] | None = self.summary["results"][which]
        return found or {"weighted": {}, "mean": {}, "clients": {}}

    @property
    def metric(self) -> str:
        """The test metric that the run is judged by, ``test_acc`` say."""
        return leading_metric(self.last["weighted"], "test") or "test_avg_loss"

    @property
    def union_metric(self) -> str:
        """The same on everyone's test shard; empty if it wasn't asked for."""
        return leading_metric(self.last["weighted"], "union") or ""

    @property
    def metrics(self) -> Any:
        """All evaluations as a table, one row for each.

        Returns:
            A ``pandas.DataFrame`` if pandas is installed, else the same rows
            as a list of dictionaries.  The columns are ``round``, each
            result weighted by examples (``test_acc``), its plain mean over
            clients (``mean_test_acc``), and ``uplink_bytes`` and
            ``downlink_bytes`` as far as they are known.

        """
        rows = [
            {"round": line["round"]}
            | line["weighted"]
            | {f"mean_{key}": value for key, value in line["mean"].items()}
            | {k: v for k, v in line.items() if k.endswith("_bytes")}
            for line in self.curve
        ]
        return as_frame(rows)

    def of_clients(self) -> dict[str, float]:
        """The last value of ``metric`` of every client that has it, by ID."""
        return {
            ID: results[self.metric]
            for ID, results in self.last.get("clients", {}).items()
            if self.metric in results
        }

    def worst_client(self) -> str | None:
        """The ID of the client with the worst value; None if unknown."""
        return worst_of(self.of_clients(), self.metric)

    def worst(self) -> float | None:
        """The value of ``metric`` of the worst client; None if unknown."""
        return self.of_clients().get(self.worst_client() or "")

    @property
    def clients(self) -> list[int]:
        """The IDs of the clients, of which the first is 1."""
        found = {int(ID) for ID in self.last["clients"]}
        found |= {
            RunFolder.client_of(name)
            for name in RunFolder(self.folder).saved_adapters()
        }
        found -= {0}  # what the server has evaluated or knows
        number = self.summary["clients"]
        count = number if isinstance(number, int) else 0
        return sorted(found) or list(range(1, count + 1))

    def client(self, ID: int) -> "TrainedClient":
        """One of the clients.

        Args:
            ID: one of ``clients``.

        Raises:
            UserError: there is no such client.

        """
        if ID not in self.clients:
            known = ", ".join(map(str, self.clients)) or "none"
            raise UserError(
                f"{self.folder}: there is no client {ID!r}; known are {known}"
            )
        return TrainedClient(self, ID)

    @property
    def adapter(self) -> Path:
        """The folder of the adapter that holds what the server knows.

        Where clients keep something it lacks that part: with FedSA it has
        the shared A, and B at zero.

        Raises:
            UserError: there is none.

        """
        return self._adapter_of(0)

    def global_model(self, base: Any = None) -> Any:
        """The base model with ``adapter``, loaded by PEFT.

        Args:
            base: the base model, if it was handed to the run in place of a
                checkpoint's name: as it was before the run.

        Raises:
            UserError: there is no such adapter, or it cannot be loaded.

        """
        return load_adapted(self.config, self.adapter, base)

    def _adapter_of(self, client: int) -> Path:
        files = RunFolder(self.folder)
        if not files.are_adapters_newest:
            raise UserError(
                f"{self.folder}: the run has not finished; 'fedsa run "
                f"--resume {self.folder}' goes on with it, and 'fedsa "
                "export' writes the adapters of its newest checkpoint"
            )
        name, saved = RunFolder.adapter_name(client), files.saved_adapters()
        if name not in saved:
            has = ", ".join(saved) or "nothing"
            raise UserError(
                f"{self.folder}: no adapter {name!r} was saved; there is {has}"
            )
        return saved[name]


@dataclass(frozen=True)
class TrainedClient:
    """A client of a run, as the run has left it.

    Attributes:
        run: the run.
        ID: the client's ID.

    """

    run: Run
    ID: int

    @property
    def results(self) -> dict[str, float]:
        """The client's last results; empty if it has none of its own."""
        found: dict[str, float] = self.run.last["clients"].get(
            str(self.ID), {}
        )
        return found

    @property
    def adapter(self) -> Path:
        """The folder of the client's adapter, its head included.

        Raises:
            UserError: there is none.

        """
        return self.run._adapter_of(self.ID)

    def model(self, base: Any = None) -> Any:
        """The base model with the client's adapter, loaded by PEFT.

        Args:
            base: the base model, if it was handed to the run in place of a
                checkpoint's name: as it was before the run.

        Raises:
            UserError: there is no such adapter, it cannot be loaded, or it
                is one of two.

        """
        return load_adapted(self.run.config, self.adapter, base)


def load_run(folder: str | Path, name: str = "") -> Run:
    """Read what a run has left, from the best file that there is.

    Args:
        folder: the run's.
        name: what to call it; by default as its folder, without the seed.

    Raises:
        UserError: there is no run, or one of its files is damaged.

    """
    files = RunFolder(folder)
    config = files.read_config()
    curve, source = files.read_evaluations()
    summary = files.read_summary()
    if not config and not files.has_results:
        raise UserError(
            f"{files.path} holds no run: it has no {RunFolder.CONFIG}"
        )
    if summary is not None:
        source = RunFolder.SUMMARY
    else:
        summary = summary_so_far(config, curve)
    if not isinstance(summary["seed"], int):
        raise UserError(
            f"{files.path}: its configuration has a seed that is no number"
        )
    return Run(
        name or name_without_seed(files.path.resolve().name),
        files.path,
        summary,
        curve,
        files.read_label_counts(),
        source,
        config,
    )


def name_without_seed(name: str) -> str:
    """The name that runs share which differ in their seed alone."""
    return re.sub(r"_seed\d+$", "", name)
