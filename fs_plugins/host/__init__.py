"""The host: FederatedScope, or the embedded stand-in for it."""

from fs_plugins.host.find import Host, find_host, find_host_or_exit

__all__ = ["Host", "find_host", "find_host_or_exit"]
