"""The head on top of a base model: what it is, and whose classes it tells."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fs_plugins.errors import UserError


def new_names(info: Mapping[str, Any]) -> set[str]:
    """Parameters that the checkpoint has not, or in another shape."""
    mismatched = {
        each if isinstance(each, str) else each[0]
        for each in info["mismatched_keys"]
    }
    return {*info["missing_keys"]} | mismatched


def head_of(model: nn.Module, info: Mapping[str, Any], name: str) -> list[str]:
    """The modules on top of the backbone, and those newly made within it.

    A pooler that the checkpoint lacks is as untrained as a head, and is
    treated as one.  Without its embeddings or one of its stacked layers a
    model would compute from random weights all along: it is refused.

    Args:
        model: a classifier of transformers.
        info: what transformers says of its loading.
        name: the checkpoint's.

    Raises:
        UserError: the checkpoint lacks weights that are no head's.

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
    for each in modules_of(model, new - outside):
        stacked = any(part.isdigit() for part in each.split("."))
        embeds = any(
            isinstance(m, nn.Embedding) for m in modules[each].modules()
        )
        if not each or stacked or embeds:
            raise incomplete(name, new - outside)
    return head


def incomplete(name: str, new: Iterable[str]) -> UserError:
    """The error for a checkpoint without weights that are needed.

    Args:
        name: the checkpoint's.
        new: the weights that it lacks.

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


def refuse_left_out(
    model: nn.Module, info: Mapping[str, Any], name: str
) -> None:
    """Refuse a configuration with fewer layers than the checkpoint has.

    Args:
        model: of transformers.
        info: what transformers says of its loading.
        name: the checkpoint's.

    Raises:
        UserError: names the first weight that would be left out.

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
    """Bring a head that came with the checkpoint into the task's order.

    Args:
        model: of transformers.
        head: the names of the head's modules.
        labels: the names of the classes that the checkpoint was trained on.
        classes: those of the task, in the order of their numbers.
        new: parameters that the checkpoint does not have.

    Returns:
        What there is to say of it; or ``""``.

    """
    output = _output_layer(model, head, len(classes))
    if output is None or f"{output}.weight" in new:
        return ""  # it is drawn anew as it is
    before = [str(labels.get(i, "")) for i in range(len(labels))]
    wanted = [str(each) for each in classes]
    plain = [[_plain(each) for each in names] for names in (before, wanted)]
    if all(len({*each, ""}) == len(each) + 1 for each in plain):
        # else they differ in punctuation alone, as 'C' and 'C++' do
        before, wanted = plain
    caveat = ""
    numbers = [_NUMBERED.fullmatch(each) for each in before]
    if sorted(before) != sorted(wanted) and all(numbers):
        caveat = (
            "does not name the classes of its head; they are taken to be "
            f"{', '.join(classes)}, in this order"
        )
        wanted = sorted(before, key=_number_in)
    if sorted(before) == sorted(wanted):
        order = [before.index(each) for each in wanted]
        with torch.no_grad():
            for name, own in model.get_submodule(output).named_parameters():
                if f"{output}.{name}" not in new:
                    own.copy_(own[order].clone())
        return caveat
    for module in head:
        _draw(model, model.get_submodule(module))
    return (
        f"tells {', '.join(map(str, labels.values()))} apart, not "
        f"{', '.join(classes)}; its head is drawn anew"
    )


_NUMBERED = re.compile("(?:(?:label|class)_?)?([0-9]*)", re.IGNORECASE)


def _number_in(label: str) -> int:
    found = _NUMBERED.fullmatch(label)
    return int(found[1] or 0) if found else 0


def _plain(label: object) -> str:
    """A class's name without case, blanks and punctuation."""
    return "".join(c for c in str(label).lower() if c.isalnum())


def _output_layer(
    model: nn.Module, head: Sequence[str], classes: int
) -> str | None:
    """The name of the head's last layer, which has a row for each class."""
    layers = [
        f"{each}.{name}" if name else each
        for each in head
        for name, module in model.get_submodule(each).named_modules()
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
