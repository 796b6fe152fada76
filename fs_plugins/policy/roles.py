"""Roles: what a trainable parameter is to its PEFT method.

A role belongs to the PEFT method; what a federated method does with it is a
policy (``methods.py``).  A PEFT method is added by an entry in
``PEFT_METHODS``.
"""

from collections.abc import Iterable, Mapping
from enum import Enum

from fs_plugins.errors import UserError, unknown


class Role(str, Enum):
    """What a trainable parameter is."""

    A = "A"  # the factor on the input side
    B = "B"  # the factor on the output side
    HEAD = "HEAD"  # a task head, trained in full
    OTHER = "OTHER"  # anything else that a PEFT method trains


# PEFT method -> role -> parts of a parameter's name.  The first match wins.
PEFT_METHODS: dict[str, Mapping[Role, tuple[str, ...]]] = {
    # Hu et al., ICLR 2022: W + (alpha / r) B A.  With use_rslora
    # (Kalajdzievski, arXiv 2312.03732): W + (alpha / sqrt(r)) B A.
    "lora": {
        Role.A: (".lora_A.", ".lora_embedding_A."),
        Role.B: (".lora_B.", ".lora_embedding_B."),
        Role.OTHER: (".lora_magnitude_vector.",),
    },
}
HEAD_NAMES = (".modules_to_save.",)


def check_peft_method(name: str) -> None:
    """Raise a ``UserError`` if the roles of a PEFT method are not known."""
    if name not in PEFT_METHODS:
        raise unknown("llm.adapter.args: adapter_method", name, PEFT_METHODS)


def roles_of(peft_method: str, names: Iterable[str]) -> dict[str, Role]:
    """The role of each trainable parameter.

    Args:
        peft_method: a key of ``PEFT_METHODS``.
        names: the parameters' names in the PEFT model.

    Raises:
        UserError: a parameter has no role.

    """
    check_peft_method(peft_method)
    patterns = {Role.HEAD: HEAD_NAMES, **PEFT_METHODS[peft_method]}
    roles = {}
    for name in names:
        role = next(
            (
                role
                for role, parts in patterns.items()
                if any(part in name for part in parts)
            ),
            None,
        )
        if role is None:
            raise UserError(
                f"the trainable parameter {name!r} has no role in the PEFT "
                f"method {peft_method!r}; freeze it, or add it to "
                "PEFT_METHODS in fs_plugins/policy/roles.py"
            )
        roles[name] = role
    return roles
