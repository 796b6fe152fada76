"""Policies: what a federated method does with each role in a round.

This table is the whole difference between the methods.  One is added by an
entry in ``METHODS``, or by ``register_method`` in a file of your own that
``fedsa.plugins`` names; its name is then a ``federate.method``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
        PRIVATE: ``KEEP`` gives every client a second adapter of its own.
        even: what is otherwise in even rounds; the first round is odd.
        sequential: what is kept is not each client's own: the clients of a
            round train one copy in turn, each from where the client before
            left it.

    """

    rule: str
    source: str
    A: Action
    B: Action
    HEAD: Action = KEEP
    OTHER: Action = KEEP
    PRIVATE: Action = FREEZE
    even: Mapping[str, Action] = field(default_factory=dict)
    sequential: bool = False

    def in_round(self, rnd: int) -> "Policy":
        """What happens in one round; they are counted from 1."""
        changes: dict[str, Any] = {} if rnd % 2 else dict(self.even)
        return replace(self, even={}, **changes)

    def __getitem__(self, role: Role) -> Action:
        """What becomes of a role in the whole run.

        Shared in some rounds and frozen in the others, it is global.
        """
        first: Action = getattr(self, role.value)
        both = {first, self.even.get(role.value, first)}
        return next(each for each in Action if each in both)

    @property
    def keeps(self) -> bool:
        """Whether anything stays with its client."""
        return KEEP in (self[role] for role in Role)

    @property
    def shares(self) -> bool:
        """Whether anything travels."""
        return SHARE in (self[role] for role in Role)


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
    "rolora": Policy(
        "odd rounds train and average B, even rounds A",
        "Chen et al., NeurIPS 2025 (arXiv 2502.01755)",
        A=FREEZE,
        B=SHARE,
        OTHER=SHARE,
        even={"A": SHARE, "B": FREEZE},
    ),
    "feddpa": Policy(
        "share one adapter, keep another; each input decides how much of "
        "either it takes",
        "Yang et al., NeurIPS 2024 (arXiv 2403.19211), FedDPA-T",
        A=SHARE,
        B=SHARE,
        OTHER=SHARE,
        PRIVATE=KEEP,
    ),
    "share_b": Policy(
        "share B, keep A and the head: FedSA the other way round",
        "the rule of FedDR-LoRA",
        A=KEEP,
        B=SHARE,
    ),
    "sequential_b": Policy(
        "share A; all clients train one B and one head in turn: the leak of "
        "the released FedSA-LoRA code, to measure what it does",
        "the code released with arXiv 2410.01463, share_local_model: True",
        A=SHARE,
        B=KEEP,
        sequential=True,
    ),
    "local": Policy(
        "every client trains alone",
        "baseline",
        A=KEEP,
        B=KEEP,
    ),
}


def register_method(name: str, policy: Policy) -> None:
    """Make ``policy`` available as ``federate.method: <name>``."""
    METHODS[name.lower()] = policy


def policy_of(method: str, changes: Mapping[str, Any]) -> Policy:
    """The policy of a method, with the user's changes.

    Args:
        method: a key of ``METHODS``, in any case.
        changes: role -> action; an empty action changes nothing.  ``odd`` and
            ``even`` hold such changes for those rounds only.

    Raises:
        UserError: an unknown method, role or action, or a policy that trains
            or shares nothing.

    """
    if method.lower() not in METHODS:
        raise unknown("federate.method", method, METHODS)
    policy = METHODS[method.lower()]
    rounds = {"odd": policy.in_round(1), "even": policy.in_round(2)}
    for_all = {k: v for k, v in changes.items() if k not in rounds}
    for name in rounds:
        rounds[name] = _changed(rounds[name], "fedsa.policy", for_all)
        own = changes.get(name, {})
        rounds[name] = _changed(rounds[name], f"fedsa.policy.{name}", own)
    odd, even = rounds["odd"], rounds["even"]
    for name, own in rounds.items():
        if all(own[role] is FREEZE for role in Role):
            key = "fedsa.policy" if odd == even else f"fedsa.policy.{name}"
            raise UserError(f"{key}: every role is frozen; nothing trains")
    differs: dict[str, Any] = {}
    if SHARE in (odd.PRIVATE, even.PRIVATE) or odd.PRIVATE != even.PRIVATE:
        raise UserError(
            "fedsa.policy: PRIVATE is kept, or there is none (freeze), in "
            "all rounds"
        )
    for role in Role:
        both = {odd[role], even[role]}
        if both == {SHARE, KEEP}:
            raise UserError(
                f"fedsa.policy: {role.value} is shared in odd or even rounds "
                "and kept in the others; what clients share would overwrite "
                "what they keep"
            )
        if len(both) > 1:
            differs[role.value] = even[role]
    result = replace(odd, even=differs)
    if policy.shares and not result.shares:
        raise UserError(
            "fedsa.policy: nothing is shared; federate.method 'local' is that"
        )
    return result


def _changed(policy: Policy, key: str, changes: Mapping[str, str]) -> Policy:
    """The policy of a round with the user's changes."""
    for role, action in changes.items():
        if role not in Role.__members__:
            raise unknown(key, role, [*Role.__members__, "odd", "even"])
        if not action:
            continue
        actions = [each.value for each in Action]
        if not isinstance(action, str) or action.lower() not in actions:
            raise unknown(f"{key}.{role}", action, actions)
        change: dict[str, Any] = {role: Action(action.lower())}
        policy = replace(policy, **change)
    return policy
