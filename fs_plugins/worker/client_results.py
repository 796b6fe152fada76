"""Which of the clients' evaluation results can be averaged together."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fs_plugins.host.configuration import Config
from fs_plugins.terms import TRAINERS
from fs_plugins.trainer.scores import score_names
from fs_plugins.wire.messages import Known, split_of

Results = Mapping[str, float]
# What every trainer of the plugins computes besides ``eval.metrics``.
_ALWAYS = ("loss", "avg_loss", "total")


def known_results(cfg: Config, data: Any) -> Known:
    """What a server knows of the results that a client can have.

    In a standalone run the server's data are those of all clients, of which
    no client can have more.

    Args:
        cfg: the configuration.
        data: the server's data; None if it has none.

    """
    if cfg.trainer.type not in TRAINERS:
        return Known(cfg.eval.split)
    options, totals = cfg.fedsa.eval.generate, {}
    answers = (
        score_names(options.metric, options.samples)
        if options.examples
        else []
    )
    if cfg.federate.mode.lower() == "standalone":
        for split in cfg.eval.split:
            name = "test" if split == "union" else split
            examples = getattr(data, f"{name}_data", None)
            if examples is not None:
                totals[split] = len(examples)
    names = {*_ALWAYS, *cfg.eval.metrics, *answers}
    return Known(cfg.eval.split, names, totals)


def in_agreement(clients: Mapping[int, Results]) -> dict[int, Results]:
    """The results that can be averaged over clients.

    For each split, the results of those clients remain that have the same
    metrics as most clients or, of as many, the most metrics.  A client
    without an example of a split has no results for the split; the results
    of a client with other metrics than most cannot be averaged with theirs.

    Args:
        clients: the results of each client, by the client's ID.

    """
    names = [name for results in clients.values() for name in results]
    agreed: set[str] = set()
    for split in {split_of(name) for name in names}:
        counts = Counter(
            frozenset(_of_split(results, split))
            for results in clients.values()
            if _of_split(results, split)
        )
        most, _ = max(counts.items(), key=lambda pair: (pair[1], len(pair[0])))
        agreed |= most
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
