"""What a participant of a distributed run must have in common with others."""

from typing import Any

from fs_plugins.config.agreement import agreed
from fs_plugins.host.configuration import Config
from fs_plugins.model.digest import digest_of_frozen
from fs_plugins.version import __version__


def settings_of(worker: Any) -> dict[str, str]:
    """The settings by which participants are compared.

    The base models are compared by their weights, where they have the same
    precision.

    Args:
        worker: a server or a client of the plugins, which has not trained.

    """
    cfg: Config = worker._cfg
    dtype = next(worker.model.parameters()).dtype
    return {
        **agreed(cfg),
        "fs_plugins": __version__,
        f"base_model.{str(dtype).removeprefix('torch.')}": (
            digest_of_frozen(worker.model)
        ),
    }
