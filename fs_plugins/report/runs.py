"""Runs, as their folders tell of them."""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fs_plugins.errors import UserError
from fs_plugins.experiment.evaluations import (
    is_better,
    leading_metric,
    selection_key,
)
from fs_plugins.policy import METHODS, variant_of

SOURCES = ("summary.json", "metrics.jsonl", "eval_results.log")
# what explains a difference in results as well as the method does
SETTINGS = (
    "train.local_update_steps",
    "train.batch_or_epoch",
    "dataloader.batch_size",
    "llm.tok_len",
    "federate.sample_client_num",
    "train.optimizer.type",
    "train.optimizer.lr",
)
# what numpy 2 writes of a number, and what Python writes but cannot read
_SCALAR = re.compile(r"np\.\w+\(([^()]*)\)")
_NO_NUMBER = re.compile(r"(?<=[:\[ ])-?(nan|inf)(?=[,}\] ])")


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Attributes:
        name: what it is called; runs that differ in their seed alone share
            it.
        folder: where it is.
        summary: what ``summary.json`` holds.  A run without one has what its
            other files tell, and None elsewhere.
        curve: the lines of ``metrics.jsonl``.
        labels: what ``label_counts.json`` holds, if anything.
        source: the file that the results are from, one of ``SOURCES``.
        settings: those of ``SETTINGS`` that ``config.yaml`` has.

    """

    name: str
    folder: Path
    summary: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] | None = None
    source: str = SOURCES[0]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.summary["seed"])

    @property
    def last(self) -> dict[str, Any]:
        """The results of the last evaluation; empty before the first."""
        last: dict[str, Any] | None = self.summary["results"]["last"]
        return last or {"weighted": {}, "mean": {}, "clients": {}}

    @property
    def metric(self) -> str:
        """The test metric that it is judged by, accuracy say."""
        return leading_metric(self.last["weighted"], "test") or "test_avg_loss"

    @property
    def union_metric(self) -> str:
        """The same on everyone's test shard; empty if it wasn't asked for."""
        return leading_metric(self.last["weighted"], "union") or ""

    def of_clients(self) -> dict[str, float]:
        """That metric of every client that has it, by ID."""
        clients = self.last.get("clients", {})
        return {
            ID: results[self.metric]
            for ID, results in clients.items()
            if self.metric in results
        }

    def worst_client(self) -> str | None:
        """The ID of the one that fares worst; None if it is not known."""
        return worst_of(self.of_clients(), self.metric)

    def worst(self) -> float | None:
        """That one's value."""
        return self.of_clients().get(self.worst_client() or "")


def worst_of(values: Mapping[str, float], metric: str) -> str | None:
    """Who has the lowest, or of an error the highest, value."""
    worst = None
    for ID, value in values.items():
        if worst is None or is_better(metric, values[worst], value):
            worst = ID
    return worst


def union_metric_of(runs: Sequence[Run]) -> str:
    """Theirs, of the first that has one; empty if none has."""
    return next((r.union_metric for r in runs if r.union_metric), "")


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders: theirs, or those right below them.

    Raises:
        UserError: a folder holds no run, or a file of it cannot be read.

    """
    found: dict[Path, Path] = {}
    for folder in folders:
        below = sorted(folder.glob("*/")) if folder.is_dir() else []
        runs = [each for each in (folder, *below) if _has_results(each)]
        if not runs:
            raise UserError(
                f"{folder} holds no run, nor does a folder in it: none has "
                f"{', '.join(SOURCES[:-1])} or {SOURCES[-1]}"
            )
        found |= {run.resolve(): run for run in runs}
    runs = list(found.values())
    return [
        read_run(folder, name)
        for folder, name in zip(runs, _names(runs), strict=True)
    ]


def _has_results(folder: Path) -> bool:
    return any((folder / source).is_file() for source in SOURCES)


def _names(folders: Sequence[Path]) -> list[str]:
    """Folders' names without the seed; with the folder above where needed."""
    short = [folder.resolve().name for folder in folders]
    return [
        _without_seed(
            name
            if short.count(name) == 1
            else f"{folder.resolve().parent.name}/{name}"
        )
        for name, folder in zip(short, folders, strict=True)
    ]


def _without_seed(name: str) -> str:
    return re.sub(r"_seed\d+$", "", name)


def read_run(folder: Path, name: str) -> Run:
    """Read what a run has left, from the best file that there is.

    Raises:
        UserError: a file cannot be read.

    """
    cfg = _config(folder / "config.yaml")
    curve, source = _curve(folder)
    summary_file = folder / SOURCES[0]
    if summary_file.exists():
        summary, source = _json(summary_file), SOURCES[0]
        _check(summary, summary_file)
    else:
        summary = _summary_of(curve, _facts(cfg))
    labels = folder / "label_counts.json"
    return Run(
        name,
        folder,
        summary,
        curve,
        _json(labels) if labels.exists() else None,
        source,
        _settings(cfg),
    )


