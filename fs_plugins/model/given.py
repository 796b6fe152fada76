"""Models that Python code hands to a run in place of a checkpoint."""

import inspect
from collections.abc import Mapping
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Model
from fs_plugins.model.head import head_of, match_labels
from fs_plugins.model.pretrained import Base, agree_on_tokens, set_task
from fs_plugins.policy import PEFT_METHODS, is_of_adapter
from fs_plugins.scope import current_scope
from fs_plugins.terms import CAUSAL, GIVEN, MULTI_LABEL, REGRESSION

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


def base_model_of(model: Any) -> Any:
    """The model itself; of a PEFT model, the one that has the adapter."""
    return model.get_base_model() if is_adapted(model) else model


def config_of(model: nn.Module) -> Any:
    """A model's configuration, if it is one of transformers; else None."""
    config = getattr(base_model_of(model), "config", None)
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
    """Prepare a given model for the data, and name its head.

    Args:
        model: a model of transformers, or any module that takes
            ``input_ids`` and ``attention_mask`` and returns logits; with a
            PEFT adapter or without one.
        model_config: the configuration's section ``model``.

    Raises:
        UserError: the model does not suit the data, has parts that a run
            cannot train, or its head is not trained by its adapter.

    """
    inner = base_model_of(model)
    _refuse_wrapped(model, inner)
    config = config_of(model)
    if config is None:
        if model_config.task == CAUSAL:
            raise UserError(
                "model: a model that generates answers must be one of "
                "transformers"
            )
        return Base(model, [])
    if model_config.task == CAUSAL:
        if not callable(getattr(inner, "generate", None)):
            raise UserError(
                f"model: {type(inner).__name__} does not generate text, and "
                "the data are instructions"
            )
        return Base(model, [])
    if int(config.num_labels) != int(model_config.num_labels):
        raise UserError(
            f"model: it has {config.num_labels} labels, and the data have "
            f"{model_config.num_labels}; load it with num_labels="
            f"{model_config.num_labels}"
        )
    labels = dict(getattr(config, "id2label", None) or {})
    set_task(config, model_config)
    agree_on_tokens(config, model_config)
    if not isinstance(inner, PreTrainedModel):
        return Base(model, [])
    if is_adapted(model):
        _check_order(labels, model_config)
        _check_head(model, inner)
        return Base(model, [])
    head = head_of(inner, _NOTHING_NEW, GIVEN)
    classes = list(model_config.adapter.get("classes", ()))
    caveat = ""
    if len(labels) == len(classes) > 0:
        caveat = match_labels(inner, head, labels, classes, set())
    return Base(model, head, caveat and f"model: the model {caveat}")


def _refuse_wrapped(model: nn.Module, inner: nn.Module) -> None:
    """Refuse modules that hide the model, or have layers of an adapter."""
    name = type(inner).__name__
    if name in ("DataParallel", "DistributedDataParallel", "OptimizedModule"):
        raise UserError(
            f"model: it is wrapped in {name}; hand over the model itself"
        )
    has_adapter = any(isinstance(m, BaseTunerLayer) for m in inner.modules())
    if has_adapter and not is_adapted(model):
        raise UserError(
            "model: it has the layers of an adapter, of an earlier run "
            "perhaps; hand over a model that is loaded anew, or a PEFT model"
        )


def _check_order(labels: Mapping[int, str], model_config: Model) -> None:
    """Refuse a PEFT model whose classes are in another order."""
    classes = [str(c) for c in model_config.adapter.get("classes", ())]
    known = [str(labels.get(i, "")) for i in range(len(labels))]
    if sorted(known) == sorted(classes) and known != classes:
        raise UserError(
            f"model: its classes are in the order {', '.join(known)}, and "
            f"those of the data {', '.join(classes)}; load the base model "
            "with id2label in the order of the data"
        )


def _check_head(model: nn.Module, inner: nn.Module) -> None:
    """Refuse a PEFT model with a head that is neither trained nor saved."""
    backbone = getattr(inner, "base_model", inner)
    inside = {id(parameter) for parameter in backbone.parameters()}
    head = {
        name: parameter
        for name, parameter in inner.named_parameters()
        if id(parameter) not in inside and "original_module" not in name
    }
    if head and not any(p.requires_grad for p in head.values()):
        raise UserError(
            "model: its adapter leaves the head untrained "
            f"({min(head).rpartition('.')[0]}); build it with "
            "task_type='SEQ_CLS', which trains the head and saves it"
        )


def ready_to_train(model: Any, dtype: torch.dtype) -> None:
    """Have the adapter of a PEFT model trained, as after it was made.

    Args:
        model: a PEFT model with one adapter; one that was loaded for
            inference, or that an earlier run has frozen in part, as well.
        dtype: the precision of what is trained.

    """
    model.base_model.enable_adapter_layers()
    model.set_adapter("default")
    for name, parameter in model.named_parameters():
        if is_of_adapter(name) or ".modules_to_save.default." in name:
            parameter.requires_grad_(parameter.is_floating_point())
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def with_loss(output: Any, labels: Any, task: str, classes: int) -> Any:
    """A model's output, with the loss computed if the model returns none.

    The loss of regression is the mean squared error, that of classification
    cross-entropy; where a text may have several labels, it is the binary
    cross-entropy of each.  The output of a language model is returned as it
    is.

    Args:
        output: logits of shape (texts, classes), or an object that has them
            as ``logits`` and may have a ``loss``.
        labels: the labels of the texts; None if there is no loss to compute.
        task: one of ``TASKS``.
        classes: how many classes there are; 1 for regression.

    Raises:
        UserError: the output has no such logits.

    """
    if task == CAUSAL:
        return output
    logits = output.get("logits") if isinstance(output, dict) else output
    logits = getattr(output, "logits", logits)
    if not isinstance(logits, Tensor):
        raise UserError(
            f"model: it returns a {type(logits).__name__}; a tensor of logits "
            "is needed, or an object with one in .logits"
        )
    if logits.dim() != 2 or logits.shape[1] != classes:
        raise UserError(
            f"model: it returns logits of shape {tuple(logits.shape)}; "
            f"(texts, {classes}) is needed"
        )
    loss = getattr(output, "loss", None)
    if loss is None and labels is not None and task == REGRESSION:
        loss = functional.mse_loss(logits.squeeze(-1), labels.to(logits))
    elif loss is None and labels is not None and task == MULTI_LABEL:
        loss = functional.binary_cross_entropy_with_logits(
            logits, labels.to(logits)
        )
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
