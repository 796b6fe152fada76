"""The PEFT adapter on a base model."""

import warnings
from collections.abc import Mapping
from typing import Any

import peft
import torch
from torch import nn

from fs_plugins.errors import UserError, did_you_mean, first_line, unknown
from fs_plugins.model.base import CAUSAL, Base
from fs_plugins.policy import (
    PRIVATE_ADAPTER,
    canonical,
    check_peft_method,
)

# What LoRA can start from without looking at data.  EVA, CorDA, LoRA-GA and
# LoftQ need a pass of their own before the first round.
_STARTS = ("gaussian", "orthogonal", "olora", "pissa")


# What PEFT itself adds to modules_to_save.
_KNOWN_HEADS = ("classifier", "score")


def put_adapter(base: Base, model_config: Any) -> Any:
    """The PEFT model of ``llm.adapter.args``.

    The head is trained in full and saved with the adapter, whatever the
    model calls it.

    Args:
        base: the pretrained model.
        model_config: the configuration's section ``model``.

    Raises:
        UserError: PEFT has no such method or argument, or refuses it.

    """
    args = model_config.adapter.args[0]
    config_class, kwargs = _resolve(args)
    model = base.model
    head = [each for each in base.head if each not in _KNOWN_HEADS]
    if head:
        asked = kwargs.get("modules_to_save") or []
        kwargs["modules_to_save"] = [*asked, *head]
    is_causal = model_config.task == CAUSAL
    task = peft.TaskType.CAUSAL_LM if is_causal else peft.TaskType.SEQ_CLS
    try:
        with warnings.catch_warnings():
            # of one library about another
            warnings.simplefilter("ignore", FutureWarning)
            # of GPT-2's Conv1D, which PEFT then treats as it should
            warnings.filterwarnings("ignore", "fan_in_fan_out")
            adapted: Any = peft.get_peft_model(
                model, config_class(task_type=task, **kwargs)
            )
    except (ValueError, TypeError) as error:
        reason = first_line(error).split(". ")[0]
        raise UserError(
            f"llm.adapter.args: PEFT refuses {kwargs}: {reason} (the linear "
            f"layers of this model are {', '.join(_linear(model))})"
        ) from error
    if model_config.adapter.private:
        _put_private(adapted, config_class(**kwargs))
    dtype = getattr(torch, model_config.adapter.dtype)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return adapted


def _put_private(adapted: Any, config: Any) -> None:
    """A second adapter on the same layers, without a head of its own."""
    config.modules_to_save = None
    # not the method of a classifier's class, which adds a head
    peft.PeftModel.add_adapter(adapted, PRIVATE_ADAPTER, config)
    # both at once; the head's wrapper knows one adapter only
    adapted.base_model.set_adapter(["default", PRIVATE_ADAPTER])
    if any(".lora_embedding_A." in n for n, _ in adapted.named_parameters()):
        raise UserError(
            "llm.adapter.args: target_modules: a private adapter is for "
            "linear layers, not for embeddings"
        )


def _resolve(args: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The configuration's class, and its arguments."""
    method, kwargs = canonical(args)
    package = kwargs.pop("adapter_package", "peft")
    if package != "peft":
        raise UserError(
            f"llm.adapter.args: adapter_package {package!r} is not 'peft'"
        )
    check_peft_method(method)
    kind = peft.PeftType[method.upper()]
    config_class = peft.PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = set(config_class.__dataclass_fields__)
    for name in kwargs:
        if name not in known:
            raise UserError(
                f"llm.adapter.args: {config_class.__name__} has no "
                f"{name!r}{did_you_mean(name, known)}"
            )
    start = kwargs.get("init_lora_weights", True)
    if isinstance(start, str) and not start.startswith(_STARTS):
        raise unknown(
            "llm.adapter.args: init_lora_weights", start, ["true", *_STARTS]
        )
    return config_class, kwargs


def _linear(model: nn.Module) -> list[str]:
    """The last part of the names of linear layers: what can be targeted."""
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        }
    )
