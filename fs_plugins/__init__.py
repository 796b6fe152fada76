"""FedSA-LoRA and its family for FederatedScope.

After this package is imported, the plugins are registered as soon as
``federatedscope`` is imported, which is FederatedScope or the embedded
stand-in for it.  The names of the Python API are imported when they are first
used, so that importing the package takes no time.
"""

from typing import TYPE_CHECKING, Any

from fs_plugins.host import await_host
from fs_plugins.registration import register_plugins
from fs_plugins.version import __version__

if TYPE_CHECKING:
    from fs_plugins.aggregator import Aggregator, register_aggregator
    from fs_plugins.api import Run, compare, load_run, resume, run
    from fs_plugins.config.load import load_config
    from fs_plugins.data import register_examples
    from fs_plugins.data.examples import Examples
    from fs_plugins.errors import Interrupted, RunError, UserError
    from fs_plugins.inference.predictor import Predictor
    from fs_plugins.listeners import Listener, StopRun, register_listener
    from fs_plugins.policy import (
        FREEZE,
        KEEP,
        SHARE,
        Policy,
        Role,
        register_method,
        register_peft_method,
    )

_HOMES = {
    "fs_plugins.aggregator": ("Aggregator", "register_aggregator"),
    "fs_plugins.api": ("Run", "compare", "load_run", "resume", "run"),
    "fs_plugins.config.load": ("load_config",),
    "fs_plugins.data": ("register_examples",),
    "fs_plugins.data.examples": ("Examples",),
    "fs_plugins.errors": ("Interrupted", "RunError", "UserError"),
    "fs_plugins.inference.predictor": ("Predictor",),
    "fs_plugins.listeners": ("Listener", "StopRun", "register_listener"),
    "fs_plugins.policy": (
        *("FREEZE", "KEEP", "SHARE", "Policy", "Role"),
        *("register_method", "register_peft_method"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

await_host(register_plugins)

__all__ = [
    "FREEZE",
    "KEEP",
    "SHARE",
    "Aggregator",
    "Examples",
    "Interrupted",
    "Listener",
    "Policy",
    "Predictor",
    "Role",
    "Run",
    "RunError",
    "StopRun",
    "UserError",
    "__version__",
    "compare",
    "load_config",
    "load_run",
    "register_aggregator",
    "register_examples",
    "register_listener",
    "register_method",
    "register_peft_method",
    "resume",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import a name of the Python API when it is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    """The names of the package, for completion."""
    return sorted({*globals(), *__all__})
