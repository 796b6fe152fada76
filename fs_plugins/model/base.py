"""The frozen base model."""

import importlib.util
from typing import Any

import torch

from fs_plugins.errors import UserError, first_line

CLASSIFICATION, REGRESSION = "SequenceClassification", "SequenceRegression"
CAUSAL = "CausalLM"
TASKS = (CLASSIFICATION, REGRESSION, CAUSAL)


def load_base(model_config: Any) -> Any:
    """The pretrained model of ``model.type``, for ``model.task``.

    Raises:
        UserError: it cannot be loaded, or not in the precision asked for.

    """
    from transformers.utils import logging

    name = model_config.type.rpartition("@")[0]
    logging.set_verbosity_error()  # type: ignore  # the head is new; no need to be told
    logging.disable_progress_bar()  # type: ignore
    try:
        model = _auto_class(model_config.task).from_pretrained(
            name,
            cache_dir=model_config.adapter.cache or None,
            **_head(model_config),
            **_precision(model_config.adapter.base),
        )
    except (OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise UserError(
            f"model.type: {name!r} cannot be loaded: {reason}"
        ) from error
    if model.config.pad_token_id is None:  # a decoder without padding
        model.config.pad_token_id = _first(model.config.eos_token_id)
    if model_config.adapter.base.gradient_checkpointing:
        # its name in transformers 6, or before
        enable = getattr(
            model,
            "activation_checkpointing_enable",
            model.gradient_checkpointing_enable,
        )
        enable({"use_reentrant": False})
    return model


def _auto_class(task: str) -> Any:
    import transformers

    if task == CAUSAL:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForSequenceClassification


def _head(model_config: Any) -> dict[str, Any]:
    if model_config.task == CAUSAL:
        return {}
    is_regression = model_config.task == REGRESSION
    return {
        "num_labels": 1 if is_regression else model_config.num_labels,
        "ignore_mismatched_sizes": True,  # a head of another task is redone
    }


def _precision(options: Any) -> dict[str, Any]:
    if not options.quantize:
        return {"dtype": getattr(torch, options.dtype)}
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"fedsa.base.quantize: {options.quantize!r} needs the package "
            "bitsandbytes, which is not installed"
        )
    compute = torch.bfloat16
    config = (
        BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,  # Dettmers et al., NeurIPS 2023
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
        if options.quantize == "4bit"
        else BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    )
    return {
        "quantization_config": config,
        "dtype": compute,
        "device_map": {"": options.device},
    }


def _first(token: Any) -> Any:
    """Some models have several tokens that end a text."""
    return token[0] if isinstance(token, list) else token
