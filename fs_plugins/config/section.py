"""The section ``fedsa`` of FederatedScope's configuration."""

from typing import Any

from fs_plugins.config.options import OPTIONS

# The keys below model.adapter, from which the model is built.  They are
# filled in from llm.adapter, llm.cache, seed, fedsa.base, the data and
# federate.restore_from.
_ADAPTER = {
    "args": [{}],
    "cache": "",
    "seed": 0,
    "private": False,
    "dtype": "float32",
    "base.dtype": "float32",
    "base.quantize": "",
    "base.gradient_checkpointing": False,
    "base.device": "cpu",
    "classes": [],
    "pad": -1,
    "eos": -1,
    "start": "",
}
# The keys below model that describe a run's model; the host has the others.
MODEL = {"type": "", "task": "", "num_labels": 1} | {
    f"adapter.{name}": default for name, default in _ADAPTER.items()
}


def extend_fedsa_cfg(cfg: Any) -> None:
    """Add the options of this package to FederatedScope's configuration."""
    for option in OPTIONS:
        _add(cfg, option.key, option.default)
    for name, default in _ADAPTER.items():
        _add(cfg, f"model.adapter.{name}", default)
    cfg.register_cfg_check_fun(_check)


def _check(cfg: Any) -> None:
    from fs_plugins.config.checks import check

    check(cfg)


def _add(cfg: Any, key: str, default: Any) -> None:
    """Add a key, and the sections above it that do not exist yet."""
    *path, name = key.split(".")
    node = cfg
    for part in path:
        if part not in node:
            node[part] = type(cfg)()
        node = node[part]
    node[name] = default if not isinstance(default, list) else [*default]
