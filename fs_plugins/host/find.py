"""Finds FederatedScope, or the embedded host that stands in for it."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from fs_plugins.errors import UserError, first_line, unknown
from fs_plugins.host.adaptations import (
    AFTER_IMPORT,
    BEFORE_IMPORT,
    ON_ANY_HOST,
    Adaptation,
    adapt,
)

EMBEDDED = Path(__file__).parent / "embedded"
VARIABLE = "FS_PLUGINS_HOST"


@dataclass(frozen=True)
class Host:
    """The host that the plugins run on.

    Attributes:
        name: ``federatedscope`` or ``embedded``.
        version: the host's version.
        path: the folder of the host's package.
        adaptations: what was changed in the host, in memory.

    """

    name: str
    version: str
    path: Path
    adaptations: tuple[Adaptation, ...] = ()


_host: Host | None = None  # None until the host is imported


def find_host() -> Host:
    """Import the host, unless it is imported already, and describe it.

    Raises:
        UserError: the host asked for is not installed, or is broken.

    """
    importlib.import_module("federatedscope")
    assert _host is not None
    return _host


def await_host(register: Callable[[], None]) -> None:
    """Have the plugins registered once ``federatedscope`` is imported.

    Importing FederatedScope takes seconds, and a command such as
    ``fedsa --help`` does not need it.  If it is imported already, the plugins
    are registered at once.

    ``import federatedscope`` finds an installed FederatedScope, or else the
    embedded host.  ``FS_PLUGINS_HOST`` forces one of the two.

    Args:
        register: registers the plugins; called once.

    Raises:
        UserError: the host is imported already, and cannot be used.

    """
    if "federatedscope" in sys.modules:
        if _wanted() == "embedded":
            _refuse_imported(sys.modules["federatedscope"])
        _connect(register)
        return
    # This package may have been imported before, and removed or reloaded.
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if not getattr(finder, "awaits_federatedscope", False)
    ]
    sys.meta_path.insert(0, _HostFinder(register))


def _wanted() -> str:
    """The host that the environment asks for; ``""`` for either."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "embedded", "federatedscope"):
        raise unknown(VARIABLE, wanted, ("embedded", "federatedscope"))
    return wanted


class _HostFinder(MetaPathFinder):
    """Finds ``federatedscope``, and has the plugins connected to it.

    Args:
        register: registers the plugins.

    """

    awaits_federatedscope = True

    def __init__(self, register: Callable[[], None]) -> None:
        self.register = register

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The host's module specification; None for any other module.

        Args:
            name: the name of the module that is imported.
            path: the search path of the package that the module is in.
            target: is ignored.

        Raises:
            UserError: the host asked for is not installed.

        """
        if name != "federatedscope":
            return None
        spec = self._chosen()
        if spec.loader is not None:
            spec.loader = _HostLoader(spec.loader, self)
        return spec

    def _chosen(self) -> ModuleSpec:
        wanted = _wanted()
        installed = None if wanted == "embedded" else self._installed()
        if installed is not None:
            return installed
        if wanted == "federatedscope":
            raise UserError(
                f"{VARIABLE}: FederatedScope is not installed here; install "
                "its llm branch, or unset the variable to use the embedded "
                "host"
            )
        spec = PathFinder.find_spec("federatedscope", [str(EMBEDDED)])
        assert spec is not None
        # for processes that are started from this one
        if str(EMBEDDED) not in sys.path:
            sys.path.append(str(EMBEDDED))
        return spec

    def _installed(self) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec: ModuleSpec | None = find_spec("federatedscope", None)
            # A folder of that name without an __init__.py has no loader.
            if spec is not None and spec.loader is not None:
                return spec
        return None


class _HostLoader(Loader):
    """Loads the host with the host's own loader, then connects the plugins.

    Args:
        loader: the host's own loader.
        finder: the finder to remove once the host is loaded.

    """

    def __init__(self, loader: Any, finder: _HostFinder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as the host's own loader does.

        Args:
            spec: the host's module specification.

        """
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the host's ``__init__``, then connect the plugins.

        Raises:
            UserError: the host is broken.

        """
        before = {*sys.modules}
        try:
            _import_or_say(lambda: self._loader.exec_module(module))
            _connect(self._finder.register)
        except BaseException:
            # The next import may be that of another host.
            for name in {*sys.modules} - before:
                if name.startswith("federatedscope."):
                    del sys.modules[name]
            raise
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)


def _refuse_imported(module: ModuleType) -> None:
    if _folder(module) != EMBEDDED / "federatedscope":
        raise UserError(
            f"{VARIABLE}: FederatedScope was imported before fs_plugins; "
            "import fs_plugins first to use the embedded host"
        )


def _import_or_say(do: Callable[[], None]) -> None:
    """Import a part of FederatedScope; what fails there is one sentence."""
    try:
        do()
    except UserError:
        raise
    except Exception as error:  # whatever is wrong with the installation
        raise UserError(
            "FederatedScope is installed but cannot be imported "
            f"({first_line(error)}); install what is missing, or set "
            f"{VARIABLE}=embedded to do without it"
        ) from error


def _connect(register: Callable[[], None]) -> None:
    """Adapt the host that is being imported, and register the plugins."""
    global _host
    module = sys.modules["federatedscope"]
    is_embedded = _folder(module) == EMBEDDED / "federatedscope"
    applied = () if is_embedded else adapt(BEFORE_IMPORT)

    def complete() -> None:
        nonlocal applied
        config = importlib.import_module("federatedscope.core.configs.config")
        if not hasattr(config.global_cfg, "llm"):
            raise UserError(
                f"the FederatedScope in {_folder(module)} has no LLM support; "
                f"install its llm branch, or set {VARIABLE}=embedded to do "
                "without it"
            )
        applied += adapt(ON_ANY_HOST)
        applied += () if is_embedded else adapt(AFTER_IMPORT)

    _import_or_say(complete)
    register()
    _host = Host(
        name="embedded" if is_embedded else "federatedscope",
        version=str(getattr(module, "__version__", "unknown")),
        path=_folder(module),
        adaptations=applied,
    )


def _folder(module: object) -> Path:
    return Path(str(getattr(module, "__file__", ""))).parent
