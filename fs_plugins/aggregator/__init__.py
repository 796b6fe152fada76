"""How shared parameters become one.

FederatedScope has no registry for aggregators; this is ours.  The name of
one is a value of ``fedsa.aggregator``.
"""

from fs_plugins.aggregator.base import AGGREGATOR_ARGS, Aggregator
from fs_plugins.aggregator.products import FedEx, FlexLoRA, FLoRA, HetLoRA
from fs_plugins.aggregator.robust import Median, TrimmedMean
from fs_plugins.aggregator.server_optimizer import FedAdam, FedAvgM
from fs_plugins.aggregator.weighted_average import WeightedAverage

AGGREGATORS: dict[str, type[Aggregator]] = {}


def register_aggregator(name: str, aggregator: type[Aggregator]) -> None:
    """Make ``aggregator`` available as ``fedsa.aggregator: <name>``."""
    AGGREGATORS[name] = aggregator


register_aggregator("weighted_average", WeightedAverage)
register_aggregator("median", Median)
register_aggregator("trimmed_mean", TrimmedMean)
register_aggregator("fedavgm", FedAvgM)
register_aggregator("fedadam", FedAdam)
register_aggregator("flora", FLoRA)
register_aggregator("fedex", FedEx)
register_aggregator("flexlora", FlexLoRA)
register_aggregator("hetlora", HetLoRA)

__all__ = [
    "AGGREGATORS",
    "AGGREGATOR_ARGS",
    "Aggregator",
    "register_aggregator",
]
