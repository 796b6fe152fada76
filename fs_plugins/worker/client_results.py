"""Which of the clients' evaluation results can be averaged together."""

from collections import Counter
from collections.abc import Iterable, Mapping

from fs_plugins.wire.messages import split_of

Results = Mapping[str, float]


def in_agreement(clients: Mapping[int, Results]) -> dict[int, Results]:
    """The results of each split that have the names most clients have.

    A client may have no example of a split, and so no result; one that has
    other metrics than most cannot be averaged with them.
    """
    names = [name for results in clients.values() for name in results]
    agreed: set[str] = set()
    for split in {split_of(name) for name in names}:
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
            for split in dict.fromkeys(map(split_of, results))
            if _of_split(results, split) == _of_split(agreed, split)
            for name in sorted(_of_split(results, split))
        }
    return kept


def _of_split(names: Iterable[str], split: str) -> set[str]:
    return {name for name in names if split_of(name) == split}
