"""Which of the clients' evaluation results can be averaged together."""

from collections import Counter
from collections.abc import Iterable, Mapping

from fs_plugins.wire.messages import split_of

Results = Mapping[str, float]


def in_agreement(clients: Mapping[int, Results]) -> dict[int, Results]:
    """The results that can be averaged over clients.

    For each split, the results of those clients remain that have the same
    metrics as most clients.  A client without an example of a split has no
    results for the split; the results of a client with other metrics than
    most cannot be averaged with theirs.

    Args:
        clients: the results of each client, by the client's ID.

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
            # in order: that of a set differs from process to process
            for split in dict.fromkeys(map(split_of, results))
            if _of_split(results, split) == _of_split(agreed, split)
            for name in sorted(_of_split(results, split))
        }
    return kept


def _of_split(names: Iterable[str], split: str) -> set[str]:
    return {name for name in names if split_of(name) == split}
