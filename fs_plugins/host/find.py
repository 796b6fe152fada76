"""Find FederatedScope, or stand in for it."""

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fs_plugins.errors import UserError, first_line, unknown
from fs_plugins.host.fit import (
    AFTER_IMPORT,
    BEFORE_IMPORT,
    ON_ANY_HOST,
    Adaptation,
    fit,
)

EMBEDDED = Path(__file__).parent / "embedded"
VARIABLE = "FS_PLUGINS_HOST"


@dataclass(frozen=True)
class Host:
    """The host that the plugins run on.

    Attributes:
        name: 'federatedscope' or 'embedded'.
        version: its version.
        path: its folder.
        adaptations: what was changed in it, in memory.

    """

    name: str
    version: str
    path: Path
    adaptations: tuple[Adaptation, ...] = ()


def find_host() -> Host:
    """Make ``import federatedscope`` work and say what it imports.

    An installed FederatedScope is used; otherwise the embedded host is
    appended to the import path.  ``FS_PLUGINS_HOST`` forces one of the two.

    Raises:
        UserError: the host asked for isn't there, or is broken.

    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "embedded", "federatedscope"):
        raise unknown(VARIABLE, wanted, ("embedded", "federatedscope"))
    if wanted == "embedded":
        _put_first(EMBEDDED)
    elif importlib.util.find_spec("federatedscope") is None:
        if wanted == "federatedscope":
            raise UserError(
                f"{VARIABLE}: FederatedScope is not installed here; install "
                "its llm branch, or unset the variable to use the embedded "
                "host"
            )
        sys.path.append(str(EMBEDDED))
    return _load()


def find_host_or_exit() -> Host:
    """As ``find_host``; the command exits with the sentence and code 2.

    The package is imported before the command's own code can run, so what
    is wrong with the host must be said here.
    """
    try:
        return find_host()
    except UserError as error:
        words = [Path(word).name for word in sys.orig_argv[:3]]
        if "fedsa" in words or words[1:] == ["-m", "fs_plugins"]:
            print(f"fedsa: {error}", file=sys.stderr)
            sys.exit(2)
        raise


def _put_first(folder: Path) -> None:
    """Import ``federatedscope`` from ``folder``, whatever is installed."""
    module = sys.modules.get("federatedscope")
    if module is not None and _folder(module) != folder / "federatedscope":
        raise UserError(
            f"{VARIABLE}: FederatedScope was imported before fs_plugins; "
            "import fs_plugins first to use the embedded host"
        )
    sys.path.insert(0, str(folder))


def _load() -> Host:
    spec = importlib.util.find_spec("federatedscope")
    is_embedded = spec is not None and str(EMBEDDED) in str(spec.origin)
    applied = () if is_embedded else fit(BEFORE_IMPORT)
    try:
        module = importlib.import_module("federatedscope")
        config = importlib.import_module("federatedscope.core.configs.config")
        if not hasattr(config.global_cfg, "llm"):
            raise UserError(
                f"the FederatedScope in {_folder(module)} has no LLM support; "
                f"install its llm branch, or set {VARIABLE}=embedded to do "
                "without it"
            )
        applied += fit(ON_ANY_HOST)
        applied += () if is_embedded else fit(AFTER_IMPORT)
    except UserError:
        raise
    except Exception as error:  # whatever is wrong with the installation
        reason = first_line(error)
        raise UserError(
            f"FederatedScope is installed but cannot be imported ({reason}); "
            f"install what is missing, or set {VARIABLE}=embedded to do "
            "without it"
        ) from error
    return Host(
        name="embedded" if is_embedded else "federatedscope",
        version=str(getattr(module, "__version__", "unknown")),
        path=_folder(module),
        adaptations=applied,
    )


def _folder(module: object) -> Path:
    return Path(str(getattr(module, "__file__", ""))).parent
