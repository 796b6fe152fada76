"""The options under ``fedsa:``, and the checks of a whole configuration."""

import math
from collections.abc import Mapping
from typing import Any

from federatedscope.core.configs.config import CN, global_cfg
from federatedscope.register import register_config

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.errors import UserError, unknown
from fs_plugins.policy import METHODS, Policy, Role, canonical, policy_of
from fs_plugins.trainer.scores import GENERATION_METRICS

# key, default, description
OPTIONS: tuple[tuple[str, Any, str], ...] = (
    (
        "fedsa.policy",
        {"A": "", "B": "", "HEAD": "", "OTHER": ""},
        "share, keep or freeze a role, in place of what the method does",
    ),
    (
        "fedsa.aggregator",
        "weighted_average",
        "how the server combines what the clients share",
    ),
    (
        "fedsa.min_received",
        1,
        "updates that a round needs; with fewer it is repeated",
    ),
    (
        "fedsa.round_timeout",
        0.0,
        "seconds after which the server goes on without the clients that "
        "haven't answered (distributed mode); 0 waits for all that are there",
    ),
    (
        "fedsa.transport",
        {
            "certificate": "",
            "key": "",
            "ca": "",
            "token_file": "",
            "wait": 300.0,
            "lost_after": 10.0,
        },
        "distributed mode: PEM files for mutual TLS; a file with a secret "
        "that all participants know; seconds that participants wait for each "
        "other at the start, and a client for its server; seconds without a "
        "sign of life after which the server goes on without a client",
    ),
    (
        "fedsa.lr",
        {"A": 0.0, "B": 0.0, "HEAD": 0.0, "OTHER": 0.0},
        "learning rate of a role, in place of train.optimizer.lr",
    ),
    (
        "fedsa.base",
        {"dtype": "float32", "quantize": "", "gradient_checkpointing": False},
        "the frozen base model: float32, bfloat16 or float16; 4bit or 8bit "
        "(bitsandbytes); recompute activations in place of keeping them",
    ),
    (
        "fedsa.adapter_dtype",
        "float32",
        "type of what is trained and travels",
    ),
    (
        "fedsa.half",
        "bfloat16",
        "what train.is_enable_half computes in: bfloat16 or float16",
    ),
    (
        "fedsa.eval",
        {
            "generate": {
                "examples": 0,
                "every": 1,
                "metric": "",
                "shots": 0,
                "max_new_tokens": 256,
                "batch_size": 8,
                "temperature": 0.0,
                "top_p": 1.0,
                "samples": 1,
                "problems": "",
                "run_code": False,
                "timeout": 3.0,
            }
        },
        "evaluation by generation (fedsa_llm): test examples a client, 0 for "
        "none, -1 for all; every how many rounds; exact_match, rouge_l or "
        "pass_at_1, by default what the data call for; worked examples before "
        "the question; greedy at temperature 0, else sampled; answers a "
        "problem; HumanEval's file; allow running generated programs, for so "
        "many seconds each",
    ),
    (
        "fedsa.token_cache",
        "",
        "folder for tokenised text; by default fs_plugins in the user's cache",
    ),
    (
        "model.adapter",
        {
            "args": [{}],
            "cache": "",
            "seed": 0,
            "dtype": "float32",
            "base": {
                "dtype": "float32",
                "quantize": "",
                "gradient_checkpointing": False,
                "device": "cpu",
            },
        },
        "filled in from llm.adapter, llm.cache, seed and fedsa.base; not to "
        "be set",
    ),
)
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


def extend_fedsa_cfg(cfg: Any) -> None:
    """Add our options to a configuration."""
    cfg.fedsa = CN()
    for key, default, _ in OPTIONS:
        section, name = key.split(".")
        cfg[section][name] = _node(default)
    cfg.register_cfg_check_fun(check)


def _node(default: Any) -> Any:
    """A default; a dictionary becomes a section."""
    if not isinstance(default, dict):
        return default
    node = CN()
    for name, value in default.items():
        node[name] = _node(value)
    return node


def policy_from(cfg: Any) -> Policy:
    """The policy that ``federate.method`` and ``fedsa.policy`` ask for."""
    changes = {
        role: action
        for role, action in cfg.fedsa.policy.items()
        if isinstance(action, str)
    }
    return policy_of(cfg.federate.method, changes)


def peft_method_of(cfg: Any) -> str:
    """The PEFT method that ``llm.adapter.args`` asks for."""
    return canonical(adapter_args(cfg))[0]


def adapter_args(cfg: Any) -> Mapping[str, Any]:
    """The first (and only) entry of ``llm.adapter.args``."""
    args = cfg.llm.adapter.args
    return dict(args[0]) if args else {}


def is_ours(cfg: Any) -> bool:
    """Whether our workers run the method (else the host's own do)."""
    return cfg.federate.method.lower() in METHODS


def is_client(cfg: Any) -> bool:
    """Whether this process is a client of a distributed run."""
    is_distributed = cfg.federate.mode.lower() == "distributed"
    return bool(is_distributed and cfg.distribute.role == "client")


def check(cfg: Any) -> None:
    """Refuse a configuration that cannot run.

    Raises:
        UserError: says which key, which value, and what is allowed.

    """
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
    ):
        value = get(cfg, key)
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
    _check_precision(cfg)
    _check_generation(cfg)
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


def get(cfg: Any, key: str, default: Any = None) -> Any:
    """The value of a key with dots; ``default`` if the host has no such."""
    node = cfg
    for part in key.split("."):
        if part not in node:
            return default
        node = node[part]
    return node


def _check_precision(cfg: Any) -> None:
    own = cfg.fedsa
    types = ("float32", "bfloat16", "float16")
    for key, value, allowed in (
        ("fedsa.base.dtype", own.base.dtype, types),
        ("fedsa.base.quantize", own.base.quantize, ("", "4bit", "8bit")),
        ("fedsa.adapter_dtype", own.adapter_dtype, types),
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
        if get(cfg, key, False):
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
        value = get(cfg, key, off)
        if value != off:
            raise UserError(
                f"{key}: {value!r} does not go with federate.method "
                f"{cfg.federate.method}; set it to {off!r}"
            )
    if cfg.federate.make_global_eval and policy.keeps:
        raise UserError(
            "federate.make_global_eval: with federate.method "
            f"{cfg.federate.method} some parameters exist only at the "
            "clients, so there is no global model to evaluate; set it to "
            "False"
        )


def _check_names(cfg: Any) -> None:
    """Refuse an optimizer, metric or trainer that nobody offers."""
    import federatedscope.register as register
    import torch
    from federatedscope.core.monitors.metric_calculator import SUPPORT_METRICS

    from fs_plugins.trainer import METRICS, TRAINERS

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
    is_ours = cfg.data.type.lower().endswith(("@glue", "@demo"))
    answers = (f(trainer) for f in register.trainer_dict.values())
    if (is_ours or trainer.startswith("fedsa")) and not any(answers):
        raise unknown("trainer.type", trainer, TRAINERS)


register_config("fedsa", extend_fedsa_cfg)
if "fedsa" not in global_cfg:  # the host's configuration is built already
    extend_fedsa_cfg(global_cfg)
