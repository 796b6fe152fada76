"""The paradigm: which parameters travel, and which stay at home."""

from fs_plugins.policy.methods import (
    FREEZE,
    KEEP,
    METHODS,
    SHARE,
    Action,
    Policy,
    policy_of,
    register_method,
)
from fs_plugins.policy.ranks import first_of, of_rank
from fs_plugins.policy.roles import (
    PEFT_METHODS,
    PRIVATE_ADAPTER,
    VARIANTS,
    Role,
    canonical,
    check_peft_method,
    is_bias,
    pairs_of,
    register_peft_method,
    roles_of,
    variant_of,
)

__all__ = [
    "FREEZE",
    "KEEP",
    "METHODS",
    "PEFT_METHODS",
    "PRIVATE_ADAPTER",
    "SHARE",
    "VARIANTS",
    "Action",
    "Policy",
    "Role",
    "canonical",
    "check_peft_method",
    "first_of",
    "is_bias",
    "of_rank",
    "pairs_of",
    "policy_of",
    "register_method",
    "register_peft_method",
    "roles_of",
    "variant_of",
]
