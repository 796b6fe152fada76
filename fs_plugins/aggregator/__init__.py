"""How shared parameters become one.

FederatedScope has no registry for aggregators; this is ours.  The name of
one is a value of ``fedsa.aggregator``.
"""

from fs_plugins.aggregator.base import Aggregator
from fs_plugins.aggregator.weighted_average import WeightedAverage

AGGREGATORS: dict[str, type[Aggregator]] = {}


def register_aggregator(name: str, aggregator: type[Aggregator]) -> None:
    """Make ``aggregator`` available as ``fedsa.aggregator: <name>``."""
    AGGREGATORS[name] = aggregator


register_aggregator("weighted_average", WeightedAverage)

__all__ = ["AGGREGATORS", "Aggregator", "register_aggregator"]
