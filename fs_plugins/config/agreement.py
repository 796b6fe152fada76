"""The settings in which all participants of a distributed run must agree."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from fs_plugins.config.host_options import HOST_OPTIONS
from fs_plugins.config.load import difference
from fs_plugins.config.options import OPTIONS
from fs_plugins.host.configuration import Config

_LONGEST = 60  # characters of a value that is told as it is
_DIGEST = "sha256:"
_NONE = "not given"
_MOST_NAMED = 5  # keys in the sentence
# The sections below which users may add arguments of their own.
_OPEN = ("train.optimizer.", "train.scheduler.")
# What the data have decided: heads of two tasks may have the same shape.
_OF_DATA = ("model.task",)
# Keys whose value may be a path, which says nothing about the content.
_MAY_BE_PATHS = ("data.type", "model.type")


def agreed(cfg: Config) -> dict[str, str]:
    """The values in which all participants must agree, as short texts.

    A value is its JSON, or a digest of its JSON if that is long.  A path is
    replaced by what follows it, ``@huggingface_llm`` say, as each machine has
    its own.

    Args:
        cfg: the configuration of a participant, complete.

    """
    asked = {o.key for o in (*OPTIONS, *HOST_OPTIONS) if o.is_agreed}
    return {
        key: _text(key, value)
        for key, value in sorted(difference({}, cfg).items())
        if key in asked or key in _OF_DATA or key.startswith(_OPEN)
    }


def _text(key: str, value: Any) -> str:
    if key in _MAY_BE_PATHS:
        value = _without_path(value)
    if key == "federate.method":
        value = value.lower()
    text = json.dumps(value, sort_keys=True, default=str)
    if len(text) <= _LONGEST and text.isprintable():
        return text
    return f"{_DIGEST}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _without_path(name: str) -> str:
    """A name such as ``sst2@glue``; of a path only what follows the ``@``."""
    base, at, rest = name.rpartition("@")
    base = base if at else name
    is_path = base.startswith((".", "/", "~")) or os.path.exists(base)
    return f"{at}{rest}" if is_path else name


def disagreement(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """In what a client's settings differ from the server's.

    A key that only one of them has is not compared, as the other may be of
    another version; but for arguments that users add, such as those of the
    optimizer.  Nor is a name compared with a path.

    Args:
        ours: what ``agreed`` returns at the server.
        theirs: what it has returned at the client; empty for a client that
            says nothing of its settings.

    Returns:
        A clause that names the keys; empty if they agree.

    """
    keys = [
        key
        for key in sorted({*ours, *theirs} if theirs else ())
        if ours.get(key) != theirs.get(key)
        and ((key in ours and key in theirs) or key.startswith(_OPEN))
        and not (key in _MAY_BE_PATHS and '"@' in ours[key] + theirs[key])
    ]
    if not keys:
        return ""
    told = [
        _differs(key, ours.get(key, _NONE), theirs.get(key, _NONE))
        for key in keys
    ]
    rest = len(keys) - _MOST_NAMED
    if rest > 0:
        told = [*told[:_MOST_NAMED], f"and {rest} more"]
    return (
        "its settings are not those of the server: "
        f"{', '.join(told)}; all participants must agree in them"
    )


def _differs(key: str, ours: str, theirs: str) -> str:
    if _DIGEST in ours + theirs:
        return key
    return f"{key} is {theirs} and not {ours}"