def _check(summary: Any, file: Path) -> None:
    parts = ("results", "communication", "time", "memory", "seed", "data")
    known = isinstance(summary, dict) and all(p in summary for p in parts)
    known = known and {"last", "best"} <= {*summary["results"]}
    if not known or summary.get("schema") != 1:
        raise UserError(f"{file} is no summary of a run that we know")


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{file} is damaged ({error}); remove it, and what else the "
            "run's folder holds is reported"
        ) from error


def _curve(folder: Path) -> tuple[list[dict[str, Any]], str]:
    ours, hosts = folder / SOURCES[1], folder / SOURCES[2]
    if ours.exists():
        return list(_lines(ours, _evaluation)), SOURCES[1]
    if hosts.exists():
        return list(_of_host(hosts)), SOURCES[2]
    return [], SOURCES[0]


def _lines(
    file: Path, parse: Callable[[str], Any]
) -> Iterator[dict[str, Any]]:
    """Its lines; a last one that was cut short is not there yet."""
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield parse(line)
        except (ValueError, SyntaxError) as error:
            if number == len(lines) and not text.endswith("\n"):
                return
            raise UserError(
                f"{file}, line {number} is damaged ({error})"
            ) from error


def _evaluation(line: str) -> Any:
    value = json.loads(line)
    if not isinstance(value, dict) or "weighted" not in value:
        raise ValueError("no results")
    return value


def _of_host(file: Path) -> Iterator[dict[str, Any]]:
    """FederatedScope's own log, as lines of ``metrics.jsonl``.

    It keeps neither bytes nor which client's a result is, and counts the
    rounds of clients' results from 0, those of a global model's from 1.
    """
    for line in _lines(file, _literal):
        rnd = line.get("Round")
        if not isinstance(rnd, int):
            continue  # the best ones, once more
        weighted = line.get("Results_weighted_avg")
        whole = line.get("Results_raw", {})
        if not weighted and "Server" not in str(line.get("Role")):
            continue  # a client's training
        yield {
            "round": rnd + 1 if weighted else rnd,
            "weighted": _ordered(weighted or whole),
            "mean": _ordered(line.get("Results_avg") or whole),
            "clients": {},
        }


def _literal(line: str) -> Any:
    plain = _SCALAR.sub(r"\1", line)
    value = ast.literal_eval(_NO_NUMBER.sub("None", plain))
    if not isinstance(value, dict):
        raise ValueError("no dictionary")
    return value


def _ordered(results: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name: a host's own order changes from run to run."""
    return {k: v for k, v in sorted(results.items()) if v is not None}


def _config(file: Path) -> dict[str, Any]:
    try:
        cfg = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged: it is no YAML") from error
    if not isinstance(cfg, dict):
        raise UserError(f"{file} holds no configuration keys")
    return cfg


def _settings(cfg: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key in SETTINGS:
        node: Any = cfg
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            found[key] = node
    return found


def _facts(cfg: dict[str, Any]) -> dict[str, Any]:
    """What a summary begins with, from ``config.yaml``."""
    federate = cfg.get("federate") or {}
    method = str(federate.get("method", "unknown"))
    is_ours = method.lower() in METHODS
    adapter = (cfg.get("llm") or {}).get("adapter") or {}
    args = (adapter.get("args") or [{}])[0]
    update_key = (cfg.get("eval") or {}).get(
        "best_res_update_round_wise_key", "val_loss"
    )
    return {
        "schema": 1,
        "method": method.lower() if is_ours else method,
        "adapter": variant_of(args) if args else "unknown",
        "model": (cfg.get("model") or {}).get("type", "unknown"),
        "data": (cfg.get("data") or {}).get("type", "unknown"),
        "clients": federate.get("client_num"),
        "rounds": federate.get("total_round_num"),
        "seed": cfg.get("seed", 0),
        "by": selection_key(update_key),
    }


def _summary_of(
    curve: Sequence[dict[str, Any]], facts: dict[str, Any]
) -> dict[str, Any]:
    """As much of a summary as the results so far can tell."""
    key = facts["by"]
    best = last = None
    for line in curve:
        last = {k: v for k, v in line.items() if not k.endswith("_bytes")}
        value = last["weighted"].get(key)
        if value is not None and (
            best is None or is_better(key, value, best["weighted"][key])
        ):
            best = last | {"by": key}
    sent = curve[-1] if curve else {}
    ways = ("uplink_bytes", "downlink_bytes")
    return {k: v for k, v in facts.items() if k != "by"} | {
        "results": {"last": last, "best": best},
        "communication": {way: sent.get(way) for way in ways},
        "time": {},
        "memory": {},
        "rejected_updates": None,
    }
