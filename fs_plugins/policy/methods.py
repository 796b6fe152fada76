"""Policies: what a federated method does with each role in a round.

This table is the whole difference between the methods.  One is added by an
entry in ``METHODS``; its name is then a ``federate.method``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from fs_plugins.errors import UserError, unknown
from fs_plugins.policy.roles import Role


class Action(str, Enum):
    """What happens to a parameter in a round."""

    SHARE = "share"  # uploaded, aggregated, broadcast
    KEEP = "keep"  # trained; never leaves its client; survives the round
    FREEZE = "freeze"  # not trained


SHARE, KEEP, FREEZE = Action.SHARE, Action.KEEP, Action.FREEZE


@dataclass(frozen=True)
class Policy:
    """What a federated method does with each role.

    Attributes:
        rule: the method in one line.
        source: where it was published.
        A, B, HEAD, OTHER: the action for each role.
        in_turn: what is kept is not each client's own: all clients train one
            in turn, each from where the one before it left it.

    """

    rule: str
    source: str
    A: Action
    B: Action
    HEAD: Action = KEEP
    OTHER: Action = KEEP
    in_turn: bool = False

    def __getitem__(self, role: Role) -> Action:
        action: Action = getattr(self, role.value)
        return action

    @property
    def keeps(self) -> bool:
        """Whether anything stays with its client."""
        return KEEP in (self[role] for role in Role)


METHODS: dict[str, Policy] = {
    "fedsa": Policy(
        "share A, keep B and the head",
        "Guo et al., ICLR 2025 (arXiv 2410.01463)",
        A=SHARE,
        B=KEEP,
    ),
    "fedit": Policy(
        "average A, average B",
        "Zhang et al., ICASSP 2024 (arXiv 2305.05644)",
        A=SHARE,
        B=SHARE,
        OTHER=SHARE,
    ),
    "ffa": Policy(
        "freeze A, average B",
        "Sun et al., ICLR 2024 (arXiv 2403.12313)",
        A=FREEZE,
        B=SHARE,
        OTHER=SHARE,
    ),
    "sequential_b": Policy(
        "share A; all clients train one B and one head in turn: the leak of "
        "the released FedSA-LoRA code, to measure what it does",
        "the code released with arXiv 2410.01463, share_local_model: True",
        A=SHARE,
        B=KEEP,
        in_turn=True,
    ),
    "local": Policy(
        "every client trains alone",
        "baseline",
        A=KEEP,
        B=KEEP,
    ),
}


def policy_of(method: str, changes: Mapping[str, str]) -> Policy:
    """The policy of a method, with the user's changes.

    Args:
        method: a key of ``METHODS``, in any case.
        changes: role -> action; an empty action changes nothing.

    Raises:
        UserError: an unknown method, role or action, or a policy that trains
            nothing.

    """
    if method.lower() not in METHODS:
        raise unknown("federate.method", method, METHODS)
    policy = METHODS[method.lower()]
    for role, action in changes.items():
        if role not in Role.__members__:
            raise unknown("fedsa.policy", role, Role.__members__)
        if not action:
            continue
        actions = [each.value for each in Action]
        if action.lower() not in actions:
            raise unknown(f"fedsa.policy.{role}", action, actions)
        change: dict[str, Any] = {role: Action(action.lower())}
        policy = replace(policy, **change)
    if all(policy[role] is FREEZE for role in Role):
        raise UserError("fedsa.policy: every role is frozen; nothing trains")
    return policy
