"""What a client keeps between rounds."""

from fs_plugins.state.files import read_tensors, write_tensors
from fs_plugins.state.kept import KeptParameters

__all__ = ["KeptParameters", "read_tensors", "write_tensors"]
