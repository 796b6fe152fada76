"""The server and the clients."""

from federatedscope.core.workers.base_worker import Worker
from federatedscope.core.workers.client import Client
from federatedscope.core.workers.server import Server

__all__ = ["Client", "Server", "Worker"]
