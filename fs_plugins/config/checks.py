"""Checks of a whole configuration.

Each mistake is reported as a ``UserError`` of one sentence.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from fs_plugins.config.checks_of_methods import check_float64, check_lora
from fs_plugins.config.checks_of_modes import check_distributed
from fs_plugins.config.option import PATH
from fs_plugins.config.options import OPTIONS
from fs_plugins.config.plugins import load_plugins
from fs_plugins.data import FAMILIES
from fs_plugins.data.splitters import BY_CLIENT
from fs_plugins.data.template import check_template
from fs_plugins.errors import UserError, shown, unknown
from fs_plugins.host.configuration import Config
from fs_plugins.model.arguments import check_arguments
from fs_plugins.model.start import is_adapter
from fs_plugins.settings import is_ours, policy_from
from fs_plugins.state.weights import read_weights
from fs_plugins.terms import (
    CHOICE_METRICS,
    GENERATION_METRICS,
    LANGUAGE_TRAINER,
    TRAINERS,
)
from fs_plugins.trainer.metrics import METRICS, unfit
from fs_plugins.trainer.scores import score_names

# FederatedScope's features that the workers of this package do not have and
# would silently ignore: the key, and the value that switches the feature off.
_NOT_WITH_OURS = (
    ("nbafl.use", False),
    ("asyn.use", False),
    ("federate.use_ss", False),
    ("quantization.method", "none"),
    ("aggregator.robust_rule", "fedavg"),
    ("fedopt.use", False),
    ("federate.online_aggr", False),
)


def check(cfg: Config) -> None:
    """Refuse a configuration that cannot run.

    Raises:
        UserError: says which key, which value, and what is allowed.

    """
    load_plugins(cfg.fedsa.plugins)
    for option in OPTIONS:
        option.kind.read(option.key, _get(cfg, option.key))
    if is_ours(cfg):
        _check_ours(cfg)


def check_values(cfg: Config) -> None:
    """Refuse values that contradict each other or this machine.

    Called once, on the complete configuration of a run.

    Raises:
        UserError: says which key, which value, and what is allowed.

    """
    start = cfg.federate.restore_from
    if start and not os.path.isfile(start) and not is_adapter(start):
        raise UserError(
            f"federate.restore_from: {shown(start)} is neither a file nor "
            "the folder of an adapter"
        )
    if os.path.isfile(start):
        read_weights(Path(start), "federate.restore_from")
    _check_folder(cfg)
    _check_clients(cfg)
    _check_names(cfg)
    _check_tracking(cfg)
    _check_generation(cfg)
    check_template(cfg.fedsa.chat.template)
    _check_packing(cfg)
    _check_splits(cfg)
    _check_state(cfg)
    check_arguments(cfg)
    check_float64(cfg)
    if cfg.federate.mode.lower() == "distributed":
        check_distributed(cfg)


def _check_folder(cfg: Config) -> None:
    """Refuse a run folder that would not lie inside ``outdir``."""
    name = cfg.expname
    if cfg.expname_tag:
        name = f"{name}_{cfg.expname_tag}"
    PATH.read("expname", name)
    place = os.path.normpath(name)
    if os.path.isabs(place) or place.split(os.sep)[0] == os.pardir:
        raise UserError(
            f"expname: {shown(name)} leads out of outdir; give a name "
            "without '..' that does not begin with '/'"
        )


def _check_place(key: str, folder: Path) -> None:
    """Refuse a folder that does not exist and cannot be made.

    The nearest folder above it that exists decides.
    """
    for above in (folder, *folder.absolute().parents):
        if os.path.exists(above):
            if not os.path.isdir(above) or not os.access(above, os.W_OK):
                raise UserError(
                    f"{key}: {shown(str(folder))} is no folder that can be "
                    "written to"
                )
            return


def _check_clients(cfg: Config) -> None:
    clients, sampled = cfg.federate.client_num, cfg.federate.sample_client_num
    is_counted = cfg.data.splitter in BY_CLIENT and not clients
    if "@" in cfg.data.type and clients < 1 and not is_counted:
        raise UserError(
            f"federate.client_num: {clients} is not a whole number of at "
            "least 1"
        )
    if 0 < clients < sampled:
        raise UserError(
            f"federate.sample_client_num: {sampled} is more than the "
            f"{clients} clients that there are (federate.client_num)"
        )
    only = cfg.federate.client_idx_for_local_train
    if 0 < clients < only:
        raise UserError(
            f"federate.client_idx_for_local_train: {only} is more than the "
            f"{clients} clients that there are (federate.client_num)"
        )


def check_metrics(cfg: Config) -> None:
    """Refuse metrics that are not computed for the task.

    The metric that the best round is chosen by must also be computed in
    every round that is compared.  Called once the data are loaded, as they
    determine the task.

    Raises:
        UserError: a metric is not computed; names those that are.

    """
    for metric in cfg.eval.metrics:
        why = unfit(metric, cfg.model.task, cfg.model.num_labels)
        if why:
            raise UserError(f"eval.metrics: {metric!r} {why}")
    trainer, answers = cfg.trainer.type, set[str]()
    if trainer == LANGUAGE_TRAINER:
        answers = _answer_metrics(cfg)
    if trainer in (LANGUAGE_TRAINER, "llmtrainer"):
        _check_computed(cfg, {*_LOSSES, *answers})
    _check_selection(cfg, {*cfg.eval.metrics, *_LOSSES}, answers)


# What every trainer computes.
_LOSSES = ("loss", "avg_loss", "total")


def _check_computed(cfg: Config, computed: set[str]) -> None:
    """Refuse metrics that a language model's trainer does not compute."""
    for metric in sorted({*cfg.eval.metrics} - computed):
        hint = (
            "; set fedsa.eval.generate.examples, and its metric"
            if metric in GENERATION_METRICS
            else ""
        )
        if metric in CHOICE_METRICS:
            hint = "; set fedsa.eval.choices.data"
        raise UserError(
            f"eval.metrics: {metric!r} is not computed by trainer.type "
            f"{cfg.trainer.type}; it computes {', '.join(sorted(computed))}"
            f"{hint}"
        )


