"""The types of the configuration are those of the host's configuration."""

from collections.abc import Sequence
from types import GenericAlias
from typing import Any, get_origin, get_type_hints

import pytest

from fs_plugins.host import configuration


def keys_of(section, prefix=""):
    """(key, type) of all keys that a section's type names."""
    for name, kind in get_type_hints(section).items():
        if getattr(kind, "_is_protocol", False) and get_type_hints(kind):
            yield from keys_of(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


KEYS = dict(keys_of(configuration.Config))


def test_the_keys_are_found():
    assert KEYS["federate.method"] is str
    assert KEYS["fedsa.eval.generate.top_p"] is float
    assert "fedsa.policy" in KEYS and len(KEYS) > 100


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_of_its_type(key):
    """On either host; what it names is what our code may rely on."""
    from federatedscope.core.configs.config import global_cfg

    value: Any = global_cfg
    for part in key.split("."):
        value = value[part]
    kind = KEYS[key]
    if kind is configuration.Section:
        assert hasattr(value, "items")
        return
    if isinstance(kind, GenericAlias) or get_origin(kind) is Sequence:
        assert isinstance(value, (list, tuple))
        return
    assert type(value) is kind or (kind is float and type(value) is int)
