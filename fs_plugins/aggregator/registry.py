"""The aggregators by name: one row each, and users' own.

FederatedScope has no registry for aggregators; this is ours.
"""

import importlib
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fs_plugins.aggregator.base import Aggregator


@dataclass(frozen=True)
class Described:
    """What ``fedsa methods`` says of an aggregator.

    Attributes:
        rule: how it combines the clients' updates, in a sentence.
        source: where it was published.
        module: of ``fs_plugins.aggregator``, where its class is.
        name: of that class.

    """

    rule: str
    source: str
    module: str = ""
    name: str = ""


_BUILT_IN = {
    "weighted_average": Described(
        "sum_i n_i x_i / sum_i n_i.",
        "McMahan et al., AISTATS 2017",
        "weighted_average",
        "WeightedAverage",
    ),
    "median": Described(
        "The median of each coordinate: of the two in the middle, the mean.",
        "Yin et al., ICML 2018, definition 1",
        "robust",
        "Median",
    ),
    "trimmed_mean": Described(
        "The mean of each coordinate without its extremes.",
        "Yin et al., ICML 2018, definition 2",
        "robust",
        "TrimmedMean",
    ),
    "fedavgm": Described(
        "Momentum at the server: v = momentum v + average - x; x = x + lr v.",
        "Hsu et al., arXiv 1909.06335",
        "server_optimizer",
        "FedAvgM",
    ),
    "fedadam": Described(
        "Adam at the server: steps towards the average, in units of their "
        "size.",
        "Reddi et al., ICLR 2021, algorithm 2",
        "server_optimizer",
        "FedAdam",
    ),
    "flora": Described(
        "Stack the clients' factors, add their product to the base, start "
        "afresh.",
        "Wang et al., NeurIPS 2024 (arXiv 2409.05976)",
        "products",
        "FLoRA",
    ),
    "fedex": Described(
        "Average A and B; add to the base what the averages' product lacks.",
        "Singhal et al., ACL 2025 (arXiv 2410.09432)",
        "products",
        "FedEx",
    ),
    "flexlora": Described(
        "Average the products; hand out their best approximation of each "
        "rank.",
        "Bai et al., NeurIPS 2024 (arXiv 2402.11505)",
        "products",
        "FlexLoRA",
    ),
    "hetlora": Described(
        "Pad with zeros to the highest rank, average, truncate to each rank.",
        "Cho et al., EMNLP 2024 (arXiv 2401.06432)",
        "products",
        "HetLoRA",
    ),
}


class Aggregators(MutableMapping[str, "type[Aggregator]"]):
    """The classes by name; a built-in one is imported when it is asked for.

    So the names and the rules can be listed without importing torch.
    """

    def __init__(self) -> None:
        self._classes: dict[str, type[Aggregator] | None] = dict.fromkeys(
            _BUILT_IN
        )

    def __getitem__(self, name: str) -> "type[Aggregator]":
        return self._classes[name] or _class_of(_BUILT_IN[name])

    def __setitem__(self, name: str, aggregator: "type[Aggregator]") -> None:
        self._classes[name] = aggregator

    def __delitem__(self, name: str) -> None:
        del self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def describe(self, name: str) -> Described:
        """The rule of an aggregator, and where it was published."""
        found = self._classes[name]
        row = _BUILT_IN.get(name)
        if row is not None and (found is None or found is _class_of(row)):
            return row
        text = (found.__doc__ or "").strip()
        rule = " ".join(text.split("\n\n")[0].split())
        return Described(rule, getattr(found, "source", ""))


def _class_of(row: Described) -> "type[Aggregator]":
    module = importlib.import_module(f"fs_plugins.aggregator.{row.module}")
    found: type[Aggregator] = getattr(module, row.name)
    return found


AGGREGATORS = Aggregators()


def register_aggregator(name: str, aggregator: "type[Aggregator]") -> None:
    """Make an aggregator available as ``fedsa.aggregator: <name>``.

    Args:
        name: what the YAML file says.
        aggregator: its class.

    """
    AGGREGATORS[name] = aggregator
