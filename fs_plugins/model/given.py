"""Models that Python code hands to a run in place of a checkpoint."""

import inspect
from typing import Any

import peft
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Model
from fs_plugins.model.head import head_of
from fs_plugins.model.pretrained import Base, agree_on_tokens, set_task
from fs_plugins.policy import PEFT_METHODS
from fs_plugins.scope import current_scope
from fs_plugins.terms import CAUSAL, GIVEN, REGRESSION

# What transformers would say of a checkpoint that holds all weights.
_NOTHING_NEW = {"missing_keys": (), "mismatched_keys": ()}


def given_model(name: str) -> nn.Module | None:
    """The model that Python code has handed to the run being built.

    Args:
        name: the part of ``model.type`` before the ``@``.

    Returns:
        The model; None if the name is that of a checkpoint.

    Raises:
        UserError: ``model.type`` asks for a model that was not handed over.

    """
    model: nn.Module | None = current_scope().given.get("model")
    if name == GIVEN and model is None:
        raise UserError(
            f"model.type: {GIVEN!r} stands for a model that Python code hands "
            "to the run; hand it to fs_plugins.run or fs_plugins.resume as "
            "model="
        )
    return model if name == GIVEN else None


def config_of(model: nn.Module) -> Any:
    """A model's configuration, if it is one of transformers; else None."""
    adapted: Any = model
    inner = adapted.get_base_model() if is_adapted(model) else model
    config = getattr(inner, "config", None)
    return config if hasattr(config, "get_text_config") else None


def is_adapted(model: nn.Module) -> bool:
    """Whether a model is a PEFT model already."""
    return isinstance(model, peft.PeftModel)


def args_of(model: Any) -> dict[str, Any]:
    """The ``llm.adapter.args`` that describe the adapter of a PEFT model.

    Args:
        model: a PEFT model with one adapter.

    Raises:
        UserError: the model has several adapters, or one of a PEFT method
            that is not supported.

    """
    if [*model.peft_config] != ["default"]:
        raise UserError(
            "model: it has the adapters "
            f"{', '.join(map(repr, model.peft_config))}; hand over a PEFT "
            "model with one, 'default'"
        )
    config = model.peft_config["default"]
    method = config.peft_type.value.lower()
    if method not in PEFT_METHODS:
        raise UserError(
            f"model: its adapter is of the kind {method!r}; "
            f"{', '.join(PEFT_METHODS)} are supported (others by "
            "register_peft_method)"
        )
    default = type(config)()
    args: dict[str, Any] = {"adapter_package": "peft"}
    for name, value in config.to_dict().items():
        plain = sorted(value) if isinstance(value, set) else value
        is_scalar = isinstance(plain, (str, int, float, list, dict))
        is_kept = name not in ("peft_type", "task_type", "inference_mode")
        if is_scalar and is_kept and value != getattr(default, name, None):
            args[name] = plain
    for name in _OF_PEFT:
        args.pop(name, None)
    return {**args, "adapter_method": method}


# the fields of an adapter's configuration that PEFT fills in by itself
_OF_PEFT = (
    "auto_mapping",
    "base_model_name_or_path",
    "peft_version",
    "revision",
)


def base_of(model: nn.Module, model_config: Model) -> Base:
    """Prepare a given model without an adapter for one.

    Args:
        model: a model of transformers, or any module that takes
            ``input_ids`` and ``attention_mask`` and returns logits.
        model_config: the configuration's section ``model``.

    Raises:
        UserError: the model has another number of labels than the data.

    """
    config = config_of(model)
    if config is None:
        return Base(model, [])
    if model_config.task == CAUSAL:
        agree_on_tokens(config, model_config)
        return Base(model, [])
    if int(config.num_labels) != int(model_config.num_labels):
        raise UserError(
            f"model: it has {config.num_labels} labels, and the data have "
            f"{model_config.num_labels}; load it with num_labels="
            f"{model_config.num_labels}"
        )
    set_task(config, model_config)
    agree_on_tokens(config, model_config)
    is_known = isinstance(model, PreTrainedModel)
    head = head_of(model, _NOTHING_NEW, GIVEN) if is_known else []
    return Base(model, head)


def with_loss(output: Any, labels: Any, task: str) -> Any:
    """A model's output, with the loss computed if the model returns none.

    The loss of regression is the mean squared error, that of the other tasks
    cross-entropy.

    Args:
        output: logits of shape (texts, labels), or an object that has them
            as ``logits`` and may have a ``loss``.
        labels: the labels of the texts; None if there is no loss to compute.
        task: one of ``TASKS``.

    """
    logits = getattr(output, "logits", output)
    loss = getattr(output, "loss", None)
    if loss is None and labels is not None and task == REGRESSION:
        loss = functional.mse_loss(logits.squeeze(-1), labels.to(logits))
    elif loss is None and labels is not None:
        loss = functional.cross_entropy(logits, labels)
    return SequenceClassifierOutput(loss=loss, logits=logits)


def accepted(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Those of the inputs that a model's ``forward`` takes by name.

    Args:
        model: any module.
        inputs: the inputs by name.

    """
    taken = inspect.signature(model.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return inputs
    return {name: value for name, value in inputs.items() if name in taken}
