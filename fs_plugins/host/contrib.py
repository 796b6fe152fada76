"""Make FederatedScope's own ``main.py`` see the plugins."""

from pathlib import Path

from fs_plugins.errors import UserError

# FederatedScope imports every file of this folder after it has read its
# configuration and before it builds anything.
_FILE = Path("contrib") / "data" / "fs_plugins_contrib.py"
_CONTENT = "import fs_plugins  # noqa: F401  registers its plugins\n"


def install_contrib(folder: Path) -> Path:
    """Write a file of one line into FederatedScope's ``contrib`` folder.

    Args:
        folder: FederatedScope's repository, or its package in it.

    Returns:
        The file.

    Raises:
        UserError: the folder isn't FederatedScope's, or can't be written to.

    """
    file = _package(folder) / _FILE
    try:
        file.write_text(_CONTENT, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror}"
        ) from error
    return file


def uninstall_contrib(folder: Path) -> Path:
    """Remove the file that ``install_contrib`` has written.

    Args:
        folder: FederatedScope's repository, or its package in it.

    Returns:
        The file that was removed.

    Raises:
        UserError: the folder isn't FederatedScope's, or has no such file.

    """
    file = _package(folder) / _FILE
    if not file.is_file():
        raise UserError(f"{file} does not exist; nothing to uninstall")
    file.unlink()
    return file


def _package(folder: Path) -> Path:
    for package in (folder, folder / "federatedscope"):
        if (package / "main.py").is_file() and (
            package / "contrib" / "data" / "__init__.py"
        ).is_file():
            return package
    raise UserError(
        f"{folder} is not FederatedScope: it has no main.py with a folder "
        "contrib/data beside it"
    )
