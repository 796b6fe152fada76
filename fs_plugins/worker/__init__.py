"""The server and the client of every method in ``policy.METHODS``."""

from typing import Any

from federatedscope.register import register_worker

from fs_plugins.policy import METHODS


def call_fedsa_worker(method: str) -> dict[str, Any] | None:
    """Answers to each ``federate.method`` in ``METHODS``."""
    if method not in METHODS:
        return None
    from fs_plugins.worker.client import FedSAClient
    from fs_plugins.worker.server import FedSAServer

    return {"client": FedSAClient, "server": FedSAServer}


register_worker("fedsa", call_fedsa_worker)
