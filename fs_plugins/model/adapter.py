"""The PEFT adapter on a base model."""

import copy
import re
import warnings
from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from fs_plugins.errors import UserError, did_you_mean, first_line
from fs_plugins.host.configuration import Model
from fs_plugins.model.arguments import (
    ALL_LINEAR,
    KEY,
    check_matches,
    resolve,
)
from fs_plugins.model.pretrained import Base
from fs_plugins.policy import PRIVATE_ADAPTER, is_embedding
from fs_plugins.terms import CAUSAL

# The heads that PEFT itself adds to modules_to_save.
_KNOWN_HEADS = ("classifier", "score")


def put_adapter(base: Base, model_config: Model) -> Any:
    """Put the adapter of ``llm.adapter.args`` on a base model.

    The head is trained in full and saved with the adapter, whatever its name
    in the model.

    Args:
        base: the pretrained model.
        model_config: the configuration's section ``model``.

    Returns:
        The PEFT model.

    Raises:
        UserError: PEFT has no such method or argument, or refuses one.

    """
    config_class, kwargs = resolve(model_config.adapter.args[0])
    model = base.model
    head = [name for name in base.head if name not in _KNOWN_HEADS]
    if head:
        saved = kwargs.get("modules_to_save") or []
        kwargs["modules_to_save"] = [*saved, *head]
    is_causal = model_config.task == CAUSAL
    task = peft.TaskType.CAUSAL_LM if is_causal else peft.TaskType.SEQ_CLS
    is_of_transformers = hasattr(
        getattr(model, "config", None), "get_text_config"
    )
    given = kwargs.pop("task_type", None) or task
    if str(getattr(given, "value", given)).upper() != task.value:
        raise UserError(
            f"{KEY}: task_type: {given!r} is not {task.value}, which the data "
            "are for; leave it out"
        )
    modules = [name for name, _ in model.named_modules()]
    linear = _linear(model, base.head)

    def config() -> Any:
        # A copy, as PEFT adds to the lists in its arguments.  The classes
        # that PEFT has for tasks are for models of transformers only.
        kind = task if is_of_transformers else None
        return config_class(task_type=kind, **copy.deepcopy(kwargs))

    try:
        with warnings.catch_warnings():
            # warnings of one library about another
            warnings.simplefilter("ignore", FutureWarning)
            # PEFT warns of GPT-2's Conv1D, and then sets the argument itself
            warnings.filterwarnings("ignore", "fan_in_fan_out")
            adapted: Any = peft.get_peft_model(model, config())
        check_matches(modules, kwargs, adapted)
        _check_not_tied(adapted)
        if model_config.adapter.private:
            _put_private(adapted, config(), base.head)
    except (UserError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        # PEFT checks few arguments itself, so that any class of exception
        # may come from its layers.
        raise _refusal(model, kwargs, linear, error) from error
    dtype = getattr(torch, model_config.adapter.dtype)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return adapted


def _refusal(
    model: Any, kwargs: dict[str, Any], linear: list[str], error: Exception
) -> UserError:
    """The error for arguments that PEFT refuses.

    Args:
        model: the base model.
        kwargs: the arguments.
        linear: the names of the model's linear layers.
        error: the exception that PEFT has raised.

    """
    reason = first_line(error).split(". ")[0]
    targets = kwargs.get("target_modules")
    has_none = reason.startswith(("Please specify", "No modules"))
    if has_none and targets is None:
        kind = getattr(getattr(model, "config", None), "model_type", "")
        return UserError(
            f"{KEY}: target_modules: PEFT has no layers of its own choice "
            f"for a model of the kind {kind!r}; give {ALL_LINEAR!r}, or a "
            f"list of some of {', '.join(linear)}"
        )
    if has_none and isinstance(targets, str):
        return UserError(
            f"{KEY}: target_modules: {targets!r} matches nothing in this "
            f"model{did_you_mean(targets, [ALL_LINEAR])}; a string is a "
            "regular expression for the whole name of a layer, and names of "
            f"layers stand in a list: {', '.join(linear)}"
        )
    if has_none and targets and not {*targets} & {*linear}:
        name = min(targets)
        return UserError(
            f"{KEY}: target_modules: {name!r} matches nothing in this "
            f"model{did_you_mean(name, linear)}; its linear layers are "
            f"{', '.join(linear)}"
        )
    if not isinstance(error, (ValueError, TypeError)):
        reason = f"{type(error).__name__}: {reason}"
    return UserError(
        f"{KEY}: PEFT refuses {kwargs}: {reason} (the linear layers of this "
        f"model are {', '.join(linear)})"
    )


def _put_private(adapted: Any, config: Any, head: list[str]) -> None:
    """Add a second adapter on the same layers, without a head of its own.

    PEFT puts no adapter on the layers of a head that it saves.  The second
    adapter saves no head, so that the head's layers are excluded by name.

    Args:
        adapted: the PEFT model.
        config: the configuration of the second adapter; it is modified.
        head: the names of the head's modules.

    Raises:
        UserError: the adapter is on embeddings.

    """
    if head:
        config.exclude_modules = _not_in(config, head)
    config.modules_to_save = None
    # PeftModelForSequenceClassification.add_adapter would add a head
    peft.PeftModel.add_adapter(adapted, PRIVATE_ADAPTER, config)
    # Activate both on the base model: the wrapper of the head knows only
    # one adapter.
    adapted.base_model.set_adapter(["default", PRIVATE_ADAPTER])
    if any(map(is_embedding, adapted.modules())):
        raise UserError(
            "llm.adapter.args: target_modules: a private adapter is for "
            "linear layers, not for embeddings"
        )


def _not_in(config: Any, modules: list[str]) -> str:
    """A pattern for ``exclude_modules`` that also excludes some modules.

    Args:
        config: the configuration of LoRA.
        modules: the names of the modules to exclude beside those that the
            configuration excludes.

    """
    excluded = config.exclude_modules or []
    patterns = (
        [excluded] if isinstance(excluded, str) else map(_as_suffix, excluded)
    )
    inside = (rf"{re.escape(name)}(\..*)?" for name in modules)
    return "|".join(f"({pattern})" for pattern in (*patterns, *inside))


def _as_suffix(name: str) -> str:
    """The pattern of a name in a list, which PEFT takes for a name's end."""
    return rf"(.*\.)?{re.escape(name)}"


def _check_not_tied(adapted: Any) -> None:
    """Refuse two trainable parameters on the same memory.

    Where a head is tied to the embeddings, PEFT's ``ensure_weight_tying``
    makes the head's A the embeddings' B, and the head's B their A.  A policy
    that shares A and keeps B could then not be followed.
    """
    addresses: set[int] = set()
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and parameter.data_ptr() in addresses:
            raise UserError(
                f"{KEY}: ensure_weight_tying: {name!r} would be another "
                "layer's B or A transposed, and could not be shared or kept "
                "by itself; leave it out, or give the embeddings to "
                "modules_to_save in place of target_modules"
            )
        if parameter.requires_grad:
            addresses.add(parameter.data_ptr())


def _linear(model: nn.Module, head: Sequence[str] = ()) -> list[str]:
    """The names of linear layers that ``target_modules`` may hold, sorted.

    Args:
        model: the base model.
        head: the names of the head's modules, which are not adapted.

    """
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, (nn.Linear, Conv1D))
            and not any(f"{name}.".startswith(f"{top}.") for top in head)
        }
    )
