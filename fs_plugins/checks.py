"""The checks of a whole configuration: a mistake is one sentence."""

import importlib.util
import math
from typing import Any

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.checks_of_methods import check_lora, check_numbers
from fs_plugins.config import is_ours, policy_from
from fs_plugins.data import FAMILIES
from fs_plugins.errors import UserError, unknown
from fs_plugins.plugins import load_plugins
from fs_plugins.policy import METHODS, Role
from fs_plugins.report.track import TRACKERS
from fs_plugins.trainer import METRICS, TRAINERS
from fs_plugins.trainer.scores import GENERATION_METRICS

# What our workers would silently leave out: key, the value that is off.
_NOT_WITH_OURS = (
    ("nbafl.use", False),
    ("asyn.use", False),
    ("federate.use_ss", False),
    ("quantization.method", "none"),
    ("aggregator.robust_rule", "fedavg"),
    ("fedopt.use", False),
    ("federate.online_aggr", False),
)


def check(cfg: Any) -> None:
    """Refuse a configuration that cannot run.

    Raises:
        UserError: says which key, which value, and what is allowed.

    """
    load_plugins(cfg.fedsa.plugins)
    if cfg.fedsa.aggregator not in AGGREGATORS:
        raise unknown("fedsa.aggregator", cfg.fedsa.aggregator, AGGREGATORS)
    if is_ours(cfg):
        _check_ours(cfg)


def check_values(cfg: Any) -> None:
    """Refuse values that the host would trip over much later.

    Called once, on the complete configuration of a run.

    Raises:
        UserError: says which key, which value, and what is allowed.

    """
    method = cfg.federate.method
    if not is_ours(cfg) and method.lower() not in _host_methods():
        raise unknown("federate.method", method, [*METHODS, "FedAvg"])
    for key, least in (
        ("seed", 0),
        # Data that come as clients' own set the number themselves.
        ("federate.client_num", 1 if "@" in cfg.data.type else 0),
        ("federate.total_round_num", 1),
        ("train.local_update_steps", 1),
        ("dataloader.batch_size", 1),
        ("eval.freq", 1),
        ("llm.tok_len", 1),
        ("grad.grad_accum_count", 1),
        ("fedsa.min_received", 1),
        ("fedsa.max_samples", 0),
        ("fedsa.checkpoint.every", 0),
        ("fedsa.checkpoint.keep", 1),
    ):
        value = _get(cfg, key)
        if not isinstance(value, int) or value < least:
            raise UserError(
                f"{key}: {value!r} is not a whole number of at least {least}"
            )
    rate = cfg.train.optimizer.lr
    is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not is_number or not math.isfinite(rate) or rate <= 0:
        raise UserError(
            f"train.optimizer.lr: {rate!r} is not a number above 0"
        )
    _check_names(cfg)
    _check_tracking(cfg)
    _check_precision(cfg)
    _check_generation(cfg)
    _check_splits(cfg)
    _check_state(cfg)
    check_numbers(cfg)
    if cfg.federate.mode.lower() == "distributed":
        _check_distributed(cfg)


def check_update_key(cfg: Any) -> None:
    """Refuse to choose the best round by a metric that isn't computed.

    Called once the data have said which metrics to compute.

    Raises:
        UserError: says which metrics there are.

    """
    name = "eval.best_res_update_round_wise_key"
    key = cfg.eval.best_res_update_round_wise_key
    metrics = {*cfg.eval.metrics, "loss", "avg_loss", "total"}
    allowed = [f"{s}_{m}" for s in cfg.eval.split for m in sorted(metrics)]
    if key not in allowed:
        raise unknown(name, key, allowed)


def _check_precision(cfg: Any) -> None:
    own = cfg.fedsa
    types = ("float32", "bfloat16", "float16")
    for key, value, allowed in (
        ("fedsa.base.dtype", own.base.dtype, (*types, "float64")),
        ("fedsa.base.quantize", own.base.quantize, ("", "4bit", "8bit")),
        ("fedsa.adapter_dtype", own.adapter_dtype, (*types, "float64")),
        ("fedsa.half", own.half, types[1:]),
    ):
        if value not in allowed:
            raise unknown(key, value, [a for a in allowed if a])
    for role, rate in own.lr.items():
        if role in Role.__members__ and not 0 <= rate < math.inf:
            raise UserError(
                f"fedsa.lr.{role}: {rate!r} is not a number of at least 0"
            )


