"""How updates of clients become one."""

from federatedscope.core.aggregators.aggregator import (
    Aggregator,
    NoCommunicationAggregator,
)
from federatedscope.core.aggregators.clients_avg_aggregator import (
    ClientsAvgAggregator,
)

__all__ = ["Aggregator", "ClientsAvgAggregator", "NoCommunicationAggregator"]
