"""What a client keeps between rounds."""

from fs_plugins.state.kept import KeptParameters

__all__ = ["KeptParameters"]
