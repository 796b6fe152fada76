"""The frozen base model, loaded from a checkpoint."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fs_plugins.errors import UserError, first_line
from fs_plugins.host.configuration import Model
from fs_plugins.model.head import (
    head_of,
    incomplete,
    match_labels,
    new_names,
    refuse_left_out,
)
from fs_plugins.terms import (
    CAUSAL,
    MULTI_LABEL,
    MULTI_LABEL_TYPE,
    REGRESSION,
)

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Base:
    """A pretrained model and the modules that must be trained in full.

    Attributes:
        model: a model of transformers.
        head: the names of the modules that are on top of the backbone or
            missing in the checkpoint.  They are trained in full, beside the
            adapter.
        caveat: a sentence on the head that the user should know; ``""`` if
            there is none.

    """

    model: Any
    head: list[str]
    caveat: str = ""


def load_base(model_config: Model) -> Base:
    """Load the pretrained model of ``model.type`` for ``model.task``.

    The task decides the loss, the number of labels and their order, even if
    the checkpoint's configuration says otherwise.

    Args:
        model_config: the configuration's section ``model``.

    Raises:
        UserError: the model cannot be loaded, the requested precision is
            not available, or the checkpoint lacks weights that do not belong
            to a head.

    """
    from transformers.utils import logging

    name = model_config.type.rpartition("@")[0]
    # The loading info, of which transformers would warn, is checked below.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    precision = _precision(model_config.adapter.base)
    config = load_model_config(name, model_config.adapter.cache)
    labels = dict(getattr(config, "id2label", None) or {})
    set_task(config, model_config)
    try:
        model, info = auto_class(model_config.task).from_pretrained(
            name,
            cache_dir=model_config.adapter.cache or None,
            trust_remote_code=False,  # and no question on the terminal
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # only a head's are accepted below
            **precision,
        )
    except UserError:
        raise
    # transformers, safetensors and torch each raise exceptions of their own
    # for missing packages, truncated files and shapes that do not fit.
    except Exception as error:
        raise UserError(
            f"model.type: {name!r} cannot be loaded: {first_line(error)}"
        ) from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise _is_an_adapter(name)
    refuse_left_out(model, info, name)
    new = new_names(info)
    if model_config.task == CAUSAL and new:
        raise incomplete(name, new)
    head = [] if model_config.task == CAUSAL else head_of(model, info, name)
    classes = list(model_config.adapter.get("classes", ()))
    caveat = ""
    if len(labels) == len(classes) > 0:
        caveat = match_labels(model, head, labels, classes, new)
    agree_on_tokens(model.config, model_config)
    if model_config.adapter.base.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Base(model, head, caveat and f"model.type: {name!r} {caveat}")


def auto_class(task: str) -> Any:
    """The class of transformers that loads a model for a task."""
    import transformers

    if task == CAUSAL:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForSequenceClassification


def load_model_config(name: str, cache: str) -> Any:
    """The configuration of a model, as transformers reads it.

    Args:
        name: a folder, or the name of a model on the Hugging Face Hub.
        cache: the folder of downloaded files; ``""`` stands for that of
            transformers.

    Raises:
        UserError: the folder does not exist or holds no base model, or the
            configuration cannot be loaded.

    """
    from transformers import AutoConfig
    from transformers.utils.peft_utils import find_adapter_config_file

    folder = Path(name)
    if name.startswith((".", "/")) and not folder.is_dir():
        raise UserError(f"model.type: the folder {name!r} does not exist")
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if file.is_file() and _starts_with(file, _LFS_POINTER):
            raise UserError(
                f"model.type: {file} is a pointer of Git LFS in place of the "
                "file; 'git lfs pull' in that folder fetches it"
            )
    try:
        if find_adapter_config_file(name, cache_dir=cache or None):
            raise _is_an_adapter(name)
        return AutoConfig.from_pretrained(
            name, cache_dir=cache or None, trust_remote_code=False
        )
    except UserError:
        raise
    except Exception as error:  # as in load_base
        raise UserError(
            f"model.type: the configuration of {name!r} cannot be loaded: "
            f"{first_line(error)}"
        ) from error


def _starts_with(file: Path, begin: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(begin)) == begin


def _is_an_adapter(name: str) -> UserError:
    return UserError(
        f"model.type: {name!r} is an adapter, not a base model; merge it into "
        "its base model first ('fedsa export --merge' does so for a run's), "
        "and name the merged one"
    )


def set_task(config: Any, model_config: Model) -> None:
    """Set the labels, the loss and the outputs that the task needs.

    The loss leaves out that of a mixture of experts' router, which is frozen.

    Args:
        config: the model's configuration of transformers, which is modified.
        model_config: the configuration's section ``model``.

    """
    for part in with_text_config(config):
        for flag in ("output_router_logits", "torchscript"):
            if getattr(part, flag, False):
                setattr(part, flag, False)
        part.output_attentions = part.output_hidden_states = False
        part.return_dict = True
    if model_config.task == CAUSAL:
        return
    config.problem_type = None  # an old type might not allow the new labels
    classes = list(model_config.adapter.get("classes", ()))
    if model_config.task == REGRESSION:
        config.num_labels = 1
        config.problem_type = "regression"
        return
    config.num_labels = model_config.num_labels
    if classes:
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: i for i, name in enumerate(classes)}
    config.problem_type = (
        MULTI_LABEL_TYPE
        if model_config.task == MULTI_LABEL
        else "single_label_classification"
    )


def agree_on_tokens(config: Any, model_config: Model) -> None:
    """Set the tokens of padding and end of text to those of the tokenizer.

    To classify, a decoder looks for the last token that is not padding, and
    an encoder-decoder for the last end of text, each by the number in the
    model's configuration.  A language model needs neither.

    Args:
        config: the model's configuration of transformers, which is modified.
        model_config: the configuration's section ``model``.

    """
    if model_config.task == CAUSAL:
        return
    adapter = model_config.adapter
    for part in with_text_config(config):
        if adapter.get("pad", -1) >= 0:
            part.pad_token_id = adapter.pad
        if config.is_encoder_decoder and adapter.get("eos", -1) >= 0:
            part.eos_token_id = adapter.eos


def with_text_config(config: Any) -> list[Any]:
    """A configuration, and the one of its model for texts if that differs."""
    text_config = config.get_text_config()
    return [config] if text_config is config else [config, text_config]


def _precision(options: Any) -> dict[str, Any]:
    """The arguments of ``from_pretrained`` for ``fedsa.base``."""
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
