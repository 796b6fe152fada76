"""Clients of different ranks: the first rows of A and columns of B."""

from collections.abc import Iterable, Mapping
from typing import Any

from fs_plugins.policy.roles import Role, is_bias


def truncate(
    tensors: Mapping[str, Any], roles: Mapping[str, Role], rank: int
) -> dict[str, Any]:
    """What a client of a rank has of them, as views.

    Args:
        tensors: A (r x in), B (out x r), its bias and others, by name.
        roles: what each of them is.
        rank: the client's; 0 for the whole of r.

    """
    found = dict(tensors)
    for name, tensor in tensors.items() if rank else ():
        if roles[name] is Role.A:
            found[name] = tensor[:rank]
        elif roles[name] is Role.B and not is_bias(name):
            found[name] = tensor[:, :rank]
    return found


def leading_slices(shape: Iterable[int]) -> tuple[slice, ...]:
    """Where a tensor of this shape stands in that of a higher rank."""
    return tuple(map(slice, shape))
