"""Loads the models of a run from its folder."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fs_plugins.errors import UserError, first_line
from fs_plugins.experiment.turns import taking_turns
from fs_plugins.model.pretrained import load_base
from fs_plugins.policy import PRIVATE_ADAPTER
from fs_plugins.terms import GIVEN


def model_section(config: Mapping[str, Any]) -> Any:
    """The section ``model`` of a run's configuration, as the run used it.

    Args:
        config: the content of ``config.yaml`` in the run's folder.

    Raises:
        UserError: the run did not use a model of this package.

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
    """Load the base model of a run, in the run's precision.

    Parameters that the checkpoint lacks, such as those of a head, are drawn
    at random; each adapter of the run contains them.

    Args:
        config: the content of ``config.yaml`` in the run's folder.
        quantized: whether the model is quantized if the run quantized it.

    Raises:
        UserError: the base model cannot be loaded.

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
    with torch.random.fork_rng():  # A head is drawn at random.
        return load_base(section).model


def load_adapted(
    config: Mapping[str, Any], adapter: Path, base: Any = None
) -> Any:
    """Load the base model of a run with one of the run's adapters.

    Args:
        config: the content of ``config.yaml`` in the run's folder.
        adapter: the folder of the adapter.
        base: the base model; None to load it from its checkpoint.

    Returns:
        A ``peft.PeftModel``, ready for evaluation.

    Raises:
        UserError: the base model or the adapter cannot be loaded, or there
            are two adapters.

    """
    if (adapter / PRIVATE_ADAPTER).is_dir():
        raise UserError(
            f"{adapter} has a shared and a private adapter, of which each "
            "input takes as much as suits it, and no one model does that; "
            "PEFT loads either of them by itself"
        )
    with taking_turns():  # The random state is that of the process.
        model = _loaded(config, adapter, base)
    if base is not None:
        _check_fit(model, adapter)
    return model


def _loaded(config: Mapping[str, Any], adapter: Path, base: Any) -> Any:
    """The base model with the adapter, loaded by PEFT."""
    import peft

    if isinstance(base, peft.PeftModel):
        raise UserError(
            "base: it has an adapter already; hand over a base model that is "
            "loaded anew"
        )
    base = load_base_of(config) if base is None else base
    try:
        refuse_modules(adapter)
        # PEFT draws an adapter at random before it loads the values.
        with torch.random.fork_rng(), warnings.catch_warnings():
            # The libraries warn of each other's future versions.
            warnings.simplefilter("ignore", FutureWarning)
            return peft.PeftModel.from_pretrained(base, str(adapter))
    except UserError:
        raise
    # Each of the libraries has exceptions of its own for files that are
    # incomplete or belong to another model.
    except Exception as error:
        raise UserError(
            f"{adapter} cannot be loaded: {first_line(error)}"
        ) from error


def refuse_modules(adapter: Path) -> None:
    """Refuse an adapter that has PEFT import a module by its name.

    Args:
        adapter: the folder of the adapter.

    Raises:
        UserError: the adapter's configuration names such a module.

    """
    from peft.utils import CONFIG_NAME

    text = (adapter / CONFIG_NAME).read_text(encoding="utf-8")
    if json.loads(text).get("megatron_config"):
        raise UserError(
            f"{adapter} asks for megatron_core, a module that PEFT would "
            "import; such an adapter is no run's, and is not loaded"
        )


def _check_fit(model: Any, adapter: Path) -> None:
    """Refuse a base model on which PEFT has loaded a part of the adapter."""
    import peft
    from safetensors import safe_open

    file = adapter / peft.utils.SAFETENSORS_WEIGHTS_NAME
    with safe_open(file, framework="pt") as opened:
        saved = {*opened.keys()}
    loaded = {*peft.get_peft_model_state_dict(model)}
    if saved != loaded:
        raise UserError(
            f"base: {adapter} has {min(saved ^ loaded)!r}, or the model has, "
            "and the other has not; is it the base model of the run?"
        )
