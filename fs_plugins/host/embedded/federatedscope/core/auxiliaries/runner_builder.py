"""The runner of ``federate.mode``."""

from typing import Any

from federatedscope.core.fed_runner import StandaloneRunner


def get_runner(
    server_class: Any,
    client_class: Any,
    config: Any,
    client_configs: Any = None,
    data: Any = None,
) -> StandaloneRunner:
    """The embedded host runs in standalone mode."""
    return StandaloneRunner(
        data=data,
        server_class=server_class,
        client_class=client_class,
        config=config,
        client_configs=client_configs,
    )
