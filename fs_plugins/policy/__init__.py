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
from fs_plugins.policy.roles import (
    PEFT_METHODS,
    VARIANTS,
    Role,
    canonical,
    check_peft_method,
    roles_of,
    variant_of,
)

__all__ = [
    "FREEZE",
    "KEEP",
    "METHODS",
    "PEFT_METHODS",
    "SHARE",
    "VARIANTS",
    "Action",
    "Policy",
    "Role",
    "canonical",
    "check_peft_method",
    "policy_of",
    "register_method",
    "roles_of",
    "variant_of",
]
