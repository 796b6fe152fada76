"""Reads runs from their folders."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

from fs_plugins.config.kinds import kind_like
from fs_plugins.config.yaml_file import flatten
from fs_plugins.errors import UserError, shown
from fs_plugins.experiment.evaluations import leading_metric, worst_of
from fs_plugins.experiment.reading import is_client_ID, is_count
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.saved_models import load_adapted
from fs_plugins.experiment.summary import summary_so_far

_FEW_CLIENTS = 20  # all of which a sentence lists
_MOST_CLIENTS = 10**6  # of which a list can be made


def as_frame(rows: list[dict[str, Any]]) -> Any:
    """The rows as a ``pandas.DataFrame``, if pandas is installed."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


@dataclass(frozen=True, repr=False)
class Run:
    """A run, finished or not, as it was when its folder was read.

    Attributes:
        name: the name of the run, which runs that differ in their seed alone
            share.
        folder: the run's folder.
        summary: the content of the run's summary.  For a run without a
            summary it is made from the other files; values that these lack
            are None.
        curve: all evaluations, with ``round``, ``weighted``, ``mean``,
            ``clients``, ``uplink_bytes`` and ``downlink_bytes``.
        labels: the number of examples by client, split and class; None if
            the run has not written it.
        source: the name of the file from which the results were read.
        config: the complete configuration as nested mappings; empty if the
            host has not written it.

    """

    name: str
    folder: Path
    summary: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] | None = None
    source: str = RunFolder.SUMMARY
    config: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        metric = self.last["weighted"].get(self.metric)
        said = "" if metric is None else f", {self.metric} {metric:.4g}"
        done = self.last.get("round", 0)
        return (
            f"<Run {self.name!r} in {str(self.folder)!r}: round {done} of "
            f"{self.summary['rounds']}{said}>"
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration's values, by keys such as ``federate.method``."""
        return dict(flatten(self.config))

    def setting(self, key: str, default: Any) -> Any:
        """A value of the configuration, of the type of another value.

        Args:
            key: the key, such as ``federate.method``.
            default: a value of the type that the key has.

        Raises:
            UserError: the configuration lacks the key, or it has a value of
                another type.

        """
        return kind_like(default).read(
            f"{self.folder / RunFolder.CONFIG}: {key}", self.settings.get(key)
        )

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, and so has written a summary."""
        return self.source == RunFolder.SUMMARY

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.summary["seed"])

    @property
    def own_client(self) -> int:
        """The client whose own folder this is; 0 for the whole run's.

        In distributed mode each client has a folder with its own results.
        """
        is_own = (
            str(self.settings.get("federate.mode")).lower() == "distributed"
            and self.settings.get("distribute.role") == "client"
        )
        number = self.settings.get("distribute.data_idx")
        return number if is_own and is_count(number) else 0

    @property
    def last(self) -> dict[str, Any]:
        """The results of the last evaluation; empty before the first."""
        return self._results("last")

    @property
    def best(self) -> dict[str, Any]:
        """The results of the round that was best on validation, so far."""
        return self._results("best")

    def _results(self, which: str) -> dict[str, Any]:
        results: dict[str, Any] | None = self.summary["results"][which]
        return results or {"weighted": {}, "mean": {}, "clients": {}}

    @property
    def metric(self) -> str:
        """The leading metric on the test split, such as ``test_acc``."""
        return leading_metric(self.last["weighted"], "test") or "test_avg_loss"

    @property
    def union_metric(self) -> str:
        """The leading metric on the test shards of all clients together.

        Empty if ``eval.split`` does not contain ``union``.
        """
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
        """Each client's last value of ``metric``, by the client's ID."""
        return {
            ID: results[self.metric]
            for ID, results in self.last.get("clients", {}).items()
            if self.metric in results
        }

    def worst_client(self) -> str | None:
        """The ID of the client with the worst value of ``metric``.

        None if no client has results of its own.
        """
        return worst_of(self.of_clients(), self.metric)

    def worst(self) -> float | None:
        """The worst client's value of ``metric``.

        None if no client has results of its own.
        """
        return self.of_clients().get(self.worst_client() or "")

    @property
    def clients(self) -> list[int]:
        """The IDs of the clients, which count from 1."""
        IDs = {int(ID) for ID in self.last["clients"]}
        IDs |= {
            RunFolder.client_of(name, self.names)
            for name in RunFolder(self.folder).saved_adapters()
        }
        IDs -= {0}  # the server
        return sorted(IDs) or list(range(1, (self._count or 0) + 1))

    @property
    def _count(self) -> int | None:
        """How many clients the run has; None if it is unknown, or absurd."""
        number: int | None = self.summary["clients"]
        return number if number and number <= _MOST_CLIENTS else None

    @cached_property
    def names(self) -> list[str]:
        """The clients' names, in the order of their IDs.

        Empty if the clients have none but their numbers.
        """
        names = self.settings.get("fedsa.data.clients") or []
        return list(map(str, names)) if isinstance(names, list) else []

    def name_of(self, ID: int | str) -> str:
        """What a client is called in a table: its name, or else its ID."""
        number = int(ID)
        has_name = 0 < number <= len(self.names)
        return self.names[number - 1] if has_name else str(number)

    def client(self, ID: int | str) -> "TrainedClient":
        """One of the clients.

        Args:
            ID: one of ``clients``, or its digits, as results have them; or
                one of ``names``.

        Raises:
            UserError: there is no such client.

        """
        is_text = isinstance(ID, str) and is_client_ID(ID)
        number = int(ID) if is_text else ID
        if ID in self.names:
            number = self.names.index(str(ID)) + 1
        is_number = isinstance(number, Integral)
        if isinstance(ID, bool) or not is_number or number not in self.clients:
            raise UserError(
                f"{self.folder}: there is no client {shown(ID)}; known are "
                f"{_listed(self.names or self.clients)}"
            )
        return TrainedClient(self, int(number))

    @property
    def adapter(self) -> Path:
        """The folder of the server's adapter.

        The adapter lacks what clients keep: with FedSA it has the shared A
        and a B of zero.

        Raises:
            UserError: no such adapter was saved, or it is out of date.

        """
        return self._adapter_of(0)

    def global_model(self, base: Any = None) -> Any:
        """The base model with the server's adapter, loaded by PEFT.

        Args:
            base: the base model as it was before the run.  It is needed only
                if the run was given a model and not the name of a
                checkpoint.

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
        name = RunFolder.adapter_name(client, self.names)
        saved = files.saved_adapters()
        if name not in saved:
            has = ", ".join(saved) or "nothing"
            raise UserError(
                f"{self.folder}: no adapter {name!r} was saved; there is {has}"
            )
        return saved[name]


@dataclass(frozen=True)
class TrainedClient:
    """A client of a run, with its results and its adapter.

    Attributes:
        run: the run that the client belongs to.
        ID: the client's ID.

    """

    run: Run
    ID: int

    @property
    def results(self) -> dict[str, float]:
        """The client's last results; empty if it has none of its own."""
        clients: dict[str, dict[str, float]] = self.run.last["clients"]
        return clients.get(str(self.ID), {})

    @property
    def adapter(self) -> Path:
        """The folder of the client's adapter, which includes its head.

        Raises:
            UserError: no such adapter was saved, or it is out of date.

        """
        return self.run._adapter_of(self.ID)

    def model(self, base: Any = None) -> Any:
        """The base model with the client's adapter, loaded by PEFT.

        Args:
            base: the base model as it was before the run.  It is needed only
                if the run was given a model and not the name of a
                checkpoint.

        Raises:
            UserError: there is no such adapter, it cannot be loaded, or the
                client has two adapters.

        """
        return load_adapted(self.run.config, self.adapter, base)


def load_run(folder: str | Path, name: str = "") -> Run:
    """Read a run, finished or not, from its folder.

    Args:
        folder: the run's folder.
        name: the name of the run; by default that of the folder, without the
            seed.

    Raises:
        UserError: the folder holds no run, or one of its files is damaged.

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
    if not is_count(summary["seed"]):
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


def _listed(IDs: Sequence[object]) -> str:
    """The clients' IDs or names for a sentence, which has room for a few."""
    if len(IDs) <= _FEW_CLIENTS:
        return ", ".join(map(str, IDs)) or "none"
    return f"{len(IDs)} from {IDs[0]} to {IDs[-1]}"


def name_without_seed(name: str) -> str:
    """The name without ``_seed<number>`` at its end."""
    return re.sub(r"_seed\d+$", "", name)
