"""Checks of what a federated method or an aggregator needs."""

import math
from typing import Any

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.model.arguments import check_arguments
from fs_plugins.policy import Action, Policy, Role, canonical, variant_of
from fs_plugins.settings import adapter_args, clients_of_a_round


def check_lora(cfg: Config, policy: Policy) -> None:
    """Refuse an adapter that does not suit the method or the aggregator.

    Some methods, aggregators and options need the matrices A and B of LoRA,
    or both of them from every client in every round.

    Args:
        cfg: the configuration.
        policy: what ``federate.method`` does with each role.

    Raises:
        UserError: names the option and what it needs.

    """
    check_arguments(cfg)
    _check_trim(cfg)
    aggregator = AGGREGATORS[cfg.fedsa.aggregator]
    name = f"fedsa.aggregator: {cfg.fedsa.aggregator}"
    rounds = [policy.in_round(rnd) for rnd in (1, 2)]
    shares_both = all(p.A is p.B is Action.SHARE for p in rounds)
    if aggregator.needs_pairs and not shares_both:
        raise UserError(
            f"{name} needs A and B of every client in every round; "
            f"federate.method {cfg.federate.method} shares "
            f"{_shared_roles(rounds)}; take fedit"
        )
    ranks = list(cfg.fedsa.ranks)
    if ranks and not aggregator.mixes_ranks:
        mixing = [n for n, a in AGGREGATORS.items() if a.mixes_ranks]
        raise UserError(
            f"{name} cannot combine clients of different ranks (fedsa.ranks); "
            f"{', '.join(mixing)} can"
        )
    has_private = policy.PRIVATE is Action.KEEP
    for key, is_asked, is_start_bound in (
        (name, aggregator.needs_pairs, aggregator.reinitializes),
        ("fedsa.ranks", bool(ranks), True),
        (f"federate.method: {cfg.federate.method}", has_private, True),
        ("fedsa.scale_by_clients", cfg.fedsa.scale_by_clients, False),
    ):
        if is_asked:
            _check_plain_lora(cfg, key, is_start_bound)
    if aggregator.reinitializes:
        _check_fresh_start(cfg, name)
    if ranks:
        _check_ranks(cfg, ranks, has_private or policy.sequential)


def _check_trim(cfg: Config) -> None:
    """Refuse a trimmed mean that would trim nothing.

    The number of clients may be unknown until the data are loaded.
    """
    clients = clients_of_a_round(cfg)
    trim = float(cfg.fedsa.aggregator_args["trim"])
    if cfg.fedsa.aggregator != "trimmed_mean" or clients < 1:
        return
    if not int(trim * clients):
        need = (
            f"at least {math.ceil(1000 / clients) / 1000:g} is needed"
            if clients > 2
            else "at least three clients are needed"
        )
        raise UserError(
            f"fedsa.aggregator_args.trim: {trim:g} of the {clients} clients "
            f"of a round is less than one client, so that trimmed_mean would "
            f"be the mean of all; {need}"
        )


def _shared_roles(rounds: list[Policy]) -> str:
    """Which of A and B is shared in all rounds, for a sentence."""
    shared = [
        role.value
        for role in (Role.A, Role.B)
        if all(p[role] is Action.SHARE for p in rounds)
    ]
    return f"{shared[0]} alone" if shared else "neither in all of them"


def _check_plain_lora(cfg: Config, key: str, is_start_bound: bool) -> None:
    """Refuse any adapter but LoRA and rsLoRA.

    With ``is_start_bound`` also an initialization that changes the weights
    of the base model (PiSSA, OLoRA, ...) is refused.
    """
    method, args = canonical(adapter_args(cfg))
    start = args.get("init_lora_weights", True)
    changes_base = isinstance(start, str) and start not in (
        "gaussian",
        "orthogonal",
    )
    if (
        method != "lora"
        or args.get("use_dora")
        or (is_start_bound and changes_base)
    ):
        raise UserError(
            f"{key} is for lora and rslora, not for llm.adapter.args: "
            f"adapter_method {variant_of(adapter_args(cfg))}"
        )


def _check_fresh_start(cfg: Config, key: str) -> None:
    """Refuse an initialization that the aggregator cannot repeat.

    An aggregator that reinitializes the adapter in each round needs one that
    can be drawn at random again and whose product B A is zero: it would add
    any other product to the base model in each round.
    """
    start = canonical(adapter_args(cfg))[1].get("init_lora_weights", True)
    if start is not True and start != "gaussian":
        raise UserError(
            f"{key} starts each round with a B of zero, which "
            f"llm.adapter.args: init_lora_weights: {start!r} is not; take "
            "true or gaussian"
        )


def check_float64(cfg: Config) -> None:
    """Refuse float64 for the base model or the adapter alone.

    Autocast casts to half precision only, so a model of float32 and float64
    cannot be computed with.

    Raises:
        UserError: names the keys that contradict each other.

    """
    base, adapter_dtype = cfg.fedsa.base, cfg.fedsa.adapter_dtype
    dtypes = (base.dtype, adapter_dtype)
    if "float64" not in dtypes:
        return
    if dtypes != ("float64", "float64"):
        raise UserError(
            "fedsa.base.dtype and fedsa.adapter_dtype: float64 is for both "
            f"or for neither, not {base.dtype} and {adapter_dtype}"
        )
    for key, value in (
        ("fedsa.base.quantize", base.quantize),
        ("train.is_enable_half", cfg.train.is_enable_half),
    ):
        if value:
            raise UserError(
                f"{key}: {value!r} does not go with fedsa.base.dtype float64"
            )


def _check_ranks(cfg: Config, ranks: list[Any], is_refused: bool) -> None:
    """Refuse ranks above the adapter's, and any for a method without them."""
    args = canonical(adapter_args(cfg))[1]
    pattern = args.get("rank_pattern") or {}
    most = max([args.get("r", 8), *pattern.values()])
    for rank in ranks:
        if rank > most:
            raise UserError(
                f"fedsa.ranks: {rank} is not a whole number from 1 to "
                f"{most}, the largest r of llm.adapter.args"
            )
    if is_refused:
        raise UserError(
            f"fedsa.ranks: federate.method {cfg.federate.method} needs "
            "clients of one rank"
        )
