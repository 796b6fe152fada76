"""The adapter's arguments: which are supported, which refused, and why."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

import peft

from fs_plugins.errors import UserError, did_you_mean, unknown
from fs_plugins.host.configuration import Config
from fs_plugins.policy import canonical, check_peft_method

KEY = "llm.adapter.args"
# The initializations of LoRA that need no data.  EVA, CorDA, LoRA-GA and
# LoftQ need a pass of their own before the first round.
_STARTS = ("gaussian", "orthogonal", "olora", "pissa")
# The supported arguments of PEFT's LoraConfig and VeraConfig.  A method, an
# aggregator or fedsa.ranks that does not go with one of them refuses it.
COVERED = (
    "r",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "fan_in_fan_out",
    "layers_to_transform",
    "layers_pattern",
    "task_type",
    "peft_type",
    # of LoRA
    "lora_alpha",
    "lora_dropout",
    "lora_bias",
    "use_rslora",
    "use_dora",
    "init_lora_weights",
    "rank_pattern",
    "alpha_pattern",
    "target_parameters",
    "ensure_weight_tying",
    # of VeRA
    "projection_prng_key",
    "save_projection",
    "vera_dropout",
    "d_initial",
    "init_weights",
)
# Arguments that are a name or a list of names.
_NAMES = (
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "layers_pattern",
    "target_parameters",
)
ALL_LINEAR = "all-linear"  # in place of target_modules: all but the head
_BY_ITSELF = "PEFT writes it, and nobody needs to give it"
_BASE = "the base model is the one that model.type names"
_DATA = (
    "it looks at data before training, which no participant here may do for "
    "the others; take init_lora_weights true, gaussian, orthogonal, pissa or "
    "olora"
)
_LOOP = "it needs a training loop of its own; leave it out"
_BUILD = "it changes how layers are built, which is not covered; leave it out"
# Why other arguments may have no value but PEFT's default.
REFUSED: Mapping[str, str] = {
    "auto_mapping": _BY_ITSELF,
    "peft_version": _BY_ITSELF,
    "base_model_name_or_path": _BASE,
    "revision": _BASE,
    "inference_mode": "nothing would be trained; leave it out",
    "bias": (
        "it would train biases of the base model, which all participants "
        "share; lora_bias: True trains biases of the adapter's own"
    ),
    "trainable_token_indices": (
        "it would train rows of the base model's embeddings, which have no "
        "role; take modules_to_save or target_modules with the embeddings"
    ),
    "loftq_config": _DATA.replace("data", "the unquantised weights"),
    "eva_config": _DATA,
    "corda_config": _DATA,
    "lora_ga_config": _DATA,
    "velora_config": _LOOP,
    "monteclora_config": _LOOP,
    "kasa_config": _LOOP,
    "alora_invocation_tokens": _LOOP,
    "arrow_config": "it chooses among adapters trained before; leave it out",
    "megatron_config": "it is for models of Megatron-LM; leave it out",
    "megatron_core": "it is for models of Megatron-LM; leave it out",
    "use_qalora": "it is for models quantised by GPTQ; leave it out",
    "qalora_group_size": "it is for models quantised by GPTQ; leave it out",
    "runtime_config": "it is about where DoRA starts; leave it out",
    "use_bdlora": _BUILD,
    "layer_replication": _BUILD,
}


def check_arguments(cfg: Config) -> None:
    """Refuse arguments of the adapter that cannot be right.

    Args:
        cfg: the whole configuration of a run.

    Raises:
        UserError: an argument is unknown, unsupported or has a wrong value.

    """
    entries = list(cfg.llm.adapter.args)
    if len(entries) > 1:
        raise UserError(
            f"{KEY}: there are {len(entries)} entries; one adapter is "
            "trained, so leave one"
        )
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise UserError(
                f"{KEY}: {entry!r} is no mapping of arguments to values"
            )
        if cfg.llm.adapter.use:
            resolve(entry)


def resolve(args: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """PEFT's configuration class, and the arguments for it.

    Args:
        args: the entry of ``llm.adapter.args``.

    Raises:
        UserError: PEFT has no such method or argument, or an argument is
            refused.

    """
    method, kwargs = canonical(args)
    package = kwargs.pop("adapter_package", "peft")
    if package != "peft":
        raise UserError(f"{KEY}: adapter_package {package!r} is not 'peft'")
    check_peft_method(method)
    kind = peft.PeftType[method.upper()]
    config_class = peft.PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    for name, value in kwargs.items():
        if name not in fields:
            raise UserError(
                f"{KEY}: {config_class.__name__} has no "
                f"{name!r}{did_you_mean(name, fields)}"
            )
        is_ours = method in ("lora", "vera")
        if is_ours and name not in COVERED and value != _default(fields[name]):
            reason = REFUSED.get(name, _BUILD)
            raise UserError(f"{KEY}: {name}: {value!r} is refused: {reason}")
    for name in _NAMES:
        if kwargs.get(name) is not None:
            _check_names(name, kwargs[name])
    for name in ("r", "rank_pattern", "lora_alpha", "alpha_pattern"):
        if name in fields and kwargs.get(name) is not None:
            _check_number(name, kwargs[name])
    given = kwargs.pop("peft_type", kind)
    if str(getattr(given, "value", given)).upper() != kind.value:
        raise UserError(
            f"{KEY}: peft_type: {given!r} is not that of adapter_method "
            f"{method!r}; leave it out"
        )
    start = kwargs.get("init_lora_weights", True)
    if isinstance(start, str) and not start.startswith(_STARTS):
        raise unknown(f"{KEY}: init_lora_weights", start, ["true", *_STARTS])
    if isinstance(kwargs.get("modules_to_save"), str):
        kwargs["modules_to_save"] = [kwargs["modules_to_save"]]
    return config_class, kwargs


def _check_names(name: str, value: Any) -> None:
    """Refuse what is neither a name nor a list of names."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple, set)) or not all(
        isinstance(each, str) and each for each in names
    ):
        raise UserError(
            f"{KEY}: {name}: {value!r} is neither a name nor a list of names"
        )
    if ALL_LINEAR in names and value != ALL_LINEAR:
        raise UserError(
            f"{KEY}: {name}: {ALL_LINEAR!r} stands by itself, not in a list"
        )