def _check_generation(cfg: Any) -> None:
    options, key = cfg.fedsa.eval.generate, "fedsa.eval.generate"
    if options.metric not in ("", *GENERATION_METRICS):
        raise unknown(f"{key}.metric", options.metric, GENERATION_METRICS)
    for name, least in (
        ("examples", -1),
        ("every", 1),
        ("shots", 0),
        ("max_new_tokens", 1),
        ("batch_size", 1),
        ("samples", 1),
        ("temperature", 0),
        ("timeout", 0.1),
    ):
        if options[name] < least:
            raise UserError(
                f"{key}.{name}: {options[name]!r} is less than {least}"
            )
    if not 0 < options.top_p <= 1:
        raise UserError(
            f"{key}.top_p: {options.top_p!r} is not above 0 and at most 1"
        )
    if options.samples > 1 and not options.temperature:
        raise UserError(
            f"{key}.samples: {options.samples} answers at temperature 0 "
            f"would all be the same; set {key}.temperature"
        )
    if options.metric == "pass_at_1" and not options.run_code:
        raise UserError(
            f"{key}.run_code: pass_at_1 runs programs that a model has "
            "written; set it to True if that is acceptable on this machine"
        )
    if (options.metric == "pass_at_1") != bool(options.problems):
        raise UserError(
            f"{key}.problems: names HumanEval's file, together with metric "
            "pass_at_1"
        )


def _check_splits(cfg: Any) -> None:
    """Each of the splits that are evaluated exists."""
    known = ("train", "val", "test", "union")
    for split in cfg.eval.split:
        if split not in known:
            raise unknown("eval.split", split, known)
    ours = cfg.trainer.type.startswith("fedsa")
    if "union" in cfg.eval.split and not ours:
        raise UserError(
            "eval.split: 'union' needs a trainer of ours, not trainer.type "
            f"{cfg.trainer.type}"
        )


def _check_state(cfg: Any) -> None:
    own = cfg.fedsa.state
    if own.backend not in ("memory", "disk"):
        raise unknown("fedsa.state.backend", own.backend, ("memory", "disk"))
    if own.cache < 0:
        raise UserError(f"fedsa.state.cache: {own.cache!r} MB is less than 0")
    if not own.optimizer:
        return
    if not is_ours(cfg) or not cfg.trainer.type.startswith("fedsa"):
        raise UserError(
            "fedsa.state.optimizer: True needs a method and a trainer of "
            f"ours, not federate.method {cfg.federate.method} with "
            f"trainer.type {cfg.trainer.type}"
        )


def notes_on(cfg: Any) -> list[str]:
    """What a user should know of a configuration that runs all the same."""
    local = list(cfg.personalization.local_param)
    leaks = cfg.federate.share_local_model and local and not is_ours(cfg)
    if not leaks:
        return []
    return [
        f"with federate.method {cfg.federate.method} and "
        "federate.share_local_model True all clients train one model, so "
        f"what personalization.local_param names ({', '.join(local)}) goes "
        "from client to client; set share_local_model to False, or take "
        "federate.method fedit"
    ]


def why_not_resumable(cfg: Any) -> str:
    """What in a configuration keeps a run from being checkpointed; or ''.

    The host's own FedAvg can be; what its other methods carry from round to
    round is known to them alone.
    """
    if cfg.federate.mode.lower() == "distributed":
        return "federate.mode 'distributed'"
    if cfg.federate.sampler == "group":
        return "federate.sampler 'group'"
    if is_ours(cfg):
        return ""
    if cfg.federate.method.lower() != "fedavg":
        return f"federate.method {cfg.federate.method}"
    for key, off in _NOT_WITH_OURS:
        value = _get(cfg, key, off)
        if value != off:
            return f"{key} {value!r}"
    return ""


