"""How a variation changes the adapter of the file that it varies."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fs_plugins.policy import canonical, variant_of

# Where an adapter goes, whichever it is.
_PLACES = (
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
)


def merged_adapter(old: Any, new: Any) -> Any:
    """``llm.adapter.args`` after a variation or the command line.

    An entry that names no ``adapter_method``, or the one that is there
    already, changes the arguments that it holds and leaves the others.  One
    that names another method takes the place of the old entry, of which only
    the layers that are adapted stay, as far as the new method can be told.

    Args:
        old: what there was so far; None for nothing.
        new: what is given.

    Returns:
        The list of one entry; or ``new`` where either is none such.

    """
    if not (_is_entry(old) and _is_entry(new)):
        return new
    before, now = dict(old[0]), dict(new[0])
    there = variant_of(before)
    if str(now.get("adapter_method", there)).lower() == there:
        return [{**before, **now}]
    known = _arguments_of(canonical(now)[0])
    kept = {name: before[name] for name in _PLACES if name in before}
    return [{**{n: v for n, v in kept.items() if n in known}, **now}]


def _is_entry(args: Any) -> bool:
    return (
        isinstance(args, list)
        and len(args) == 1
        and isinstance(args[0], Mapping)
    )


def _arguments_of(method: str) -> set[str]:
    """What PEFT's configuration of a method can be told."""
    import peft

    kind = peft.PeftType.__members__.get(method.upper())
    if kind not in peft.PEFT_TYPE_TO_CONFIG_MAPPING:
        return set()
    config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    return {field.name for field in dataclasses.fields(config)}
