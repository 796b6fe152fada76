"""What travels between the server and the clients."""

from fs_plugins.wire.codec import (
    Spec,
    Tensors,
    WireError,
    decode,
    encode,
    spec_of,
)

__all__ = ["Spec", "Tensors", "WireError", "decode", "encode", "spec_of"]
