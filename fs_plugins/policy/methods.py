"""Policies: what a federated method does with each role in a round.

The table ``METHODS`` is the whole difference between the methods.  A new
method is an entry of ``METHODS``, or a call of ``register_method`` in a plugin
file that ``fedsa.plugins`` names; ``federate.method`` then accepts its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from fs_plugins.errors import UserError, shown, unknown
from fs_plugins.policy.roles import Role


class Action(str, Enum):
    """What happens to a parameter in a round."""

    SHARE = "share"  # trained, uploaded, aggregated and broadcast
    KEEP = "keep"  # trained; stays with its client from round to round
    FREEZE = "freeze"  # not trained


SHARE, KEEP, FREEZE = Action.SHARE, Action.KEEP, Action.FREEZE


@dataclass(frozen=True)
class Policy:
    """What a federated method does with each role.

    Attributes:
        rule: the method in one line.
        source: where the method was published.
        A, B, HEAD, OTHER: the action for each role.
        PRIVATE: the action for a second, private adapter; ``KEEP`` gives
            one to every client, ``FREEZE`` to none.
        even: for each role whose action differs in even rounds, its action
            there; the first round is odd.
        sequential: whether all clients train one copy of the kept
            parameters in turn, each from where the client before left it,
            in place of a copy of their own.

    Raises:
        UserError: a role or an action is unknown.

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

    def __post_init__(self) -> None:
        roles = {role.value: getattr(self, role.value) for role in Role}
        for role, action in (*roles.items(), *self.even.items()):
            if role not in roles or not isinstance(action, Action):
                raise UserError(
                    f"Policy: {role}: {shown(action)} is not one of SHARE, "
                    f"KEEP, FREEZE for one of {', '.join(roles)}"
                )

    def in_round(self, rnd: int) -> "Policy":
        """The policy of one round; rounds are counted from 1."""
        changes: dict[str, Any] = {} if rnd % 2 else dict(self.even)
        return replace(self, even={}, **changes)

    def __getitem__(self, role: Role) -> Action:
        """The action for a role in the whole run.

        A role that is shared in some rounds and frozen in the others counts
        as shared.
        """
        odd: Action = getattr(self, role.value)
        actions = {odd, self.even.get(role.value, odd)}
        return next(action for action in Action if action in actions)

    @property
    def keeps(self) -> bool:
        """Whether clients keep any parameters."""
        return KEEP in (self[role] for role in Role)

    @property
    def shares(self) -> bool:
        """Whether any parameters are shared."""
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
    """Make ``policy`` available as ``federate.method: <name>``.

    Args:
        name: the name of the method; upper and lower case do not differ.
        policy: what the method does with each role.

    Raises:
        UserError: the policy is something else.

    """
    if not isinstance(policy, Policy):
        raise UserError(
            f"register_method: {name}: {shown(policy)} is no Policy"
        )
    METHODS[name.lower()] = policy


def policy_of(method: str, changes: Mapping[str, Any]) -> Policy:
    """The policy of a method, with the user's changes.

    Args:
        method: a key of ``METHODS``, in upper or lower case.
        changes: an action for each role that the user changes; an empty
            action changes nothing.  The keys ``odd`` and ``even`` hold such
            changes for those rounds only.

    Raises:
        UserError: the method, a role or an action is unknown, or the policy
            trains nothing, shares nothing, or is contradictory.

    """
    if method.lower() not in METHODS:
        raise unknown("federate.method", method, METHODS)
    policy = METHODS[method.lower()]
    rounds = {"odd": policy.in_round(1), "even": policy.in_round(2)}
    for_all = {k: v for k, v in changes.items() if k not in rounds}
    for name in rounds:
        rounds[name] = _changed(rounds[name], "fedsa.policy", for_all)
        for_name = changes.get(name, {})
        rounds[name] = _changed(rounds[name], f"fedsa.policy.{name}", for_name)
    odd, even = rounds["odd"], rounds["even"]
    for name, in_rounds in rounds.items():
        if all(in_rounds[role] is FREEZE for role in Role):
            key = "fedsa.policy" if odd == even else f"fedsa.policy.{name}"
            raise UserError(f"{key}: every role is frozen; nothing trains")
    differs: dict[str, Any] = {}
    if SHARE in (odd.PRIVATE, even.PRIVATE) or odd.PRIVATE != even.PRIVATE:
        raise UserError(
            "fedsa.policy: PRIVATE is kept, or there is none (freeze), in "
            "all rounds"
        )
    for role in Role:
        actions = {odd[role], even[role]}
        if actions == {SHARE, KEEP}:
            raise UserError(
                f"fedsa.policy: {role.value} is shared in odd or even rounds "
                "and kept in the others; what clients share would overwrite "
                "what they keep"
            )
        if len(actions) > 1:
            differs[role.value] = even[role]
    result = replace(odd, even=differs)
    if policy.shares and not result.shares:
        raise UserError(
            "fedsa.policy: nothing is shared; for clients that train alone, "
            "set federate.method to 'local'"
        )
    return result


def _changed(policy: Policy, key: str, changes: Mapping[str, str]) -> Policy:
    """A policy with the user's changes, which ``key`` of the file holds."""
    for role, action in changes.items():
        if role not in Role.__members__:
            raise unknown(key, role, [*Role.__members__, "odd", "even"])
        if not action:
            continue
        actions = [known.value for known in Action]
        if not isinstance(action, str) or action.lower() not in actions:
            raise unknown(f"{key}.{role}", action, actions)
        change: dict[str, Any] = {role: Action(action.lower())}
        policy = replace(policy, **change)
    return policy
