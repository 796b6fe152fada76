"""Encode, validate and decode the tensors of a message.

The payload of a message is one safetensors buffer.  Nothing that arrives is
ever unpickled or evaluated, and nothing is trusted: names, shapes, types and
values are checked against what the receiver expects.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fs_plugins.errors import first_line, shown

Tensors = Mapping[str, torch.Tensor]
Spec = Mapping[str, tuple[torch.Size, torch.dtype]]
_LONGEST = 100  # characters of what has arrived in a sentence


# What safetensors raises at a damaged payload.
_DAMAGE = (
    SafetensorError,
    ValueError,
    KeyError,
    RuntimeError,
    TypeError,
    OverflowError,
)


class WireError(ValueError):
    """A payload is not what the receiver expects; the message says why."""


def told(value: object) -> str:
    """What has arrived, as a short text in ASCII for a log or a sentence."""
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (str, bytes)):
        value = value[:_LONGEST]
    text = shown(value).encode("ascii", "backslashreplace").decode()
    return text[:_LONGEST]


def spec_of(tensors: Tensors) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """The name, shape and type of each tensor."""
    return {name: (t.shape, t.dtype) for name, t in tensors.items()}


def encode(tensors: Tensors) -> bytes:
    """The payload that holds ``tensors``; without tensors it is empty."""
    if not tensors:
        return b""
    return save(
        {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    )


def decode(
    payload: object, spec: Spec, free: str = "", free_bytes: int = 0
) -> dict[str, torch.Tensor]:
    """The tensors of a payload, after a check against ``spec``.

    Args:
        payload: what has arrived; only bytes from ``encode`` are accepted.
        spec: the names, shapes and types of all tensors that are expected.
        free: a prefix; tensors whose names begin with it are not compared
            with ``spec``, and the caller has to check them.
        free_bytes: the most bytes that those tensors may take in the
            payload.

    Raises:
        WireError: the payload is not what ``spec`` says.

    """
    payload = check_bytes(payload)
    if not spec and not free:
        if payload:
            raise WireError(f"it has {len(payload)} bytes, expected none")
        return {}
    limit = _max_bytes(spec) + free_bytes
    if len(payload) > limit:
        raise WireError(f"it has {len(payload)} bytes, at most {limit} fit")
    try:
        tensors = load(payload)
    except _DAMAGE as error:
        why = told(first_line(error))
        raise WireError(f"it is not safetensors: {why}") from None
    bound = {
        name: tensor
        for name, tensor in tensors.items()
        if not (free and name.startswith(free))
    }
    check_tensors(bound, spec)
    return tensors


def check_bytes(payload: object) -> bytes:
    """The payload itself, after a check that it consists of bytes.

    Raises:
        WireError: the payload is of another type.

    """
    if not isinstance(payload, bytes):
        raise WireError(f"it is a {type(payload).__name__}, not bytes")
    return payload


def _max_bytes(spec: Spec) -> int:
    """An upper bound for a payload's size: its values and its header.

    The header holds a name, a shape and offsets for each tensor.
    """
    values = sum(s.numel() * d.itemsize for s, d in spec.values())
    header = sum(len(name.encode()) + 256 for name in spec)
    return values + header + 1024


def check_tensors(tensors: Tensors, spec: Spec) -> None:
    """Refuse tensors that are not exactly those of ``spec``.

    Args:
        tensors: the tensors to check, by name.
        spec: the names, shapes and types that are expected.

    Raises:
        WireError: a tensor is missing or unexpected, has another shape or
            type, or holds a value that is not finite.

    """
    missing, extra = spec.keys() - tensors.keys(), tensors.keys() - spec.keys()
    if missing:
        raise WireError(f"{told(min(missing))} is missing")
    if extra:
        raise WireError(f"{told(min(extra))} does not belong in it")
    for name, tensor in tensors.items():
        shape, dtype = spec[name]
        if tensor.shape != shape:
            raise WireError(
                f"{name!r} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(shape)}"
            )
        if tensor.dtype != dtype:
            raise WireError(f"{name!r} is {tensor.dtype}, expected {dtype}")
        if not torch.isfinite(tensor).all():
            raise WireError(f"{name!r} holds values that are not finite")
