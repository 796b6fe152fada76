"""Aggregators: how the clients' updates become new global parameters.

The option ``fedsa.aggregator`` names the aggregator of a run.
"""

from typing import TYPE_CHECKING, Any

from fs_plugins.aggregator.arguments import AGGREGATOR_ARGS
from fs_plugins.aggregator.registry import AGGREGATORS, register_aggregator

if TYPE_CHECKING:
    from fs_plugins.aggregator.base import Aggregator

__all__ = [
    "AGGREGATORS",
    "AGGREGATOR_ARGS",
    "Aggregator",
    "register_aggregator",
]


def __getattr__(name: str) -> Any:
    """Import ``Aggregator``, and torch with it, on first access only."""
    if name != "Aggregator":
        raise AttributeError(name)
    from fs_plugins.aggregator.base import Aggregator

    return Aggregator
