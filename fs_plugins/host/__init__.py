"""The host: FederatedScope, or the embedded stand-in for it."""

from fs_plugins.host.find import Host, await_host, find_host

__all__ = ["Host", "await_host", "find_host"]
