"""Merges the adapter's arguments of a file and of its variations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fs_plugins.policy import canonical, variant_of

# The arguments that say which layers are adapted, whatever the PEFT method.
_PLACES = (
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
)


def merged_adapter(old: Any, new: Any) -> Any:
    """Merge ``llm.adapter.args`` of a variation or of the command line.

    If the new entry names no ``adapter_method``, or names the method of the
    old entry, its arguments are set and all other arguments of the old entry
    stay.  If it names another method, it replaces the old entry; of the old
    arguments only those that say which layers are adapted stay, as far as
    the new method accepts them.

    Args:
        old: the value so far; None if there is none.
        new: the value that the variation or the command line gives.

    Returns:
        A list of one mapping; or ``new`` as it is if ``old`` or ``new`` is
        not a list of one mapping.

    """
    if not (_is_entry(old) and _is_entry(new)):
        return new
    before, now = dict(old[0]), dict(new[0])
    old_method = variant_of(before)
    if str(now.get("adapter_method", old_method)).lower() == old_method:
        return [{**before, **now}]
    accepted = _arguments_of(canonical(now)[0])
    places = {
        name: before[name]
        for name in _PLACES
        if name in before and name in accepted
    }
    return [{**places, **now}]


def _is_entry(args: Any) -> bool:
    """Whether a value is a list of one mapping."""
    return (
        isinstance(args, list)
        and len(args) == 1
        and isinstance(args[0], Mapping)
    )


def _arguments_of(method: str) -> set[str]:
    """The names of the fields of PEFT's configuration of a method."""
    import peft

    kind = peft.PeftType.__members__.get(method.upper())
    if kind not in peft.PEFT_TYPE_TO_CONFIG_MAPPING:
        return set()
    config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    return {field.name for field in dataclasses.fields(config)}
