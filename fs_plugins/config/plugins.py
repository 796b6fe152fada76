"""Imports the user's plugins: files that register methods and the like."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.config.yaml_file import short
from fs_plugins.data import FAMILIES
from fs_plugins.errors import UserError
from fs_plugins.listeners import LISTENERS, importing
from fs_plugins.policy import METHODS, PEFT_METHODS

# The attribute of a plugin's module with the digest of what was imported.
_DIGEST = "__fs_plugins_digest__"
_OURS: tuple[Any, ...] = (METHODS, AGGREGATORS, PEFT_METHODS, FAMILIES)


def load_plugins(files: Sequence[str]) -> None:
    """Import the files of ``fedsa.plugins``, each once a process.

    Raises:
        UserError: a file does not exist, cannot be imported, or registers
            nothing.

    """
    for name in files:
        file = Path(os.path.expanduser(name)).absolute()
        module_name = _module_name(file)
        if not file.is_file():
            raise UserError(f"fedsa.plugins: there is no file {name}")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if module_name in sys.modules:
            if sys.modules[module_name].__dict__[_DIGEST] != digest:
                raise UserError(
                    f"fedsa.plugins: {name} has changed since this process "
                    "imported it; start a new process"
                )
            continue
        before = _registered()
        try:
            with importing(file):
                module = _import(file, name, module_name)
            _refuse_taken(before, name)
        except UserError:
            sys.modules.pop(module_name, None)
            _restore(before)
            raise
        module.__dict__[_DIGEST] = digest
        if _registered() == before:
            del sys.modules[module_name]
            raise UserError(
                f"fedsa.plugins: {name} registers nothing; call "
                "register_method, register_aggregator, register_examples, "
                "register_peft_method, register_listener or a register_... of "
                "federatedscope.register in it"
            )


def refuse_untrusted(files: Sequence[str], named_in: object) -> None:
    """Refuse to import plugins that a run's folder names, and not the user.

    A plugin that this process has imported already is not executed again.

    Args:
        files: the absolute paths of the plugins.
        named_in: the file that names them.

    Raises:
        UserError: one of the plugins would be executed.

    """
    new = [
        short(name)
        for name in files
        if _module_name(Path(os.path.expanduser(name)).absolute())
        not in sys.modules
    ]
    if new:
        raise UserError(
            f"{short(named_in)} names plugins, which would be executed: "
            f"{', '.join(new)}; if you trust these files, add --trust-plugins "
            "(in Python: trust_plugins=True)"
        )


def _module_name(file: Path) -> str:
    """A module name that differs for files of one name in two folders."""
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    return f"fs_plugins_of_the_user.{file.stem}_{digest}"


def _import(file: Path, name: str, module_name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"fedsa.plugins: {name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, UserError) else type(error).__name__
        reason = " ".join(f"{kind and f'{kind}: '}{error}".split())
        raise UserError(
            f"fedsa.plugins: {name} cannot be imported: {reason}"
        ) from error
    return module


def _refuse_taken(
    before: tuple[list[dict[str, Any]], list[Any]], name: str
) -> None:
    """Refuse a plugin that takes a name which another one has."""
    # FederatedScope's own registries, which follow, may be overwritten.
    for registry, content in zip(_OURS, before[0], strict=False):
        for key, value in content.items():
            if registry[key] is not value:
                raise UserError(
                    f"fedsa.plugins: {name} registers {key!r}, which is "
                    "there already; choose another name"
                )


def _registries() -> list[MutableMapping[str, Any]]:
    """All registries, this package's and FederatedScope's."""
    import federatedscope.register as host

    hosts = [
        value for name, value in vars(host).items() if name.endswith("_dict")
    ]
    return [*_OURS, *hosts]


def _registered() -> tuple[list[dict[str, Any]], list[Any]]:
    """Copies of all registries, and of the listeners."""
    return [dict(registry) for registry in _registries()], [*LISTENERS]


def _restore(before: tuple[list[dict[str, Any]], list[Any]]) -> None:
    """Forget what a plugin that failed has registered."""
    for registry, content in zip(_registries(), before[0], strict=True):
        registry.clear()
        registry.update(content)
    LISTENERS[:] = before[1]
