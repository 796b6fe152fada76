"""How updates of clients become one."""

import abc
from typing import Any


class Aggregator(abc.ABC):
    """Turns ``{'client_feedback': [(size, parameters), ...]}`` into one."""

    @abc.abstractmethod
    def aggregate(self, agg_info: dict[str, Any]) -> dict[str, Any]:
        """The aggregated parameters."""


class NoCommunicationAggregator(Aggregator):
    """Keeps everything where it is (``federate.method: local``)."""

    def aggregate(self, agg_info: dict[str, Any]) -> dict[str, Any]:
        """Nothing is aggregated."""
        return {}
