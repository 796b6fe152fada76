"""Sections of a run's configuration, as the run has saved them."""

from collections.abc import Mapping
from typing import Any

from fs_plugins.config.load import nested
from fs_plugins.config.options import OPTIONS
from fs_plugins.config.yaml_file import flatten
from fs_plugins.experiment.run_folder import RunFolder


def own_section(config: Mapping[str, Any], name: str) -> Any:
    """A section of the options of this package, with all of its keys.

    Args:
        config: the content of ``config.yaml`` in the run's folder.
        name: the name of the section, such as ``fedsa.chat``.

    Returns:
        A section as a configuration of the host has it.  Keys that the run
        did not know have their defaults.

    Raises:
        UserError: a key has a value that it may not have.

    """
    from federatedscope.core.configs.config import CN

    said = dict(flatten(config))
    prefix = f"{name}."
    values = {
        option.key.removeprefix(prefix): option.kind.read(
            f"{RunFolder.CONFIG}: {option.key}",
            said.get(option.key, option.default),
        )
        for option in OPTIONS
        if option.key.startswith(prefix)
    }
    return CN(nested(values))
