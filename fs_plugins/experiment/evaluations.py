"""The results of one evaluation, merged over the clients."""

from collections.abc import Mapping, Sequence
from typing import Any

Results = dict[str, float]
ByClient = Mapping[int, Mapping[str, float]]


def merge(clients: ByClient, weighted: bool) -> Results:
    """The average of every metric over the clients that have it.

    Args:
        clients: client -> ``{<split>_<metric>: value}``, with a
            ``<split>_total`` for every split.
        weighted: weight clients by the examples they were evaluated on.

    Returns:
        The averages; ``<split>_total``, ``<split>_correct`` and
        ``<split>_loss`` are sums, as they are at a client.

    """
    keys: dict[str, None] = {}
    for results in clients.values():
        keys |= dict.fromkeys(results)
    merged = {}
    for key in keys:
        split, _, metric = key.partition("_")
        have = [r for r in clients.values() if key in r]
        values = [float(r[key]) for r in have]
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
    """One line of ``metrics.jsonl``: the results after round ``rnd``.

    Args:
        rnd: the number of rounds that are over.
        clients: client -> ``{<split>_<metric>: value}``.
        metrics: ``eval.metrics``; they come first, in this order.

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
    """Hosts collect metrics in sets, in no order that lasts."""
    split, _, metric = item[0].partition("_")
    known = metric in metrics
    place = list(metrics).index(metric) if known else len(metrics)
    return split, place, metric


def selection_key(update_key: str) -> str:
    """The metric by which the best round is chosen: one of validation's.

    Args:
        update_key: ``eval.best_res_update_round_wise_key``.

    """
    if not update_key.startswith("val_") or update_key == "val_loss":
        return "val_avg_loss"
    return update_key


def is_better(key: str, new: float, old: float) -> bool:
    """Whether a metric's new value is better: losses and errors fall."""
    falls = any(word in key for word in ("loss", "mse"))
    return new < old if falls else new > old


def leading_metric(results: Mapping[str, float], split: str) -> str | None:
    """The first metric of a split that is neither a loss nor a count."""
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
    """Bytes for a reader: 1,234,567 is 1.2 MB."""
    if number is None:
        return "-"
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
