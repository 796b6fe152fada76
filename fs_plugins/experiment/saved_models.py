"""Models out of a run's folder, as transformers and PEFT load them."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fs_plugins.errors import UserError, first_line
from fs_plugins.model.pretrained import load_base
from fs_plugins.policy import PRIVATE_ADAPTER
from fs_plugins.terms import GIVEN


def model_section(config: Mapping[str, Any]) -> Any:
    """The section ``model`` of a run's configuration, as the run used it.

    Args:
        config: what ``config.yaml`` in the run's folder holds.

    Raises:
        UserError: the run was not one of this package.

    """
    from federatedscope.core.configs.config import CN

    section = config.get("model")
    keys = {"type", "task", "num_labels", "adapter"}
    if not isinstance(section, dict) or not keys <= {*section}:
        raise UserError(
            "the run's configuration names no base model of this package "
            "(model.type, model.task, model.num_labels and model.adapter)"
        )
    return CN(section)


def load_base_of(config: Mapping[str, Any], quantized: bool = True) -> Any:
    """The base model of a run, in the run's precision.

    A part that its checkpoint lacks, a head say, is drawn at random; each
    adapter of the run brings it along.

    Args:
        config: what ``config.yaml`` in the run's folder holds.
        quantized: as the run had it, or in any case at full precision.

    Raises:
        UserError: it cannot be loaded.

    """
    section = model_section(config)
    if section.type.rpartition("@")[0] == GIVEN:
        raise UserError(
            "the run trained a model that Python code handed to it, and that "
            "no file names; load its adapters in Python, with base="
        )
    section.adapter.base.gradient_checkpointing = False
    if not quantized:
        section.adapter.base.quantize = ""
    with torch.random.fork_rng():  # a head is drawn
        return load_base(section).model


def load_adapted(
    config: Mapping[str, Any], adapter: Path, base: Any = None
) -> Any:
    """The base model of a run with one of its adapters, ready to evaluate.

    Args:
        config: what ``config.yaml`` in the run's folder holds.
        adapter: the adapter's folder.
        base: the base model; None to load it from its checkpoint.

    Returns:
        A model of PEFT.

    Raises:
        UserError: the base model or the adapter cannot be loaded, or there
            are two adapters.

    """
    import peft

    if (adapter / PRIVATE_ADAPTER).is_dir():
        raise UserError(
            f"{adapter} has a shared and a private adapter, of which each "
            "input takes as much as suits it, and no one model does that; "
            "PEFT loads either of them by itself"
        )
    base = load_base_of(config) if base is None else base
    try:
        # An adapter is drawn before it is loaded.
        with torch.random.fork_rng(), warnings.catch_warnings():
            # of one library about another
            warnings.simplefilter("ignore", FutureWarning)
            return peft.PeftModel.from_pretrained(base, str(adapter))
    # Each library below has exceptions of its own for files that are cut off
    # or of another model.
    except Exception as error:
        raise UserError(
            f"{adapter} cannot be loaded: {first_line(error)}"
        ) from error