def _check_number(name: str, value: Any) -> None:
    """Refuse a rank or an alpha, or a pattern of them, that is no number."""
    values = [value]
    if name.endswith("_pattern"):
        if not isinstance(value, Mapping):
            raise UserError(
                f"{KEY}: {name}: {value!r} is no mapping of layers to numbers"
            )
        values = list(value.values())
    is_rank = name.startswith("r")
    for number in values:
        is_number = isinstance(number, int if is_rank else (int, float))
        is_number = is_number and not isinstance(number, bool)
        if not is_number or (is_rank and number < 1):
            kind = "whole number of at least 1" if is_rank else "number"
            raise UserError(f"{KEY}: {name}: {number!r} is not a {kind}")


def _default(field: Any) -> Any:
    """The default value of a field of PEFT's configuration."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def check_matches(
    modules: Iterable[str], given: Mapping[str, Any], adapted: Any
) -> None:
    """Refuse names that match nothing, which PEFT ignores silently.

    Args:
        modules: the names of the base model's modules, before the adapter.
        given: the arguments, as ``resolve`` returns them.
        adapted: the PEFT model.

    Raises:
        UserError: a name in an argument matches nothing in the model.

    """
    modules = list(modules)
    tuner: Any = adapted.base_model
    parameters = list(getattr(tuner, "targeted_parameter_names", []))
    layers = [*getattr(tuner, "targeted_module_names", []), *parameters]
    layers += [name.rpartition(".")[0] for name in parameters]

    def is_module(name: str) -> bool:
        return any(f".{module}".endswith(f".{name}") for module in modules)

    def is_adapted(name: str) -> bool:
        return any(f".{layer}".endswith(f".{name}") for layer in layers)

    def is_layer(pattern: str) -> bool:
        return any(re.match(rf"(.*\.)?({pattern})$", name) for name in layers)

    def is_index(index: int) -> bool:
        return any(str(index) in name.split(".") for name in layers)

    def is_stack(pattern: str) -> bool:
        return any(re.match(rf".*\.({pattern})\.\d", n) for n in modules)

    def is_parameter(name: str) -> bool:
        return any(f".{known}".endswith(f".{name}") for known in parameters)

    # PEFT's own configuration, as PEFT renames some mixtures' layers there
    targets = getattr(adapted.peft_config["default"], "target_modules", None)
    if isinstance(given.get("target_modules"), (str, NoneType)):
        targets = None  # a regular expression, or PEFT's own choice
    for argument, names, is_there in (
        ("target_modules", targets, is_adapted if layers else is_module),
        ("modules_to_save", given.get("modules_to_save"), is_module),
        ("exclude_modules", given.get("exclude_modules"), is_module),
        ("target_parameters", given.get("target_parameters"), is_parameter),
        ("rank_pattern", given.get("rank_pattern"), is_layer),
        ("alpha_pattern", given.get("alpha_pattern"), is_layer),
        ("layers_to_transform", given.get("layers_to_transform"), is_index),
        ("layers_pattern", given.get("layers_pattern"), is_stack),
    ):
        if argument == "exclude_modules" and isinstance(names, str):
            _check_pattern(argument, names, modules)
            continue
        names = [names] if isinstance(names, (int, str)) else names or ()
        for name in sorted(names, key=str):
            if not is_there(name):
                raise _unmatched(argument, name, modules)


def _unmatched(
    argument: str, name: str | int, modules: Iterable[str]
) -> UserError:
    """The error for a name, or a number of a layer, that matches nothing.

    Args:
        argument: the argument that has the name.
        name: the name.
        modules: the names of the base model's modules.

    """
    ends = {module.rpartition(".")[2] for module in modules} - {""}
    is_module = any(f".{m}".endswith(f".{name}") for m in modules)
    if argument == "target_modules" and is_module:
        return UserError(
            f"{KEY}: {argument}: {name!r} is the name of no layer that is "
            "adapted: it is excluded, or a part of the head, which is trained "
            "in full and saved; leave it out"
        )
    hint = did_you_mean(name, ends) if isinstance(name, str) else ""
    return UserError(
        f"{KEY}: {argument}: {name!r} matches nothing in this model{hint}; "
        "leave it out, or correct it"
    )


def _check_pattern(
    argument: str, pattern: str, modules: Iterable[str]
) -> None:
    """Refuse a regular expression that is the whole name of no module."""
    if not any(re.fullmatch(pattern, name) for name in modules):
        raise UserError(
            f"{KEY}: {argument}: {pattern!r} matches nothing in this model; "
            "a string is a regular expression for the whole name of a "
            "module, and names of layers stand in a list"
        )
