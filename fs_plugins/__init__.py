"""FedSA-LoRA and its family for FederatedScope.

Importing this package has one effect: the plugins are registered as soon as
``federatedscope`` is imported, which is FederatedScope or the embedded
stand-in for it.
"""

from fs_plugins.host import await_host
from fs_plugins.registration import register_plugins
from fs_plugins.version import __version__

await_host(register_plugins)

__all__ = ["__version__"]