def _check_selection(
    cfg: Config, metrics: set[str], answers: set[str]
) -> None:
    """Refuse to choose the best round by a result that some rounds lack."""
    key, name = (
        cfg.eval.best_res_update_round_wise_key,
        "eval.best_res_update_round_wise_key",
    )
    allowed = [
        f"{split}_{metric}"
        for split in cfg.eval.split
        for metric in sorted(metrics)
        if split == "test" or metric not in answers
    ]
    if key not in allowed:
        raise unknown(name, key, allowed)
    every = cfg.fedsa.eval.generate.every
    if key.partition("_")[2] in answers and cfg.eval.freq % every:
        raise UserError(
            f"{name}: {key!r} is missing in some of the rounds that are "
            f"compared, as answers are generated every {every} rounds "
            "(fedsa.eval.generate.every) and results compared every "
            f"{cfg.eval.freq} (eval.freq); set the former to 1, or choose "
            "another"
        )


def _answer_metrics(cfg: Config) -> set[str]:
    """The metrics of answers; empty if none are asked for."""
    options, metrics = cfg.fedsa.eval.generate, set[str]()
    if cfg.fedsa.eval.choices.data:
        metrics |= {*CHOICE_METRICS}
    if options.examples:
        metrics |= {*score_names(options.metric, options.samples)}
    return metrics


def _check_generation(cfg: Config) -> None:
    options, key = cfg.fedsa.eval.generate, "fedsa.eval.generate"
    choices = cfg.fedsa.eval.choices.data
    if choices and cfg.trainer.type != LANGUAGE_TRAINER:
        raise UserError(
            f"fedsa.eval.choices.data: {shown(choices)} needs trainer.type "
            f"{LANGUAGE_TRAINER}, not {cfg.trainer.type}"
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


def _check_packing(cfg: Config) -> None:
    if cfg.fedsa.data.packing and cfg.trainer.type != LANGUAGE_TRAINER:
        raise UserError(
            "fedsa.data.packing: only instructions can be packed, with "
            f"trainer.type {LANGUAGE_TRAINER}, not with "
            f"{shown(cfg.trainer.type)}"
        )


def _check_splits(cfg: Config) -> None:
    """Refuse splits that the trainer cannot evaluate."""
    if not cfg.eval.split:
        raise UserError("eval.split: it names no split; one is needed")
    ours = cfg.trainer.type.startswith("fedsa")
    if "union" in cfg.eval.split and not ours:
        raise UserError(
            "eval.split: 'union' needs a trainer of ours, not trainer.type "
            f"{cfg.trainer.type}"
        )


def _check_state(cfg: Config) -> None:
    options = cfg.fedsa.state
    if options.backend == "disk" and options.folder:
        _check_place("fedsa.state.folder", Path(options.folder))
    if not options.optimizer:
        return
    if not is_ours(cfg) or not cfg.trainer.type.startswith("fedsa"):
        raise UserError(
            "fedsa.state.optimizer: True needs a method and a trainer of "
            f"ours, not federate.method {cfg.federate.method} with "
            f"trainer.type {cfg.trainer.type}"
        )


def notes_on(cfg: Config) -> list[str]:
    """Warnings, in full sentences, about a configuration that can run."""
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


def why_not_resumable(cfg: Config) -> str:
    """The setting that keeps a run from being checkpointed and resumed.

    Runs with a method of this package can be resumed, and standalone runs
    with the host's own FedAvg.  Other methods of the host carry state from
    round to round that nobody else can read.

    Returns:
        The key and its value, for a sentence; '' if nothing prevents it.

    """
    if cfg.federate.sampler == "group":
        return "federate.sampler 'group'"
    if is_ours(cfg):
        return ""
    is_distributed = cfg.federate.mode.lower() == "distributed"
    if is_distributed or cfg.federate.method.lower() != "fedavg":
        where = " in distributed mode" if is_distributed else ""
        return f"federate.method {cfg.federate.method}{where}"
    for key, off in _NOT_WITH_OURS:
        value = _get(cfg, key, off)
        if value != off:
            return f"{key} {value!r}"
    return ""


def _check_ours(cfg: Config) -> None:
    """Refuse what does not go with a method of this package."""
    policy = policy_from(cfg)
    if policy.sequential and not cfg.federate.share_local_model:
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


def _check_tracking(cfg: Config) -> None:
    """Refuse a tracking tool whose package is not installed."""
    for key, package, is_used in (
        ("fedsa.track", "tensorboard", cfg.fedsa.track == "tensorboard"),
        ("wandb.use", "wandb", cfg.wandb.use),
    ):
        if is_used and importlib.util.find_spec(package) is None:
            raise UserError(
                f"{key}: the package {package} is not installed; "
                f"'pip install {package}' does it"
            )


def _check_names(cfg: Config) -> None:
    """Refuse a metric or trainer that is not registered."""
    import federatedscope.register as register
    from federatedscope.core.monitors.metric_calculator import SUPPORT_METRICS

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


def _get(cfg: Config, key: str, default: Any = None) -> Any:
    """The value of a key with dots; ``default`` if the host lacks it."""
    node = cfg
    for part in key.split("."):
        if part not in node:
            return default
        node = node[part]
    return node
