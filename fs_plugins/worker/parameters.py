"""The trainable parameters of a model, by what the policy does to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from fs_plugins.config import peft_method_of, policy_from
from fs_plugins.errors import UserError
from fs_plugins.policy import Action, Role, roles_of
from fs_plugins.state import Kept, KeptInMemory, kept_for
from fs_plugins.wire import Tensors, spec_of


class AdapterParameters:
    """Views of a model's shared and kept parameters.

    The server and all clients may work on one model.  Whoever uses it moves
    its own values in and leaves the model as it was: see ``lent``.

    Args:
        model: a PEFT model, or a wrapper with one in ``.model``.
        cfg: the configuration.

    Attributes:
        shared: the parameters that travel, by name.
        kept: those that stay with their client, by name.
        initial: the values of both that every client starts from.
        spec: names, shapes and types of ``shared``.

    Raises:
        UserError: the policy shares roles that this model does not have.

    """

    def __init__(self, model: nn.Module, cfg: Any) -> None:
        policy = policy_from(cfg)
        inner = getattr(model, "model", model)
        trainable = {
            name: parameter
            for name, parameter in inner.named_parameters()
            if parameter.requires_grad
        }
        self.shared: dict[str, nn.Parameter] = {}
        self.kept: dict[str, nn.Parameter] = {}
        roles = roles_of(peft_method_of(cfg), trainable)
        for name, role in roles.items():
            if policy[role] is Action.SHARE:
                self.shared[name] = trainable[name]
            elif policy[role] is Action.KEEP:
                self.kept[name] = trainable[name]
            else:
                _refuse_zero(name, trainable[name], role)
                trainable[name].requires_grad_(False)
        self.initial = {
            name: parameter.detach().cpu().clone()
            for name, parameter in (self.shared | self.kept).items()
        }
        self.spec = spec_of(self.shared)
        if policy.shares and not self.shared:
            raise UserError(
                f"federate.method {cfg.federate.method} shares nothing that "
                "this model has: it trains "
                f"{', '.join(sorted({r.value for r in roles.values()}))}"
            )
        self._policy = policy
        self._roles = roles
        self._in_turn = (
            KeptInMemory(self.initial_of(self.kept))
            if policy.in_turn
            else None
        )

    def kept_by(self, client: int, cfg: Any, run: str = "") -> Kept:
        """A client's own, see ``kept_for``; or, in turn, the one of all."""
        initial = self.initial_of(self.kept)
        return self._in_turn or kept_for(client, initial, cfg, run)

    def initial_of(self, group: Tensors) -> dict[str, torch.Tensor]:
        """The initial values of ``shared`` or ``kept``."""
        return {name: self.initial[name] for name in group}

    def sent_in(self, rnd: int) -> dict[str, nn.Parameter]:
        """What clients upload in a round, counted from 1."""
        policy = self._policy.in_round(rnd)
        return {
            name: parameter
            for name, parameter in self.shared.items()
            if policy[self._roles[name]] is Action.SHARE
        }

    @contextmanager
    def training(self, rnd: int) -> Iterator[None]:
        """The model with nothing trainable but what the round trains."""
        policy = self._policy.in_round(rnd)
        both = self.shared | self.kept
        try:
            for name, parameter in both.items():
                is_frozen = policy[self._roles[name]] is Action.FREEZE
                parameter.requires_grad_(not is_frozen)
            yield
        finally:
            for parameter in both.values():
                parameter.requires_grad_(True)

    def are_finite(self) -> bool:
        """Whether no trained value is NaN or infinite."""
        both = (self.shared | self.kept).values()
        checks = [p.detach().isfinite().all() for p in both]
        return not checks or bool(torch.stack(checks).all())

    @contextmanager
    def lent(self, *values: Tensors) -> Iterator[None]:
        """The model with these values; afterwards, with its initial ones.

        Nothing that the borrower puts in, trains or computes gradients for
        stays behind in the model.
        """
        try:
            for tensors in values:
                self._load(tensors)
            yield
        finally:
            self._load(self.initial)
            for parameter in (self.shared | self.kept).values():
                parameter.grad = None

    @torch.no_grad()
    def _load(self, tensors: Tensors) -> None:
        for name, value in tensors.items():
            group = self.shared if name in self.shared else self.kept
            group[name].copy_(value)


def _refuse_zero(name: str, frozen: nn.Parameter, role: Role) -> None:
    """One factor frozen at zero: the other has no gradient, for ever.

    LoRA's B starts at zero, and so does A on an embedding.
    """
    if role in (Role.A, Role.B) and not frozen.any():
        raise UserError(
            f"fedsa.policy.{role.value}: freeze leaves {name!r} at zero, so "
            "that its layer learns nothing; freeze the other factor, or "
            "target other layers"
        )


_of_model: "WeakKeyDictionary[nn.Module, AdapterParameters]" = (
    WeakKeyDictionary()
)


def parameters_of(model: nn.Module, cfg: Any) -> AdapterParameters:
    """The parameters of a model; one object for all that share the model."""
    if model not in _of_model:
        _of_model[model] = AdapterParameters(model, cfg)
    return _of_model[model]
