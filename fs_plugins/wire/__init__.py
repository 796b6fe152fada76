"""The encoding of what the server and the clients send each other."""

from fs_plugins.wire.codec import (
    Spec,
    Tensors,
    WireError,
    check_tensors,
    decode,
    encode,
    spec_of,
    told,
)

__all__ = [
    "Spec",
    "Tensors",
    "WireError",
    "check_tensors",
    "decode",
    "encode",
    "spec_of",
    "told",
]
