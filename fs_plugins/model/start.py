"""Starts the adapter of a run from one that was saved before."""

from pathlib import Path
from typing import Any

import peft
from safetensors import SafetensorError
from safetensors.torch import load_file

from fs_plugins.errors import UserError, first_line
from fs_plugins.notes import note
from fs_plugins.policy import is_of_adapter
from fs_plugins.wire import Tensors

_KEY = "federate.restore_from"
_CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# What the product of A and B is multiplied by follows from these.
SCALE = ("lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")


def is_adapter(folder: str) -> bool:
    """Whether a folder holds an adapter in the form of files of PEFT."""
    return Path(folder, _CONFIG).is_file()


def config_in(folder: Path) -> Any:
    """The configuration of a saved adapter.

    Raises:
        UserError: the file is missing or broken.

    """
    try:
        return peft.PeftConfig.from_pretrained(str(folder))
    # PEFT raises what JSON and its own classes raise for a broken file.
    except Exception as error:
        raise UserError(
            f"{folder / _CONFIG} cannot be used: {first_line(error)}"
        ) from error


def start_from(model: Any, folder: Path) -> None:
    """Give an adapter, and its head, the values of a saved adapter.

    A head of another number of classes stays as it is, which a note says.

    Args:
        model: a PEFT model with one adapter, which is changed.
        folder: the folder of the saved adapter.

    Raises:
        UserError: the files cannot be used, or the adapter is of another
            rank, scale, method or base model.

    """
    saved, own = config_in(folder), model.peft_config["default"]
    if saved.peft_type != own.peft_type:
        raise UserError(
            f"{_KEY}: {folder} is of the method {saved.peft_type.value}, and "
            f"llm.adapter.args ask for {own.peft_type.value}"
        )
    if not isinstance(getattr(own, "init_lora_weights", True), bool):
        raise UserError(
            f"{_KEY}: init_lora_weights {own.init_lora_weights!r} changes "
            "the base model, and the adapter was trained on the unchanged one"
        )
    for name in SCALE:
        if getattr(saved, name, None) != getattr(own, name, None):
            raise UserError(
                f"{_KEY}: {folder} has {name} {getattr(saved, name)!r}, and "
                f"llm.adapter.args have {getattr(own, name)!r}"
            )
    tensors = tensors_in(folder)
    expected = peft.get_peft_model_state_dict(
        model, save_embedding_layers=False
    )
    kept = _fitting(tensors, expected, folder)
    peft.set_peft_model_state_dict(model, kept)


def tensors_in(folder: Path) -> dict[str, Any]:
    """The tensors of a saved adapter, by the names that PEFT saves.

    Raises:
        UserError: the file is missing or broken.

    """
    file = folder / WEIGHTS
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{file} cannot be used: {first_line(error)}"
        ) from error


def _fitting(
    tensors: Tensors, expected: Tensors, folder: Path
) -> dict[str, Any]:
    """The tensors that fit; a head need not."""
    kept = dict(expected)  # PEFT wants all of a head's tensors.
    new = set()
    for name, value in expected.items():
        if name in tensors and tensors[name].shape == value.shape:
            kept[name] = tensors[name]
        elif is_of_adapter(name):
            has = (
                f"{name} of shape {tuple(tensors[name].shape)}"
                if name in tensors
                else f"no {name}"
            )
            raise UserError(
                f"{_KEY}: {folder} has {has}, and the model needs "
                f"{tuple(value.shape)}; are r and target_modules the same?"
            )
        else:
            new.add(name.rpartition(".")[0])
    for name in tensors:
        if is_of_adapter(name) and name not in expected:
            raise UserError(
                f"{_KEY}: {folder} has {name}, and llm.adapter.args put no "
                "adapter there"
            )
    if new:
        note(
            f"{_KEY}: {', '.join(sorted(new))} is begun anew, as {folder} has "
            "none of this shape"
        )
    return kept
