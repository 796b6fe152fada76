"""The registry of aggregators: the built-in ones and those of plugins.

FederatedScope has no registry for aggregators, so the plugins have their own.
"""

import importlib
import inspect
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fs_plugins.errors import UserError, shown

if TYPE_CHECKING:
    from fs_plugins.aggregator.base import Aggregator


@dataclass(frozen=True)
class Described:
    """The description of an aggregator that ``fedsa methods`` prints.

    Attributes:
        rule: how the aggregator combines the clients' updates, in a
            sentence.
        source: where the rule was published.
        module: the module of ``fs_plugins.aggregator`` that defines the
            class; empty for an aggregator that a plugin has registered.
        name: the name of the class in that module.

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
    """The aggregators' classes by name.

    A built-in class is imported when it is looked up, so that the names and
    the rules can be listed without importing torch.
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
        """The description of the aggregator that has a name.

        The rule of a plugin's aggregator is the first paragraph of the
        docstring of its class.
        """
        aggregator = self._classes[name]
        row = _BUILT_IN.get(name)
        if row is not None and (
            aggregator is None or aggregator is _class_of(row)
        ):
            return row
        text = (aggregator.__doc__ or "").strip()
        rule = " ".join(text.split("\n\n")[0].split())
        return Described(rule, getattr(aggregator, "source", ""))


def _class_of(row: Described) -> "type[Aggregator]":
    module = importlib.import_module(f"fs_plugins.aggregator.{row.module}")
    aggregator: type[Aggregator] = getattr(module, row.name)
    return aggregator


AGGREGATORS = Aggregators()
# The attributes of aggregators that have another name now.
_RENAMED = {
    "takes_pairs": "needs_pairs",
    "starts_afresh": "reinitializes",
}


def register_aggregator(name: str, aggregator: "type[Aggregator]") -> None:
    """Make an aggregator available as ``fedsa.aggregator: <name>``.

    Args:
        name: the value of ``fedsa.aggregator`` in a YAML file.
        aggregator: the class, a subclass of ``Aggregator``.

    Raises:
        UserError: the class is no aggregator, or one of an earlier version.

    """
    from fs_plugins.aggregator.base import Aggregator

    if not (
        isinstance(aggregator, type) and issubclass(aggregator, Aggregator)
    ):
        raise UserError(
            f"register_aggregator: {name}: {shown(aggregator)} is no subclass "
            "of Aggregator"
        )
    if inspect.isabstract(aggregator):
        missing = ", ".join(sorted(aggregator.__abstractmethods__))
        raise UserError(f"register_aggregator: {name}: it lacks {missing}")
    for before, now in _RENAMED.items():
        if hasattr(aggregator, before):
            raise UserError(
                f"register_aggregator: {name}: its attribute {before} is now "
                f"called {now}"
            )
    AGGREGATORS[name] = aggregator
