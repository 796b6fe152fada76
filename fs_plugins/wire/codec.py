"""Encode, validate and decode what travels.

A message's payload is one safetensors buffer.  Nothing that arrives is ever
unpickled or evaluated, and nothing is believed: names, shapes, types and
values are checked against what the receiver expects.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

Tensors = Mapping[str, torch.Tensor]
Spec = Mapping[str, tuple[torch.Size, torch.dtype]]


class WireError(ValueError):
    """A payload that is not what the receiver expects; says why."""


def spec_of(tensors: Tensors) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """The name, shape and type of each tensor."""
    return {name: (t.shape, t.dtype) for name, t in tensors.items()}


def encode(tensors: Tensors) -> bytes:
    """The payload that holds ``tensors``; empty for none."""
    if not tensors:
        return b""
    return save(
        {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    )


def decode(
    payload: object, spec: Spec, free: str = "", free_bytes: int = 0
) -> dict[str, torch.Tensor]:
    """The tensors that a payload holds, if it holds what ``spec`` says.

    Args:
        payload: what ``encode`` returned, if all is well.
        spec: the exact names, shapes and types expected.
        free: names that begin so are not compared with ``spec``.
        free_bytes: what they may take, at most.

    Raises:
        WireError: anything else arrived.

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
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise WireError(f"it is not safetensors: {error}") from None
    bound = {
        name: tensor
        for name, tensor in tensors.items()
        if not (free and name.startswith(free))
    }
    check_tensors(bound, spec)
    return tensors


def check_bytes(payload: object) -> bytes:
    """A payload, if it is one at all.

    Raises:
        WireError: it is something else.

    """
    if not isinstance(payload, bytes):
        raise WireError(f"it is a {type(payload).__name__}, not bytes")
    return payload


def _max_bytes(spec: Spec) -> int:
    """The values, and a generous header (names, shapes, offsets)."""
    values = sum(s.numel() * d.itemsize for s, d in spec.values())
    header = sum(len(name.encode()) + 256 for name in spec)
    return values + header + 1024


def check_tensors(tensors: Tensors, spec: Spec) -> None:
    """Refuse anything but what ``spec`` says.

    Raises:
        WireError: says which name, shape, type or value is wrong.

    """
    missing, extra = spec.keys() - tensors.keys(), tensors.keys() - spec.keys()
    if missing:
        raise WireError(f"{min(missing)!r} is missing")
    if extra:
        raise WireError(f"{min(extra)!r} does not belong in it")
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
