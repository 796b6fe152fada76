"""The encoding of a whole message, for messages between processes.

msgpack encodes the fields and safetensors the tensors.  Neither format can
refer to code, so that nothing that arrives can be executed.
"""

from collections.abc import Mapping
from typing import Any

import msgpack
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fs_plugins.wire.codec import WireError

# The fields of a message and the types that a value may have.
FIELDS: Mapping[str, tuple[type, ...]] = {
    "msg_type": (str,),
    "serial": (int,),
    "sender": (int,),
    "state": (int,),
    "timestamp": (int, float),
    "content": (object,),
}
_TENSOR = 1  # the code of tensors among msgpack's extension types


def pack(message: Mapping[str, Any]) -> bytes:
    """The bytes of a message.

    Args:
        message: a value for each of ``FIELDS``.  The content consists of
            None, numbers, text, bytes, lists, dicts and tensors.

    """
    fields = {name: message[name] for name in FIELDS}
    packed: bytes = msgpack.packb(fields, default=_pack_other)
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """The message that ``pack`` has encoded, with lists in place of tuples.

    Raises:
        WireError: the bytes are not a message.

    """
    try:
        message = msgpack.unpackb(
            data, strict_map_key=False, ext_hook=_unpack_other
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"it is not a message: {error}") from None
    if not isinstance(message, dict) or message.keys() != FIELDS.keys():
        raise WireError("it does not have the fields of a message")
    for name, types in FIELDS.items():
        value = message[name]
        if not isinstance(value, types) or isinstance(value, bool):
            if types == (object,):  # the content may be a bool, too
                continue
            raise WireError(f"its {name} is a {type(value).__name__}")
    return message


def _pack_other(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().contiguous()
        return msgpack.ExtType(_TENSOR, save({"": tensor}))
    if hasattr(value, "tolist"):  # an array or a number of numpy
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _unpack_other(code: int, data: bytes) -> torch.Tensor:
    if code != _TENSOR:
        raise WireError(f"it has an extension {code} in it")
    try:
        return load(data)[""]
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise WireError(f"it has a broken tensor in it: {error}") from None
