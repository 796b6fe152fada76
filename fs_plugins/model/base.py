"""The frozen base model, and the head on top of it."""

import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fs_plugins.errors import UserError, first_line

CLASSIFICATION, REGRESSION = "SequenceClassification", "SequenceRegression"
CAUSAL = "CausalLM"
TASKS = (CLASSIFICATION, REGRESSION, CAUSAL)
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Base:
    """A pretrained model and what of it must be trained in full.

    Attributes:
        model: a model of transformers.
        head: the names of the modules that the backbone does not have, or
            that the checkpoint does not have: together with the adapter they
            are all that differs from the checkpoint.
        remark: what a user should know of the head; '' if nothing.

    """

    model: Any
    head: list[str]
    remark: str = ""


def load_base(model_config: Any) -> Base:
    """The pretrained model of ``model.type``, for ``model.task``.

    The task decides the loss, the number of labels and their order, whatever
    the checkpoint's configuration says of another task.

    Args:
        model_config: the configuration's section ``model``.

    Raises:
        UserError: the model cannot be loaded, not in the precision asked
            for, or the checkpoint lacks weights that are no head's.

    """
    from transformers.utils import logging

    name = model_config.type.rpartition("@")[0]
    # What transformers would warn of is looked at below.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    precision = _precision(model_config.adapter.base)
    config = load_model_config(name, model_config.adapter.cache)
    labels = dict(getattr(config, "id2label", None) or {})
    _set_task(config, model_config)
    try:
        model, info = auto_class(model_config.task).from_pretrained(
            name,
            cache_dir=model_config.adapter.cache or None,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # of a head; others are refused
            **precision,
        )
    except UserError:
        raise
    # Missing packages, files that are cut off, shapes that do not fit:
    # transformers, safetensors and torch each have exceptions of their own.
    except Exception as error:
        raise UserError(
            f"model.type: {name!r} cannot be loaded: {first_line(error)}"
        ) from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise _is_an_adapter(name)
    head = _head_of(model, info, model_config.task, name)
    loaded = not _new_names(info) & _parameters_in(model, head)
    classes = list(model_config.adapter.get("classes", ()))
    remark = ""
    if head and loaded and classes and len(labels) == len(classes):
        remark = _match_labels(model, head, labels, classes)
    _agree_on_tokens(model.config, model_config.adapter)
    if model_config.adapter.base.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Base(model, head, remark and f"model.type: {name!r} {remark}")


def auto_class(task: str) -> Any:
    """The class of transformers that loads a model for a task."""
    import transformers

    if task == CAUSAL:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForSequenceClassification


def load_model_config(name: str, cache: str) -> Any:
    """The configuration of a model, as transformers reads it.

    Args:
        name: a folder, or a name on the hub.
        cache: the folder of downloaded files; '' is transformers' own.

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
        return AutoConfig.from_pretrained(name, cache_dir=cache or None)
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


def _set_task(config: Any, model_config: Any) -> None:
    """Labels and loss are the task's, whatever the checkpoint was for."""
    if model_config.task == CAUSAL:
        return
    config.problem_type = None  # or what follows would not go with it
    classes = list(model_config.adapter.get("classes", ()))
    if model_config.task == REGRESSION:
        config.num_labels = 1
        config.problem_type = "regression"
        return
    config.num_labels = model_config.num_labels
    if classes:
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: i for i, name in enumerate(classes)}
    config.problem_type = "single_label_classification"


def _new_names(info: Mapping[str, Any]) -> set[str]:
    """Parameters that the checkpoint does not have, or in another shape."""
    mismatched = {
        each if isinstance(each, str) else each[0]
        for each in info["mismatched_keys"]
    }
    return {*info["missing_keys"]} | mismatched


def _head_of(
    model: nn.Module, info: Mapping[str, Any], task: str, name: str
) -> list[str]:
    """The modules on top of the backbone, and those newly made within it.

    A pooler that the checkpoint lacks is as untrained as a head, and is
    treated as one.  Without its embeddings or one of its stacked layers a
    model would compute from random weights all along: it is refused.
    """
    new = _new_names(info)
    if task == CAUSAL:
        if new:
            raise _incomplete(name, new)
        return []
    backbone = getattr(model, "base_model", model)
    inside = {id(p) for p in backbone.parameters()}
    outside = (
        set()
        if backbone is model
        else {n for n, p in model.named_parameters() if id(p) not in inside}
    )
    head = modules_of(model, outside | new)
    modules = dict(model.named_modules())
    for each in modules_of(model, new - outside):
        stacked = any(part.isdigit() for part in each.split("."))
        embeds = any(
            isinstance(m, nn.Embedding) for m in modules[each].modules()
        )
        if not each or stacked or embeds:
            raise _incomplete(name, new - outside)
    return head


