"""How shared parameters become one.

The name of an aggregator is a value of ``fedsa.aggregator``.
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
    """Import the base class, and torch with it, when it is asked for."""
    if name != "Aggregator":
        raise AttributeError(name)
    from fs_plugins.aggregator.base import Aggregator

    return Aggregator
