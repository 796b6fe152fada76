"""What a client keeps between rounds, and what a run can go on from."""

from fs_plugins.state.client_state import (
    Kept,
    KeptInMemory,
    KeptOnDisk,
    kept_for,
)

__all__ = ["Kept", "KeptInMemory", "KeptOnDisk", "kept_for"]
