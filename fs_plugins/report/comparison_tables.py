"""Tables of several runs' results and costs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fs_plugins.experiment.evaluations import size
from fs_plugins.experiment.runs import Run
from fs_plugins.report.averages import deviation_of_all
from fs_plugins.report.runs import union_metric_of
from fs_plugins.report.tables import Table
from fs_plugins.terms import ANSWER_METRICS


def comparison_table(runs: Sequence[Run]) -> Table:
    """One row a run: results, their spread over clients, bytes and seconds."""
    last = "results.last"
    metric = runs[0].metric
    # By the column's name: the key in the summary that the column shows, and
    # a function that makes a run's cell.
    columns: dict[str, tuple[str, Callable[[Run], str]]] = {
        "run": ("", lambda run: run.name)
    }
    if len({run.seed for run in runs}) > 1:
        columns["seed"] = ("seed", lambda run: str(run.seed))
    columns["last round"] = (_averages_of(last, metric), _last)
    columns["worst client"] = (f"{last}.clients.*.{metric}", _worst)
    columns["spread"] = (f"{last}.clients.*.{metric}", _spread)
    union = union_metric_of(runs)
    if union:
        columns["on everyone's test"] = (_averages_of(last, union), _union)
    columns["best round by validation"] = (
        _averages_of("results.best", metric),
        _best,
    )
    if any(_generates(run) for run in runs):
        columns["test loss, last round"] = (
            _averages_of(last, "test_avg_loss"),
            lambda run: _averages(run.last, "test_avg_loss"),
        )
    columns |= {
        "up": _communication("uplink_bytes"),
        "down": _communication("downlink_bytes"),
        "seconds": _seconds("total_s"),
    }
    return _table(
        "each client's own model on its own test shard: weighted by examples "
        "| mean over clients; the worst client; the standard deviation over "
        "clients",
        columns,
        runs,
    )


def costs_table(runs: Sequence[Run]) -> Table:
    """One row a run: parameters, bytes, seconds, memory."""
    columns: dict[str, tuple[str, Callable[[Run], str]]] = {
        "run": ("", lambda run: run.name),
        "seed": ("seed", lambda run: str(run.seed)),
    }
    for kind in ("trainable", "shared", "kept"):
        columns[kind] = _communication(f"{kind}_parameters", _number)
    columns |= {
        "up": _communication("uplink_bytes"),
        "down": _communication("downlink_bytes"),
        "up, client and round": _communication(
            "uplink_bytes_per_client_round"
        ),
        "down, client and round": _communication(
            "downlink_bytes_per_client_round"
        ),
        "seconds": _seconds("total_s"),
        "training": _seconds("train_s"),
        "evaluation": _seconds("eval_s"),
        "aggregation": _seconds("aggregate_s"),
        "peak memory": (
            "memory.peak_rss_bytes",
            lambda run: size(run.summary["memory"].get("peak_rss_bytes")),
        ),
        "refused updates": (
            "rejected_updates",
            lambda run: _number(run.summary.get("rejected_updates")),
        ),
    }
    return _table(
        "parameters; bytes of encoded messages; seconds; the process's memory",
        columns,
        runs,
    )


def _table(
    title: str,
    columns: Mapping[str, tuple[str, Callable[[Run], str]]],
    runs: Sequence[Run],
) -> Table:
    return Table(
        title,
        list(columns),
        [[show(run) for _, show in columns.values()] for run in runs],
        {name: key for name, (key, _) in columns.items() if key},
    )


def _averages_of(results: str, metric: str) -> str:
    return f"{results}.weighted.{metric}, {results}.mean.{metric}"


def _communication(
    key: str, show: Callable[[float | None], str] = size
) -> tuple[str, Callable[[Run], str]]:
    return (
        f"communication.{key}",
        lambda run: show(run.summary["communication"].get(key)),
    )


def _seconds(key: str) -> tuple[str, Callable[[Run], str]]:
    return f"time.{key}", lambda run: _number(run.summary["time"].get(key))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _last(run: Run) -> str:
    return _averages(run.last, run.metric)


def _worst(run: Run) -> str:
    worst = run.worst()
    return "-" if worst is None else f"{worst:.4f}"


def _spread(run: Run) -> str:
    values = run.of_clients().values()
    return f"{deviation_of_all(values):.4f}" if len(values) > 1 else "-"


def _union(run: Run) -> str:
    return _averages(run.last, run.union_metric)


def _generates(run: Run) -> bool:
    """Whether a run generates answers, or reports a loss.

    Only a few answers are scored, so the loss says more of such a model.
    """
    metric = run.metric.removeprefix("test_")
    return metric in ("avg_loss", *ANSWER_METRICS)


def _best(run: Run) -> str:
    shown = _averages(run.best, run.metric)
    return shown if shown == "-" else f"{shown} (round {run.best['round']})"


def _averages(results: dict[str, Any], key: str) -> str:
    values = [results[average].get(key) for average in ("weighted", "mean")]
    if values == [None, None]:
        return "-"
    return " | ".join("-" if v is None else f"{v:.4f}" for v in values)
