"""What travels between the server and the clients."""

from fs_plugins.wire.codec import (
    Spec,
    Tensors,
    WireError,
    check_tensors,
    decode,
    encode,
    spec_of,
)

__all__ = [
    "Spec",
    "Tensors",
    "WireError",
    "check_tensors",
    "decode",
    "encode",
    "spec_of",
]
