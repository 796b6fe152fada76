"""The paradigm: which parameters travel, and which stay at home."""

from fs_plugins.policy.methods import METHODS, Action, Policy, policy_of
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
    "METHODS",
    "PEFT_METHODS",
    "VARIANTS",
    "Action",
    "Policy",
    "Role",
    "canonical",
    "check_peft_method",
    "policy_of",
    "roles_of",
    "variant_of",
]
