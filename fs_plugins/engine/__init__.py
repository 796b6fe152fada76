"""FederatedScope's workers as a server and sites of NVIDIA FLARE.

``Federation`` is FLARE's controller, ``Participant`` its executor, and
``SharedOnly`` a filter that a site installs.  Configurations of FLARE name
them by this package; they are imported, and FLARE with them, when they are
first used.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Federation": "fs_plugins.engine.server",
    "Participant": "fs_plugins.engine.client",
    "SharedOnly": "fs_plugins.engine.shared_only",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no {name!r}")
    return getattr(import_module(_HOMES[name]), name)
