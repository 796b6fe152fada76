"""The head on top of a base model: its modules, weights and classes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fs_plugins.errors import UserError


def new_names(info: Mapping[str, Any]) -> set[str]:
    """The parameters that a checkpoint lacks or has in another shape.

    Args:
        info: the loading info that ``from_pretrained`` of transformers
            returns.

    """
    mismatched = {
        entry if isinstance(entry, str) else entry[0]
        for entry in info["mismatched_keys"]
    }
    return {*info["missing_keys"]} | mismatched


def head_of(model: nn.Module, info: Mapping[str, Any], name: str) -> list[str]:
    """The names of the modules of a classifier's head.

    The head consists of the modules on top of the backbone and of those
    within the backbone that the checkpoint lacks, such as a pooler, which
    are as untrained.  A checkpoint that lacks embeddings or one of the
    stacked layers is refused, as the model would compute from random weights
    all along.

    Args:
        model: a classifier of transformers.
        info: the loading info that transformers has returned for the model.
        name: the name of the checkpoint.

    Raises:
        UserError: the checkpoint lacks weights that do not belong to a head.

    """
    new = new_names(info)
    backbone = getattr(model, "base_model", model)
    inside = {id(p) for p in backbone.parameters()}
    outside = (
        set()
        if backbone is model
        else {n for n, p in model.named_parameters() if id(p) not in inside}
    )
    head = modules_of(model, outside | new)
    modules = dict(model.named_modules())
    for new_module in modules_of(model, new - outside):
        stacked = any(part.isdigit() for part in new_module.split("."))
        embeds = any(
            isinstance(m, nn.Embedding) for m in modules[new_module].modules()
        )
        if not new_module or stacked or embeds:
            raise incomplete(name, new - outside)
    return head


def incomplete(name: str, new: Iterable[str]) -> UserError:
    """The error for a checkpoint that lacks weights.

    Args:
        name: the name of the checkpoint.
        new: the names of the weights that the checkpoint lacks.

    """
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
        names: the names of some of the model's parameters.

    Returns:
        The modules' names; ``""`` stands for the model itself.  A module
        that directly holds one of the parameters is included even if it also
        holds others.

    """
    modules: list[str] = []

    def look(module: nn.Module, prefix: str) -> None:
        below = {n for n, _ in module.named_parameters(prefix.rstrip("."))}
        if not below & names:
            return
        direct = {
            prefix + n for n, _ in module.named_parameters(recurse=False)
        }
        if below <= names or direct & names:
            modules.append(prefix.rstrip("."))
            return
        for name, child in module.named_children():
            look(child, f"{prefix}{name}.")

    look(model, "")
    return modules


def refuse_left_out(
    model: nn.Module, info: Mapping[str, Any], name: str
) -> None:
    """Refuse a configuration with fewer layers than the checkpoint has.

    Args:
        model: a model of transformers.
        info: the loading info that transformers has returned for the model.
        name: the name of the checkpoint.

    Raises:
        UserError: a weight of the checkpoint would be left out.

    """
    modules = dict(model.named_modules())
    for key in sorted(info["unexpected_keys"]):
        parts = key.split(".")
        for place, part in enumerate(parts):
            stack = modules.get(".".join(parts[:place]))
            if not part.isdigit() or not isinstance(stack, nn.ModuleList):
                continue
            if int(part) >= len(stack):
                raise UserError(
                    f"model.type: the checkpoint {name!r} has weights for "
                    f"{key}, and its config.json describes {len(stack)} such "
                    "layers only"
                )


def match_labels(
    model: Any,
    head: Sequence[str],
    labels: Mapping[int, str],
    classes: Sequence[str],
    new: set[str],
) -> str:
    """Put the classes of a checkpoint's head into the order of the task.

    If the checkpoint's head tells other classes apart than those of the
    task, the head is drawn anew.

    Args:
        model: a model of transformers, which is modified.
        head: the names of the head's modules.
        labels: the names of the classes that the checkpoint was trained on,
            by number.
        classes: the names of the task's classes, in the order of their
            numbers.
        new: the names of the parameters that the checkpoint lacks.

    Returns:
        A caveat for the user, whose subject is the checkpoint; ``""`` if
        there is none.

    """
    output = _output_layer(model, head, len(classes))
    if output is None or f"{output}.weight" in new:
        return ""  # a head that the checkpoint lacks has been drawn already
    before = [str(labels.get(i, "")) for i in range(len(labels))]
    wanted = [str(name) for name in classes]
    plain = [[_plain(name) for name in names] for names in (before, wanted)]
    if all(len({*names, ""}) == len(names) + 1 for names in plain):
        # Names that differ in punctuation only, such as 'C' and 'C++', are
        # compared as they are.
        before, wanted = plain
    caveat = ""
    numbers = [_NUMBERED.fullmatch(name) for name in before]
    if sorted(before) != sorted(wanted) and all(numbers):
        caveat = (
            "does not name the classes of its head; they are taken to be "
            f"{', '.join(classes)}, in this order"
        )
        wanted = sorted(before, key=_number_in)
    if sorted(before) == sorted(wanted):
        order = [before.index(name) for name in wanted]
        layer = model.get_submodule(output)
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if f"{output}.{name}" not in new:
                    parameter.copy_(parameter[order].clone())
        return caveat
    for module in head:
        _draw(model, model.get_submodule(module))
    return (
        f"tells {', '.join(map(str, labels.values()))} apart, not "
        f"{', '.join(classes)}; its head is drawn anew"
    )


_NUMBERED = re.compile("(?:(?:label|class)_?)?([0-9]*)", re.IGNORECASE)


def _number_in(label: str) -> int:
    """The number in a class's name such as ``LABEL_1``."""
    match = _NUMBERED.fullmatch(label)
    return int(match[1] or 0) if match else 0


def _plain(label: object) -> str:
    """A class's name without case, blanks and punctuation."""
    return "".join(c for c in str(label).lower() if c.isalnum())


def _output_layer(
    model: nn.Module, head: Sequence[str], classes: int
) -> str | None:
    """The name of the head's last layer with a row for each class, if any."""
    layers = [
        f"{top}.{name}" if name else top
        for top in head
        for name, module in model.get_submodule(top).named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    return layers[-1] if layers else None


def _draw(model: Any, module: nn.Module) -> None:
    """Draw a module's parameters as the model draws those of a new module."""
    for submodule in module.modules():
        # transformers 5 marks the modules and the parameters that it has
        # loaded, and would leave them as they are
        for marked in (*submodule.parameters(recurse=False), submodule):
            if hasattr(marked, "_is_hf_initialized"):
                del marked._is_hf_initialized
        model._init_weights(submodule)
