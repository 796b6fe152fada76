"""The PEFT adapter on a base model."""

import copy
import re
import warnings
from typing import Any

import peft
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from fs_plugins.errors import UserError, first_line
from fs_plugins.host.configuration import Model
from fs_plugins.model.arguments import KEY, check_matches, resolve
from fs_plugins.model.pretrained import Base
from fs_plugins.policy import PRIVATE_ADAPTER, is_embedding
from fs_plugins.terms import CAUSAL

# What PEFT itself adds to modules_to_save.
_KNOWN_HEADS = ("classifier", "score")


def put_adapter(base: Base, model_config: Model) -> Any:
    """The PEFT model of ``llm.adapter.args``.

    The head is trained in full and saved with the adapter, whatever the
    model calls it.

    Args:
        base: the pretrained model.
        model_config: the configuration's section ``model``.

    Raises:
        UserError: PEFT has no such method or argument, or refuses it.

    """
    config_class, kwargs = resolve(model_config.adapter.args[0])
    model = base.model
    head = [each for each in base.head if each not in _KNOWN_HEADS]
    if head:
        asked = kwargs.get("modules_to_save") or []
        kwargs["modules_to_save"] = [*asked, *head]
    is_causal = model_config.task == CAUSAL
    task = peft.TaskType.CAUSAL_LM if is_causal else peft.TaskType.SEQ_CLS
    is_of_transformers = hasattr(model, "config")
    given = kwargs.pop("task_type", None) or task
    if str(getattr(given, "value", given)).upper() != task.value:
        raise UserError(
            f"{KEY}: task_type: {given!r} is not {task.value}, which the data "
            "are for; leave it out"
        )
    modules = [name for name, _ in model.named_modules()]
    linear = ", ".join(_linear(model))

    def config() -> Any:  # PEFT adds to a list that it is given
        # PEFT's own classes for tasks are for models of transformers
        kind = task if is_of_transformers else None
        return config_class(task_type=kind, **copy.deepcopy(kwargs))

    try:
        with warnings.catch_warnings():
            # of one library about another
            warnings.simplefilter("ignore", FutureWarning)
            # of GPT-2's Conv1D, which PEFT then treats as it should
            warnings.filterwarnings("ignore", "fan_in_fan_out")
            adapted: Any = peft.get_peft_model(model, config())
        check_matches(modules, kwargs, adapted)
        _check_not_tied(adapted)
        if model_config.adapter.private:
            _put_private(adapted, config(), base.head)
    except (UserError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        # Of whatever class: its configurations and layers check little.
        reason = first_line(error).split(". ")[0]
        if not isinstance(error, (ValueError, TypeError)):
            reason = f"{type(error).__name__}: {reason}"
        raise UserError(
            f"{KEY}: PEFT refuses {kwargs}: {reason} (the linear layers of "
            f"this model are {linear})"
        ) from error
    dtype = getattr(torch, model_config.adapter.dtype)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return adapted


def _put_private(adapted: Any, config: Any, head: list[str]) -> None:
    """A second adapter on the same layers, without a head of its own.

    PEFT keeps off the layers of a head that is saved; here none is.
    """
    if head:
        config.exclude_modules = _not_in(config, head)
    config.modules_to_save = None
    # not the method of a classifier's class, which adds a head
    peft.PeftModel.add_adapter(adapted, PRIVATE_ADAPTER, config)
    # both at once; the head's wrapper knows one adapter only
    adapted.base_model.set_adapter(["default", PRIVATE_ADAPTER])
    if any(map(is_embedding, adapted.modules())):
        raise UserError(
            "llm.adapter.args: target_modules: a private adapter is for "
            "linear layers, not for embeddings"
        )


def _not_in(config: Any, modules: list[str]) -> str:
    """What an adapter leaves out, as a pattern: these modules, too.

    Args:
        config: of LoRA.
        modules: names.

    """
    asked = config.exclude_modules or []
    names = [asked] if isinstance(asked, str) else map(_as_suffix, asked)
    inside = (rf"{re.escape(each)}(\..*)?" for each in modules)
    return "|".join(f"({each})" for each in (*names, *inside))


def _as_suffix(name: str) -> str:
    """A name in a list of PEFT's is the end of a module's name."""
    return rf"(.*\.)?{re.escape(name)}"


def _check_not_tied(adapted: Any) -> None:
    """Refuse two parameters on the same memory.

    Of a head that is tied to the embeddings, PEFT's ``ensure_weight_tying``
    makes A the embeddings' B and B their A: what one of them shares, the
    other would keep.
    """
    found: set[int] = set()
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and parameter.data_ptr() in found:
            raise UserError(
                f"{KEY}: ensure_weight_tying: {name!r} would be another "
                "layer's B or A transposed, and could not be shared or kept "
                "by itself; leave it out, or give the embeddings to "
                "modules_to_save in place of target_modules"
            )
        if parameter.requires_grad:
            found.add(parameter.data_ptr())


def _linear(model: nn.Module) -> list[str]:
    """The last part of the names of linear layers: what can be targeted."""
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, (nn.Linear, Conv1D))
        }
    )
