"""What a client keeps between rounds, and files that are written whole."""

from fs_plugins.state.choice import (
    cache_for,
    client_state_for,
    remember_run,
    state_of_last_run,
)
from fs_plugins.state.client_state import (
    ClientState,
    StateInMemory,
    StateOnDisk,
)
from fs_plugins.state.process_state import StateOfProcess

__all__ = [
    "ClientState",
    "StateInMemory",
    "StateOfProcess",
    "StateOnDisk",
    "cache_for",
    "client_state_for",
    "remember_run",
    "state_of_last_run",
]
