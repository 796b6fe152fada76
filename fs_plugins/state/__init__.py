"""What a client keeps between rounds, and files that are never half there."""

from fs_plugins.state.client_state import (
    Kept,
    KeptInMemory,
    KeptOnDisk,
    cache_for,
    kept_for,
)

__all__ = ["Kept", "KeptInMemory", "KeptOnDisk", "cache_for", "kept_for"]
