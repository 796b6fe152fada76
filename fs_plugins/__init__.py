"""FedSA-LoRA and its family for FederatedScope.

Importing this package finds the host, FederatedScope or the embedded
stand-in for it, and registers every plugin with it.
"""

from fs_plugins.host import find_host_or_exit
from fs_plugins.version import __version__

HOST = find_host_or_exit()  # before anything that imports federatedscope

# Each of these registers what it adds with the host.
from fs_plugins import data, model, trainer, worker  # noqa: E402
from fs_plugins.config import section  # noqa: E402

__all__ = [
    "HOST",
    "__version__",
    "data",
    "model",
    "section",
    "trainer",
    "worker",
]