def _check_distributed(cfg: Any) -> None:
    if not cfg.distribute.use:
        raise UserError(
            "distribute.use: must be True with federate.mode 'distributed'; "
            "FederatedScope forgets the section otherwise"
        )
    if cfg.federate.share_local_model:
        raise UserError(
            "federate.share_local_model: must be False with federate.mode "
            "'distributed', where each participant is a process of its own"
        )
    role, own = cfg.distribute.role, cfg.distribute.data_idx
    if role not in ("server", "client"):
        raise unknown("distribute.role", role, ("server", "client"))
    clients = cfg.federate.client_num
    if role == "client" and "@" in cfg.data.type and not 1 <= own <= clients:
        raise UserError(
            f"distribute.data_idx: {own!r} is not the number of a client; it "
            f"must be from 1 to federate.client_num, {clients}"
        )
    for key in ("federate.use_ss", "vertical.use"):
        if _get(cfg, key, False):
            raise UserError(
                f"{key}: True needs clients that talk to each other, which "
                "this transport does not let them"
            )
    for name in ("wait", "lost_after"):
        if cfg.fedsa.transport[name] <= 0:
            raise UserError(
                f"fedsa.transport.{name}: {cfg.fedsa.transport[name]!r} is "
                "not a number of seconds above 0"
            )


def _host_methods() -> set[str]:
    """Methods that the host's own workers run."""
    from federatedscope.core.configs.constants import CLIENTS_TYPE

    return {name.lower() for name in CLIENTS_TYPE} | {"global"}


def _check_ours(cfg: Any) -> None:
    policy = policy_from(cfg)
    if policy.in_turn and not cfg.federate.share_local_model:
        raise UserError(
            f"federate.share_local_model: must be True with federate.method "
            f"{cfg.federate.method}, whose clients train one model in turn"
        )
    fewest, most = cfg.fedsa.min_received, cfg.federate.sample_client_num
    if fewest > most > 0:
        raise UserError(
            f"fedsa.min_received: {fewest} is more than the {most} clients "
            "of a round (federate.sample_client_num)"
        )
    for key, off in _NOT_WITH_OURS:
        value = _get(cfg, key, off)
        if value != off:
            raise UserError(
                f"{key}: {value!r} does not go with federate.method "
                f"{cfg.federate.method}; set it to {off!r}"
            )
    check_lora(cfg, policy)
    if cfg.federate.make_global_eval and policy.keeps:
        raise UserError(
            "federate.make_global_eval: with federate.method "
            f"{cfg.federate.method} some parameters exist only at the "
            "clients, so there is no global model to evaluate; set it to "
            "False"
        )


def _check_tracking(cfg: Any) -> None:
    if cfg.fedsa.track not in TRACKERS:
        raise unknown("fedsa.track", cfg.fedsa.track, TRACKERS)
    for key, package, is_used in (
        ("fedsa.track", "tensorboard", cfg.fedsa.track == "tensorboard"),
        ("wandb.use", "wandb", cfg.wandb.use),
    ):
        if is_used and importlib.util.find_spec(package) is None:
            raise UserError(
                f"{key}: the package {package} is not installed; "
                f"'pip install {package}' does it"
            )


def _check_names(cfg: Any) -> None:
    """Refuse an optimizer, metric or trainer that nobody offers."""
    import federatedscope.register as register
    import torch
    from federatedscope.core.monitors.metric_calculator import SUPPORT_METRICS

    optimizers = [
        name
        for name in dir(torch.optim)
        if isinstance(getattr(torch.optim, name), type) and name != "Optimizer"
    ]
    optimizer = cfg.train.optimizer.type
    if optimizer not in (*optimizers, *register.optimizer_dict):
        raise unknown("train.optimizer.type", optimizer, optimizers)
    for metric in cfg.eval.metrics:
        answers = (f({metric}) for f in register.metric_dict.values())
        if metric not in SUPPORT_METRICS and not any(answers):
            known = {*SUPPORT_METRICS, *METRICS} - {"std"}
            shown = [name for name in known if "@" not in name]
            raise unknown("eval.metrics", metric, shown)
    trainer = cfg.trainer.type
    _, at, family = cfg.data.type.lower().rpartition("@")
    is_ours = at and family in FAMILIES and family != "llm"
    answers = (f(trainer) for f in register.trainer_dict.values())
    if (is_ours or trainer.startswith("fedsa")) and not any(answers):
        raise unknown("trainer.type", trainer, TRAINERS)


def _get(cfg: Any, key: str, default: Any = None) -> Any:
    """The value of a key with dots; ``default`` if the host has no such."""
    node = cfg
    for part in key.split("."):
        if part not in node:
            return default
        node = node[part]
    return node