def _incomplete(name: str, new: Iterable[str]) -> UserError:
    names = sorted(new)
    more = f" and {len(names) - 1} more" if names[1:] else ""
    return UserError(
        f"model.type: the checkpoint {name!r} has no weights of the right "
        f"shape for {names[0]}{more}; is it complete, and of a model for this "
        "task?"
    )


def modules_of(model: nn.Module, names: set[str]) -> list[str]:
    """The fewest modules that hold these parameters and no others.

    Args:
        model: any module.
        names: names of its parameters.

    Returns:
        The modules' names; ``""`` stands for the model itself.  A parameter
        whose module also holds others is covered by that module.

    """
    found: list[str] = []

    def look(module: nn.Module, prefix: str) -> None:
        below = {n for n, _ in module.named_parameters(prefix.rstrip("."))}
        if not below & names:
            return
        direct = {
            prefix + n for n, _ in module.named_parameters(recurse=False)
        }
        if below <= names or direct & names:
            found.append(prefix.rstrip("."))
            return
        for child, each in module.named_children():
            look(each, f"{prefix}{child}.")

    look(model, "")
    return found


def _parameters_in(model: nn.Module, modules: Iterable[str]) -> set[str]:
    return {
        f"{module}.{name}"
        for module in modules
        for name, _ in model.get_submodule(module).named_parameters()
    }


def _match_labels(
    model: Any,
    head: Sequence[str],
    labels: Mapping[int, str],
    classes: Sequence[str],
) -> str:
    """Bring a head that came with the checkpoint into the task's order.

    Args:
        model: of transformers.
        head: the names of the head's modules.
        labels: the names of the classes that the checkpoint was trained on.
        classes: those of the task, in the order of their numbers.

    Returns:
        What there is to say of it; or ``""``.

    """
    before = [str(labels.get(i, "")) for i in range(len(labels))]
    wanted = [str(each) for each in classes]
    if (
        len({*map(_plain, before)} | {""})
        == len(before) + 1
        == (len({*map(_plain, wanted)} | {""}))
    ):  # else they differ in punctuation alone, as 'C' and 'C++' do
        before, wanted = [*map(_plain, before)], [*map(_plain, wanted)]
    if before == wanted:
        return ""
    output = _output_layer(model, head, len(classes))
    if sorted(before) == sorted(wanted) and output is not None:
        order = [before.index(each) for each in wanted]
        with torch.no_grad():
            for parameter in output.parameters(recurse=False):
                parameter.copy_(parameter[order].clone())
        return ""
    numbered = re.compile("((label|class)_?)?[0-9]*", re.IGNORECASE)
    if all(numbered.fullmatch(each) for each in before):
        return (
            "does not name the classes of its head; they are taken to be "
            f"{', '.join(classes)}, in this order"
        )
    for module in head:
        _draw(model, model.get_submodule(module))
    return (
        f"tells {', '.join(map(str, labels.values()))} apart, not "
        f"{', '.join(classes)}; its head is drawn anew"
    )


def _plain(label: object) -> str:
    """A class's name without case, blanks and punctuation."""
    return "".join(c for c in str(label).lower() if c.isalnum())


def _output_layer(
    model: nn.Module, head: Sequence[str], classes: int
) -> nn.Linear | None:
    """The head's last layer, which has a row for each class."""
    layers = [
        module
        for each in head
        for module in model.get_submodule(each).modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    return layers[-1] if layers else None


def _draw(model: Any, module: nn.Module) -> None:
    """Draw a module's parameters as the model draws those of a new one."""
    for each in module.modules():
        tensors = [*each.parameters(recurse=False), each]
        for tensor in tensors:  # transformers 5 marks what it has loaded
            if hasattr(tensor, "_is_hf_initialized"):
                del tensor._is_hf_initialized
        model._init_weights(each)


def _agree_on_tokens(config: Any, adapter: Any) -> None:
    """Padding and end of text are those that the texts were made with.

    Decoders that classify look for the last token that is not padding,
    encoder-decoders for the last end of text, each by the number in the
    model's configuration.
    """
    text_config = config.get_text_config()
    for own in {id(config): config, id(text_config): text_config}.values():
        if adapter.get("pad", -1) >= 0:
            own.pad_token_id = adapter.pad
        if config.is_encoder_decoder and adapter.get("eos", -1) >= 0:
            own.eos_token_id = adapter.eos


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
