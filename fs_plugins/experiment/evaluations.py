"""Evaluations: the clients' results, merged and compared."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fs_plugins.experiment.reading import (
    are_numbers,
    is_client_ID,
    is_count,
)

Results = dict[str, float]
ByClient = Mapping[int, Mapping[str, float]]
# The keys of an evaluation with the bytes that were sent until then.
BYTES = ("uplink_bytes", "downlink_bytes")
_NAN = math.nan


def merge(clients: ByClient, weighted: bool) -> Results:
    """Average every metric over the clients that have it.

    A client whose value is not finite does not have the metric.

    Args:
        clients: each client's results by ``<split>_<metric>``, with a
            ``<split>_total`` for every split.
        weighted: whether clients are weighted by the number of examples that
            they were evaluated on.

    Returns:
        The averages by ``<split>_<metric>``.  ``<split>_total``,
        ``<split>_correct`` and ``<split>_loss`` are summed, as they are sums
        over a client's examples.  A metric that no client has is nan.

    """
    keys: dict[str, None] = {}
    for results in clients.values():
        keys |= dict.fromkeys(results)
    merged = {}
    for key in keys:
        split, _, metric = key.partition("_")
        have = [r for r in clients.values() if math.isfinite(r.get(key, _NAN))]
        values = [float(r[key]) for r in have]
        if not values:
            merged[key] = _NAN
            continue
        if metric in ("total", "correct", "loss"):
            merged[key] = sum(values)
            continue
        weights = [
            float(r[f"{split}_total"]) if weighted else 1.0 for r in have
        ]
        merged[key] = sum(
            w * v for w, v in zip(weights, values, strict=True)
        ) / sum(weights)
    return merged


def evaluation(
    rnd: int, clients: ByClient, metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """The results after a round, as a run's folder holds them.

    Args:
        rnd: the number of rounds that are over.
        clients: each client's results by ``<split>_<metric>``.
        metrics: ``eval.metrics``; they come first, in this order.

    Returns:
        ``round``, ``weighted`` and ``mean`` (the results averaged with and
        without weights), and ``clients`` (the results by the client's ID).
        A result that is not finite is nan, and null in a file.

    """
    in_order = {
        client: dict(
            sorted(clients[client].items(), key=lambda kv: _rank(kv, metrics))
        )
        for client in sorted(clients)
    }
    return {
        "round": rnd,
        "weighted": merge(in_order, weighted=True),
        "mean": merge(in_order, weighted=False),
        "clients": {
            str(client): {k: float(v) for k, v in results.items()}
            for client, results in in_order.items()
        },
    }


def _rank(item: tuple[str, Any], metrics: Sequence[str]) -> tuple[Any, ...]:
    """The key by which results are sorted.

    Hosts collect metrics in sets, whose order differs from run to run.
    """
    split, _, metric = item[0].partition("_")
    known = metric in metrics
    place = list(metrics).index(metric) if known else len(metrics)
    return split, place, metric


def selection_key(update_key: str) -> str:
    """The validation metric by which the best round is chosen.

    Args:
        update_key: ``eval.best_res_update_round_wise_key``.  If it names no
            validation metric, or the summed loss, the mean validation loss
            is used.

    """
    if not update_key.startswith("val_") or update_key == "val_loss":
        return "val_avg_loss"
    return update_key


def is_better(key: str, new: float, old: float) -> bool:
    """Whether a new value of a metric is better than an old one.

    Args:
        key: the metric; of losses and errors, lower values are better.
        new: the new value.
        old: the old value.

    """
    is_lower_better = any(word in key for word in ("loss", "mse"))
    return new < old if is_lower_better else new > old


def better(
    key: str, new: Mapping[str, Any], old: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """The better of two evaluations; the old one if both are equal.

    Args:
        key: the metric that decides.
        new: an evaluation, which may lack the metric.
        old: the best evaluation so far, if there is one.

    """
    value = new["weighted"].get(key)
    if value is None or not math.isfinite(value):
        return old
    if old is None or is_better(key, value, old["weighted"][key]):
        return new
    return old


def worst_of(values: Mapping[str, float], metric: str) -> str | None:
    """The client with the worst value of a metric.

    Args:
        values: the clients' values, by client.
        metric: the metric; of losses and errors the highest value is the
            worst, of other metrics the lowest.

    Returns:
        The client; None if there are no values.

    """
    worst = None
    for ID, value in values.items():
        if worst is None or is_better(metric, values[worst], value):
            worst = ID
    return worst


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: a number that is not finite is None."""
    if isinstance(value, Mapping):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(entry) for entry in value]
    is_number = isinstance(value, float) and not math.isfinite(value)
    return None if is_number else value


def as_read(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation from a file, without the results that are null there."""
    return {
        **evaluation,
        "weighted": _present(evaluation["weighted"]),
        "mean": _present(evaluation["mean"]),
        "clients": {
            ID: _present(results)
            for ID, results in evaluation["clients"].items()
        },
    }


def _present(results: Mapping[str, Any]) -> Results:
    return {
        name: value
        for name, value in results.items()
        if value is not None and math.isfinite(value)
    }


def is_evaluation(value: Any) -> bool:
    """Whether a value read from a file has the form of an evaluation."""
    if not isinstance(value, dict) or not is_count(value.get("round")):
        return False
    clients = value.get("clients")
    sent = [value[key] for key in BYTES if key in value]
    return (
        are_numbers(value.get("weighted"))
        and are_numbers(value.get("mean"))
        and isinstance(clients, dict)
        and all(map(is_client_ID, clients))
        and all(map(are_numbers, clients.values()))
        and len(sent) in (0, len(BYTES))
        and all(map(is_count, sent))
    )


def leading_metric(results: Mapping[str, float], split: str) -> str | None:
    """The first metric of a split that is neither a loss nor a count.

    Args:
        results: results by ``<split>_<metric>``.
        split: the split.

    Returns:
        The key in ``results``; None if there is no such metric.

    """
    for key in results:
        head, _, metric = key.partition("_")
        if head == split and metric not in (
            "loss",
            "avg_loss",
            "total",
            "correct",
        ):
            return key
    return None


def size(number: float | None) -> str:
    """A number of bytes as a text: 1,234,567 is ``1.2 MB``, None is ``-``."""
    if number is None:
        return "-"
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
