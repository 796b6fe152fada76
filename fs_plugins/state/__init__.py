"""What a client keeps between rounds, and files that are written whole."""

from fs_plugins.state.client_state import (
    ClientState,
    StateInMemory,
    StateOnDisk,
    cache_for,
    client_state_for,
)

__all__ = [
    "ClientState",
    "StateInMemory",
    "StateOnDisk",
    "cache_for",
    "client_state_for",
]
