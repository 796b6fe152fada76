"""The workers of ``federate.method``."""

from typing import Any

import federatedscope.register as register
from federatedscope.core.configs.constants import CLIENTS_TYPE


def _find(config: Any, role: str) -> Any:
    method = config.federate.method.lower()
    for function in register.worker_dict.values():
        found = function(method)
        if found is not None:
            return found[role]
    if method in CLIENTS_TYPE:
        import federatedscope.core.workers as workers

        return getattr(workers, role.capitalize())
    raise ValueError(
        f"federate.method: {config.federate.method!r} is neither a method of "
        "the embedded host nor of a plugin"
    )


def get_client_cls(config: Any) -> Any:
    """The client's class."""
    return _find(config, "client")


def get_server_cls(config: Any) -> Any:
    """The server's class."""
    return _find(config, "server")
