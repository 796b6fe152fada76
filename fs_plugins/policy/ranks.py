"""Clients of different ranks.

A client of rank k has the first k rows of A and the first k columns of B.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fs_plugins.policy.roles import Role, is_bias


def truncate(
    tensors: Mapping[str, Any], roles: Mapping[str, Role], rank: int
) -> dict[str, Any]:
    """The part of an adapter's tensors that a client of lower rank has.

    Args:
        tensors: by name, A of shape (r, in), B of shape (out, r), and
            others, such as biases, which are returned whole.
        roles: the role of each tensor.
        rank: the rank of the client; 0 stands for all of r.

    Returns:
        Views of the tensors, by name.

    """
    views = dict(tensors)
    for name, tensor in tensors.items() if rank else ():
        if roles[name] is Role.A:
            views[name] = tensor[:rank]
        elif roles[name] is Role.B and not is_bias(name):
            views[name] = tensor[:, :rank]
    return views


def leading_slices(shape: Iterable[int]) -> tuple[slice, ...]:
    """The index of a low-rank factor in the same factor of higher rank.

    Args:
        shape: the shape of the factor of lower rank.

    """
    return tuple(map(slice, shape))
