"""Loads the models of a run from its folder."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fs_plugins.config.kinds import (
    Choice,
    Items,
    Kind,
    Text,
    Whole,
    kind_like,
)
from fs_plugins.config.load import nested
from fs_plugins.config.options import DTYPES, QUANTIZED
from fs_plugins.config.section import MODEL
from fs_plugins.config.yaml_file import flatten
from fs_plugins.errors import UserError, first_line
from fs_plugins.experiment.reading import check_is_file, json_in
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.turns import taking_turns
from fs_plugins.model.pretrained import load_base
from fs_plugins.policy import PRIVATE_ADAPTER
from fs_plugins.terms import GIVEN, TASKS


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
    said = dict(flatten(section))
    values = {
        name: kind.read(f"{RunFolder.CONFIG}: model.{name}", said[name])
        for name, kind in _KINDS.items()
        if name in said
    }
    values |= {
        name: kind_like(default).read(
            f"{RunFolder.CONFIG}: model.{name}", said.get(name, default)
        )
        for name, default in MODEL.items()
        if name not in values
    }
    number, classes = values["num_labels"], values["adapter.classes"]
    if classes and number != len(classes):
        raise UserError(
            f"{RunFolder.CONFIG}: model.num_labels: {number} is not the "
            f"number of model.adapter.classes, {len(classes)}"
        )
    return CN(nested(values))


# The kinds of keys below model that not all values of a type are right for.
_KINDS: Mapping[str, Kind] = {
    "task": Choice(names=TASKS),
    "num_labels": Whole(1, 10**6),
    "adapter.classes": Items(Text()),
    "adapter.dtype": Choice(names=DTYPES),
    "adapter.base.dtype": Choice(names=DTYPES),
    "adapter.base.quantize": Choice(names=QUANTIZED, or_empty=True),
}


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
    check_is_one(adapter)
    with taking_turns():  # The random state is that of the process.
        model = _loaded(config, adapter, base)
    if base is not None:
        _check_fit(model, adapter)
    return model


def check_is_one(adapter: Path) -> None:
    """Refuse the folder of a client that has two adapters.

    Raises:
        UserError: there is a private adapter, too.

    """
    if (adapter / PRIVATE_ADAPTER).is_dir():
        raise UserError(
            f"{adapter} has a shared and a private adapter, of which each "
            "input takes as much as suits it, and no one model does that; "
            "PEFT loads either of them by itself"
        )


def _loaded(config: Mapping[str, Any], adapter: Path, base: Any) -> Any:
    """The base model with the adapter, loaded by PEFT."""
    import peft

    if isinstance(base, peft.PeftModel):
        raise UserError(
            "base: it has an adapter already; hand over a base model that is "
            "loaded anew"
        )
    return with_adapter(
        load_base_of(config) if base is None else base, adapter
    )


def with_adapter(base: Any, adapter: Path) -> Any:
    """Load an adapter on a base model, by PEFT.

    Args:
        base: a model of transformers, or one like it.
        adapter: the folder of the adapter.

    Raises:
        UserError: the adapter cannot be loaded.

    """
    import peft

    with _loading(adapter):
        return peft.PeftModel.from_pretrained(base, str(adapter))


def add_adapter(model: Any, adapter: Path, name: str) -> None:
    """Load one more adapter on the base model of a PEFT model.

    Args:
        model: a ``peft.PeftModel`` of the run, which is changed.
        adapter: the folder of the adapter.
        name: what PEFT calls the adapter.

    Raises:
        UserError: the adapter cannot be loaded, or there are two adapters.

    """
    check_is_one(adapter)
    # The random state is that of the process.
    with taking_turns(), _loading(adapter):
        model.load_adapter(str(adapter), name)


@contextlib.contextmanager
def _loading(adapter: Path) -> Iterator[None]:
    """Refuse what PEFT cannot load, and leave the random state as it is.

    Args:
        adapter: the folder of the adapter that is loaded in the context.

    """
    check_adapter(adapter)
    try:
        # PEFT draws an adapter at random before it loads the values.
        with torch.random.fork_rng(), warnings.catch_warnings():
            # The libraries warn of each other's future versions.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except UserError:
        raise
    # Each of the libraries has exceptions of its own for files that are
    # incomplete or belong to another model.
    except Exception as error:
        raise UserError(
            f"{adapter} cannot be loaded: {first_line(error)}"
        ) from error


def check_adapter(folder: Path) -> None:
    """Refuse an adapter's folder that PEFT could not load.

    Args:
        folder: the folder, with the two files of an adapter, and perhaps a
            folder with those of a private adapter.

    Raises:
        UserError: a file is missing or damaged, or is something else.

    """
    import peft

    for file in folder.rglob("*"):
        if file.is_symlink() or not file.is_dir():
            check_is_file(file)
    places = [folder, folder / PRIVATE_ADAPTER]
    for place in places[: 1 + places[1].is_dir()]:
        file = place / peft.utils.CONFIG_NAME
        content = json_in(file)
        if not isinstance(content, dict) or not isinstance(
            content.get("peft_type"), str
        ):
            raise UserError(f"{file} holds no configuration of an adapter")
        if content.get("megatron_config"):
            raise UserError(
                f"{folder} asks for megatron_core, a module that PEFT would "
                "import; such an adapter is no run's, and is not loaded"
            )
        file = place / peft.utils.SAFETENSORS_WEIGHTS_NAME
        check_is_file(file)
        try:
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} is damaged ({error})") from error


def _check_fit(model: Any, adapter: Path) -> None:
    """Refuse a base model on which PEFT has loaded a part of the adapter."""
    import peft

    file = adapter / peft.utils.SAFETENSORS_WEIGHTS_NAME
    with safe_open(file, framework="pt") as opened:
        saved = {*opened.keys()}
    loaded = {*peft.get_peft_model_state_dict(model)}
    if saved != loaded:
        raise UserError(
            f"base: {adapter} has {min(saved ^ loaded)!r}, or the model has, "
            "and the other has not; is it the base model of the run?"
        )
