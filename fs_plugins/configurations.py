"""The YAML files that come with the project, wherever it is installed."""

import os
from importlib.resources import files
from pathlib import Path

NAME = "yaml_configs"


def packaged_folder() -> Path:
    """The folder of the project's own YAML files.

    An installed package carries the folder inside itself; in a checkout it
    lies beside the package.
    """
    package = Path(str(files("fs_plugins")))
    inside = package / NAME
    return inside if inside.is_dir() else package.parent / NAME


def packaged_names() -> list[str]:
    """The names of the project's experiments, such as ``demo/fedsa.yaml``."""
    folder = packaged_folder()
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*.yaml")
        if file.parent.name != "variations"
    )


def find_configuration(name: str) -> Path:
    """The YAML file that a name stands for.

    A path that exists, relative to the current folder, comes first.  Any
    other name may be that of one of the project's own experiments, such as
    ``demo/fedsa.yaml`` or ``yaml_configs/demo/fedsa.yaml``.

    Args:
        name: a path, or the name of an experiment.

    Returns:
        The file; if there is no such experiment either, the path as given.

    """
    path = Path(name)
    short = path.as_posix().removeprefix(f"{NAME}/")
    if not os.path.exists(path) and short in packaged_names():
        return packaged_folder() / short
    return path
