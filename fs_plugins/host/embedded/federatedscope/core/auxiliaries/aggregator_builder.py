"""The aggregator of a federated method."""

from typing import Any

from federatedscope.core.aggregators import (
    ClientsAvgAggregator,
    NoCommunicationAggregator,
)


def get_aggregator(
    method: str,
    model: Any = None,
    device: Any = None,
    online: bool = False,
    config: Any = None,
) -> Any:
    """Federated averaging, or none for ``local``."""
    if method.lower() in ("local", "global"):
        return NoCommunicationAggregator()
    return ClientsAvgAggregator(model=model, device=device, config=config)
