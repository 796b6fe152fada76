"""The trainable parameters of a model, by what the policy does to them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fs_plugins.aggregator import AGGREGATORS, Aggregator
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.model.delta import (
    DELTA,
    Delta,
    check_delta,
    most_bytes,
)
from fs_plugins.model.factors import check_factors
from fs_plugins.policy import (
    Action,
    Role,
    is_bias,
    leading_slices,
    pairs_of,
    roles_of,
    truncate,
)
from fs_plugins.scope import current_scope
from fs_plugins.seeds import random_state
from fs_plugins.settings import (
    peft_method_of,
    plain,
    policy_from,
    rank_of,
)
from fs_plugins.state import (
    ClientState,
    StateInMemory,
    cache_for,
    client_state_for,
)
from fs_plugins.wire import Tensors, decode, encode, spec_of


class AdapterParameters:
    """Views of a model's parameters, by what the policy does to them.

    The server and all clients may work on one model.  Whoever uses it moves
    its own values in and leaves the model as it was: see ``loaded``.  A worker
    of rank k uses the first k rows of A and columns of B, and no others.

    Args:
        model: a PEFT model, or a wrapper with one in ``.model``.
        cfg: the configuration.

    Attributes:
        shared: the parameters that travel, by name.
        kept: those that stay with their client, by name.
        frozen: those that never change.
        initial: the values of all three that every client starts from.
        roles: what each of them is.
        policy: what happens to each role.
        delta: what the aggregator adds to the base model.

    Raises:
        UserError: the policy shares roles that this model does not have.

    """

    def __init__(self, model: nn.Module, cfg: Config) -> None:
        scope, policy = current_scope(), policy_from(cfg)
        self.inner: Any = getattr(model, "model", model)
        trainable = {
            name: parameter
            for name, parameter in self.inner.named_parameters()
            if parameter.requires_grad
        }
        self.shared: dict[str, nn.Parameter] = {}
        self.kept: dict[str, nn.Parameter] = {}
        self.frozen: dict[str, nn.Parameter] = {}
        groups = {
            Action.SHARE: self.shared,
            Action.KEEP: self.kept,
            Action.FREEZE: self.frozen,
        }
        self.roles = roles_of(peft_method_of(cfg), trainable)
        for name, role in self.roles.items():
            groups[policy[role]][name] = trainable[name]
            if policy[role] is Action.FREEZE:
                _refuse_zero(name, trainable[name], role)
                trainable[name].requires_grad_(False)
        self.initial = {
            name: parameter.detach().cpu().clone()
            for name, parameter in self._all.items()
        }
        if policy.shares and not self.shared:
            raise UserError(
                f"federate.method {cfg.federate.method} shares nothing that "
                "this model has: it trains "
                f"{', '.join(sorted({r.value for r in self.roles.values()}))}"
            )
        self.delta = scope.once(("delta", cfg.outdir), Delta)
        # of the files of what clients keep
        self._cache = scope.once("cache", lambda: cache_for(cfg))
        self._cfg = cfg
        self.policy = policy
        self._aggregator = AGGREGATORS[cfg.fedsa.aggregator]
        self._check_factors()
        self._pairs = (
            pairs_of(self.roles) if self._aggregator.needs_pairs else {}
        )
        self._sequential = (
            StateInMemory(self.initial_of(self.kept))
            if policy.sequential
            else None
        )

    def _check_factors(self) -> None:
        """Refuse layers whose A and B are not r rows and r columns."""
        cfg, needs_pairs = self._cfg, self._aggregator.needs_pairs
        aggregator = f"fedsa.aggregator: {cfg.fedsa.aggregator}"
        method = f"federate.method: {cfg.federate.method}"
        has_private = self.policy.PRIVATE is Action.KEEP
        for key, is_asked in (
            (aggregator, needs_pairs),
            ("fedsa.ranks", bool(cfg.fedsa.ranks)),
            (method, has_private),
        ):
            if is_asked:
                check_factors(self.inner, self.roles, key, needs_pairs)

    @property
    def changes_base(self) -> bool:
        """Whether the aggregator adds to the base model."""
        return self._aggregator.changes_base

    @property
    def _all(self) -> dict[str, nn.Parameter]:
        return self.shared | self.kept | self.frozen

    def aggregator(self) -> Aggregator:
        """A new one, of the kind that ``fedsa.aggregator`` names."""
        return self._aggregator(
            self.initial_of(self.shared),
            ignore_weight=self._cfg.federate.ignore_weight,
            options=plain(self._cfg.fedsa.aggregator_args),
            pairs=self._pairs,
            delta=self.delta,
        )

    def kept_by(self, client: int, run: str = "") -> ClientState:
        """What a client keeps; with a sequential policy, the one of all.

        Args:
            client: its ID.
            run: the server's name for a distributed run.

        """
        initial = self._of_rank(client, self.initial_of(self.kept))
        return self._sequential or client_state_for(
            client, initial, self._cfg, self._cache, run
        )

    def initial_of(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The initial values of ``shared`` or ``kept``, say."""
        return {name: self.initial[name] for name in names}

    def sent_by(self, client: int, rnd: int) -> dict[str, torch.Tensor]:
        """What a client uploads in a round, counted from 1."""
        policy = self.policy.in_round(rnd)
        sent = {
            name: parameter
            for name, parameter in self.shared.items()
            if policy[self.roles[name]] is Action.SHARE
        }
        return self._of_rank(client, sent)

    def sent_to(self, client: int, values: Tensors) -> dict[str, torch.Tensor]:
        """What the server sends a client of the global parameters."""
        derived = self._derived
        sent = {n: v for n, v in values.items() if n not in derived}
        return self._of_rank(client, sent)

    @property
    def _derived(self) -> set[str]:
        """What need not travel, as everyone can draw it."""
        if not self._aggregator.reinitializes:
            return set()
        return {name for pair in self._pairs.values() for name in pair}

    def trained_by(self, client: int) -> dict[str, torch.Tensor]:
        """What a client keeps, as it is in the model now."""
        return self._of_rank(client, self.kept)

    def payload_for(
        self, client: int, values: Tensors, known_rounds: int
    ) -> bytes:
        """The global parameters, and what the client lacks of the base.

        Args:
            client: its ID.
            values: the global parameters.
            known_rounds: how many additions to the base it has got.

        """
        sent = self.sent_to(client, values)
        if self.changes_base:
            sent |= self.delta.since(known_rounds)
        return encode(sent)

    def received(
        self, client: int, payload: bytes, rnd: int
    ) -> dict[str, torch.Tensor]:
        """A client's global parameters in a round, from what has arrived.

        What it lacks of the base model is added to it.

        Raises:
            WireError: something else has arrived.

        """
        spec = spec_of(self.sent_to(client, self.shared))
        if not self.changes_base:
            return decode(payload, spec)
        layers = {
            layer: (self.shared[b], self.shared[a])
            for layer, (a, b) in self._pairs.items()
        }
        found = decode(payload, spec, DELTA, most_bytes(layers))
        changes = {n: found.pop(n) for n in [*found] if n.startswith(DELTA)}
        check_delta(changes, layers)
        self.delta.take(changes)
        return found | self._of_rank(client, self.drawn_in(rnd))

    def drawn_in(self, rnd: int) -> dict[str, torch.Tensor]:
        """The A and B that a round begins with, if it starts afresh."""
        names = self._derived
        if rnd <= 1 or not names:
            return self.initial_of(names)
        with random_state(self._cfg.seed, "start", rnd), torch.no_grad():
            for name, layer in self.inner.named_modules():
                if name in self._pairs:
                    start = self.inner.active_peft_config.init_lora_weights
                    layer.reset_lora_parameters("default", start)
            drawn = {n: self.shared[n].detach().cpu().clone() for n in names}
            self._load(self.initial)  # B's bias has been reset, too
        return drawn

    def _of_rank(self, client: int, tensors: Tensors) -> dict[str, Any]:
        """The first rows of A and columns of B, views of the tensors."""
        return truncate(tensors, self.roles, rank_of(self._cfg, client))

    @contextmanager
    def training(self, rnd: int) -> Iterator[None]:
        """The model with nothing trainable but what the round trains."""
        policy = self.policy.in_round(rnd)
        both = self.shared | self.kept
        try:
            for name, parameter in both.items():
                is_frozen = policy[self.roles[name]] is Action.FREEZE
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
    def loaded(self, *values: Tensors, client: int = 0) -> Iterator[None]:
        """The model with these values; afterwards, with its initial ones.

        Nothing that the borrower puts in, trains or computes gradients for
        stays behind in the model.
        """
        try:
            frozen = self.initial_of(self.frozen)
            for tensors in (self._of_rank(client, frozen), *values):
                self._load(tensors)
            with self.delta.beside(self.inner):
                yield
        finally:
            self._load(self.initial)
            for parameter in (self.shared | self.kept).values():
                parameter.grad = None

    @torch.no_grad()
    def _load(self, tensors: Tensors) -> None:
        """Copy values in; where they are of lower rank, the rest is zero.

        With its rows of A and columns of B at zero, a component has no
        gradient: it stays at zero.
        """
        everything = self._all
        for name, value in tensors.items():
            whole = everything[name]
            if whole.shape != value.shape:
                whole.zero_()
            whole[leading_slices(value.shape)].copy_(value)


def _refuse_zero(name: str, frozen: nn.Parameter, role: Role) -> None:
    """One factor frozen at zero: the other has no gradient, for ever.

    LoRA's B starts at zero, and so does A on an embedding.
    """
    is_factor = role in (Role.A, Role.B) and not is_bias(name)
    if is_factor and not frozen.any():
        raise UserError(
            f"fedsa.policy.{role.value}: freeze leaves {name!r} at zero, so "
            "that its layer learns nothing; freeze the other factor, or "
            "target other layers"
        )


def parameters_of(model: nn.Module, cfg: Config) -> AdapterParameters:
    """The parameters of a model; one object for all that share the model.

    Args:
        model: a PEFT model, or a wrapper with one in ``.model``.
        cfg: the configuration.

    """
    return current_scope().once(
        ("parameters", model), lambda: AdapterParameters(model, cfg)
    )
