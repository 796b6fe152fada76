"""The runner of ``federate.mode``."""

from typing import Any

from federatedscope.core.fed_runner import DistributedRunner, StandaloneRunner


def get_runner(
    server_class: Any,
    client_class: Any,
    config: Any,
    client_configs: Any = None,
    data: Any = None,
) -> StandaloneRunner | DistributedRunner:
    """The runner of all participants, or of this process's participant."""
    is_standalone = config.federate.mode.lower() == "standalone"
    runner: Any = StandaloneRunner if is_standalone else DistributedRunner
    runner = runner(
        data=data,
        server_class=server_class,
        client_class=client_class,
        config=config,
        client_configs=client_configs,
    )
    return runner  # type: ignore[no-any-return]
