"""The trainable parameters of a model, grouped by what a policy does."""

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
    """Views of a model's parameters, grouped by what the policy does to them.

    The server and all clients of a process may use one model.  Each of them
    loads its own values for as long as it needs the model: see ``loaded``.  A
    client of rank k uses only the first k rows of A and columns of B.

    Args:
        model: a PEFT model, or a wrapper that has one as ``model``.
        cfg: the configuration.

    Attributes:
        inner: the PEFT model.
        shared: the parameters that are shared, by name.
        kept: the parameters that stay with their client, by name.
        frozen: the adapter's parameters that never change, by name.
        initial: the values that every client starts from, of the parameters
            of all three groups.
        roles: the role of each of these parameters.
        policy: what the method does with each role.
        delta: the low-rank change of the base model that the aggregator adds
            to.

    Raises:
        UserError: the model has no parameters of the roles that the policy
            shares, the policy freezes a factor that is zero, or the layers
            do not fit the method, the aggregator or ``fedsa.ranks``.

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
        # the cache of the files of client states
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
        """Refuse layers whose A has not r rows, or B not r columns.

        Only where the method, the aggregator or ``fedsa.ranks`` works on the
        rows of A and the columns of B.
        """
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
        """Whether the aggregator changes the base model."""
        return self._aggregator.changes_base

    @property
    def _all(self) -> dict[str, nn.Parameter]:
        """The parameters of all three groups, by name."""
        return self.shared | self.kept | self.frozen

    def aggregator(self) -> Aggregator:
        """A new aggregator of the kind that ``fedsa.aggregator`` names."""
        return self._aggregator(
            self.initial_of(self.shared),
            ignore_weight=self._cfg.federate.ignore_weight,
            options=plain(self._cfg.fedsa.aggregator_args),
            pairs=self._pairs,
            delta=self.delta,
        )

    def kept_by(self, client: int, run: str = "") -> ClientState:
        """The state of a client; all clients share it if it is sequential.

        Args:
            client: the client's ID.
            run: the server's name for a distributed run, or ``""``.

        """
        initial = self._of_rank(client, self.initial_of(self.kept))
        return self._sequential or client_state_for(
            client, initial, self._cfg, self._cache, run
        )

    def initial_of(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The initial values of some of the parameters."""
        return {name: self.initial[name] for name in names}

    def sent_by(self, client: int, rnd: int) -> dict[str, torch.Tensor]:
        """The parameters that a client uploads in a round.

        Args:
            client: the client's ID.
            rnd: the round, counted from 1.

        Returns:
            Views of the model's parameters.

        """
        policy = self.policy.in_round(rnd)
        sent = {
            name: parameter
            for name, parameter in self.shared.items()
            if policy[self.roles[name]] is Action.SHARE
        }
        return self._of_rank(client, sent)

    def sent_to(self, client: int, values: Tensors) -> dict[str, torch.Tensor]:
        """The part of the global parameters that a client is sent.

        Args:
            client: the client's ID.
            values: the global parameters, by name.

        Returns:
            Views of ``values``.

        """
        derived = self._derived
        sent = {
            name: value
            for name, value in values.items()
            if name not in derived
        }
        return self._of_rank(client, sent)

    @property
    def _derived(self) -> set[str]:
        """The names of shared parameters that need not be sent to clients.

        Every participant draws the same values, see ``drawn_in``.
        """
        if not self._aggregator.reinitializes:
            return set()
        return {name for pair in self._pairs.values() for name in pair}

    def trained_by(self, client: int) -> dict[str, torch.Tensor]:
        """Views of the parameters that a client keeps, as they are now."""
        return self._of_rank(client, self.kept)

    def payload_for(
        self, client: int, values: Tensors, known_rounds: int
    ) -> bytes:
        """The global parameters and the changes of the base, encoded.

        Args:
            client: the client's ID.
            values: the global parameters, by name.
            known_rounds: how many additions to the base model the client
                has received; the payload holds those after them.

        """
        sent = self.sent_to(client, values)
        if self.changes_base:
            sent |= self.delta.since(known_rounds)
        return encode(sent)

    def received(
        self, client: int, payload: bytes, rnd: int
    ) -> dict[str, torch.Tensor]:
        """Decode the global parameters that a client has received.

        Changes of the base model that arrive beside them are added to
        ``delta``.

        Args:
            client: the client's ID.
            payload: what has arrived.
            rnd: the round, counted from 1.

        Returns:
            All shared parameters of the client, by name, including those
            that are drawn rather than sent.

        Raises:
            WireError: the payload is not what is expected.

        """
        spec = spec_of(self.sent_to(client, self.shared))
        if not self.changes_base:
            return decode(payload, spec)
        layers = {
            layer: (self.shared[b], self.shared[a])
            for layer, (a, b) in self._pairs.items()
        }
        tensors = decode(payload, spec, DELTA, most_bytes(layers))
        changes = {
            name: tensors.pop(name)
            for name in [*tensors]
            if name.startswith(DELTA)
        }
        check_delta(changes, layers)
        self.delta.take(changes)
        return tensors | self._of_rank(client, self.drawn_in(rnd))

    def drawn_in(self, rnd: int) -> dict[str, torch.Tensor]:
        """The factors A and B that are reinitialized for a round.

        The values depend on the seed and the round only, so that they are
        the same for every participant.  Without an aggregator that
        reinitializes, there are none.
        """
        names = self._derived
        if rnd <= 1 or not names:
            return self.initial_of(names)
        with random_state(self._cfg.seed, "start", rnd), torch.no_grad():
            for name, layer in self.inner.named_modules():
                if name in self._pairs:
                    start = self.inner.active_peft_config.init_lora_weights
                    layer.reset_lora_parameters("default", start)
            drawn = {n: self.shared[n].detach().cpu().clone() for n in names}
            self._load(self.initial)  # PEFT has also reset the bias of B
        return drawn

    def _of_rank(self, client: int, tensors: Tensors) -> dict[str, Any]:
        """The part of the tensors that a client of its rank has, as views."""
        return truncate(tensors, self.roles, rank_of(self._cfg, client))

    @contextmanager
    def training(self, rnd: int) -> Iterator[None]:
        """Make only those parameters trainable that the round trains.

        Args:
            rnd: the round, counted from 1.

        """
        policy = self.policy.in_round(rnd)
        trained = self.shared | self.kept
        try:
            for name, parameter in trained.items():
                is_frozen = policy[self.roles[name]] is Action.FREEZE
                parameter.requires_grad_(not is_frozen)
            yield
        finally:
            for parameter in trained.values():
                parameter.requires_grad_(True)

    def are_finite(self) -> bool:
        """Whether all trained parameters are finite."""
        trained = (self.shared | self.kept).values()
        checks = [p.detach().isfinite().all() for p in trained]
        return not checks or bool(torch.stack(checks).all())

    @contextmanager
    def loaded(self, *values: Tensors, client: int = 0) -> Iterator[None]:
        """Load values into the model; afterwards, load the initial ones.

        Neither values nor gradients stay behind in the model.

        Args:
            *values: tensors by name, which are loaded in this order.
            client: the ID of the client whose rank the model gets; 0 for the
                server.

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
        """Copy values into the model, with zeros beyond their rank.

        A component whose row of A and column of B are both zero has no
        gradient, and so stays at zero.
        """
        parameters = self._all
        for name, value in tensors.items():
            parameter = parameters[name]
            if parameter.shape != value.shape:
                parameter.zero_()
            parameter[leading_slices(value.shape)].copy_(value)


def _refuse_zero(name: str, frozen: nn.Parameter, role: Role) -> None:
    """Refuse a factor that the policy freezes and that starts at zero.

    The other factor would never have a gradient.  LoRA's B starts at zero,
    and so does the A of an embedding.
    """
    is_factor = role in (Role.A, Role.B) and not is_bias(name)
    if is_factor and not frozen.any():
        raise UserError(
            f"fedsa.policy.{role.value}: freeze leaves {name!r} at zero, so "
            "that its layer learns nothing; freeze the other factor, or "
            "target other layers"
        )


def parameters_of(model: nn.Module, cfg: Config) -> AdapterParameters:
    """The parameters of a model; workers that share a model share them, too.

    Args:
        model: a PEFT model, or a wrapper that has one as ``model``.
        cfg: the configuration.

    """
    return current_scope().once(
        ("parameters", model), lambda: AdapterParameters(model, cfg)
    )
