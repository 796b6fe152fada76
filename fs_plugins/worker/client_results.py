"""Evaluation results that come from clients."""

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from fs_plugins.wire import WireError

Results = Mapping[str, float]


def check_results(results: object, splits: Sequence[str]) -> None:
    """Refuse what cannot be averaged.

    Args:
        results: what a client sent.
        splits: ``eval.split``; a name is ``<split>_<metric>``.

    Raises:
        WireError: says what is wrong.

    """
    if not isinstance(results, dict):
        raise WireError(f"they are a {type(results).__name__}")
    for name, value in results.items():
        if not isinstance(name, str) or _split_of(name) not in splits:
            raise WireError(f"{name!r} is no result")
        if isinstance(value, bool) or not isinstance(value, Real):
            raise WireError(f"{name} is {value!r}")
    for split in {_split_of(name) for name in results}:
        total = results.get(f"{split}_total", 0)
        if not 0 < total < float("inf"):
            raise WireError(f"{split}_total is {total!r}")


def in_agreement(clients: Mapping[int, Results]) -> dict[int, Results]:
    """The results of each split that have the names most clients have.

    A client may have no example of a split, and so no result; one that has
    other metrics than most cannot be averaged with them.
    """
    names = [name for results in clients.values() for name in results]
    agreed: set[str] = set()
    for split in {_split_of(name) for name in names}:
        agreed |= Counter(
            frozenset(_of_split(results, split))
            for results in clients.values()
            if _of_split(results, split)
        ).most_common(1)[0][0]
    kept: dict[int, Results] = {}
    for client, results in clients.items():
        kept[client] = {
            name: results[name]
            # in their order, as a set's differs from process to process
            for split in dict.fromkeys(map(_split_of, results))
            if _of_split(results, split) == _of_split(agreed, split)
            for name in sorted(_of_split(results, split))
        }
    return kept


def _split_of(name: str) -> str:
    return name.partition("_")[0]


def _of_split(names: Any, split: str) -> set[str]:
    return {name for name in names if _split_of(name) == split}
