"""Prepares a startup kit of NVIDIA FLARE for runs of this package."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fs_plugins.config.yaml_file import dump
from fs_plugins.engine.site import FILE
from fs_plugins.errors import UserError
from fs_plugins.policy.roles import Role

# The classes that a job may name; no code of a job's own is imported.
CLASSES = [
    f"fs_plugins.engine.{name}"
    for name in ("Federation", "Participant", "SharedOnly")
]
_STREAMER = "site_log_streamer"  # sends the site's log of errors to the server
_SCOPE = "fedsa"  # of the site's rules
_LOST_AFTER = 60  # seconds without a sign of life, at the server


def prepare(
    kit: Path, data: str = "", share: Sequence[str] = ("A",), model: str = ""
) -> list[Path]:
    """Write the files by which a participant decides what it takes part in.

    Args:
        kit: the startup kit's folder, with ``startup`` and ``local``.
        data: what ``data.type`` is at this site, such as
            ``reports.csv@text``; empty for the server.
        share: the roles whose parameters may leave the site.
        model: what ``model.type`` is at this site, where its base model is
            in a place of its own; empty leaves it to the job.

    Returns:
        The files that were written.

    Raises:
        UserError: the folder is no startup kit, or an argument is wrong.

    """
    local = kit / "local"
    is_server = (kit / "startup" / "fed_server.json").exists()
    if not is_server and not (kit / "startup" / "fed_client.json").exists():
        raise UserError(
            f"{kit} is not the startup kit of a server or a site; it has no "
            "startup/fed_server.json or startup/fed_client.json"
        )
    if is_server and data:
        raise UserError(f"{kit} is the server's kit; the server has no data")
    if not is_server and not data:
        raise UserError("site: say with --data where this site's data are")
    known = {role.value for role in Role}
    for role in share:
        if role not in known:
            raise UserError(
                f"site: --share {role!r} is not one of "
                f"{', '.join(sorted(known))}"
            )
    files = {
        "resources.json": _resources(kit, is_server),
        "authorization.json": _authorization(local),
    }
    if not is_server:
        files["privacy.json"] = _privacy(local, share)
    written = []
    for name, tree in files.items():
        text = json.dumps(tree, indent=2) + "\n"
        (local / name).write_text(text, encoding="utf-8")
        written.append(local / name)
    own = {"data": {"type": absolute(data)}} if data else {}
    if model:
        own["model"] = {"type": absolute(model)}
    if own:
        (local / FILE).write_text(dump(own), encoding="utf-8")
        written.append(local / FILE)
    return written


def _resources(kit: Path, is_server: bool) -> dict[str, Any]:
    """FLARE's resources: only our classes, and no log leaves the site."""
    resources = _present(kit / "local", "resources.json")
    resources["class_allow_list"] = CLASSES
    resources["class_list_enforcement_mode"] = "enforce"
    resources["allow_log_streaming"] = False
    resources["components"] = [
        _in_kit(component, kit)
        for component in resources.get("components", [])
        if component.get("id") != _STREAMER
    ]
    if is_server:
        for server in resources.get("servers", []):
            server["heart_beat_timeout"] = _LOST_AFTER
        persistor = resources.get("snapshot_persistor", {}).get("args", {})
        storage = persistor.get("storage", {}).get("args", {})
        if "root_dir" in storage:
            storage["root_dir"] = str((kit / "snapshots").absolute())
    return resources


def _in_kit(component: dict[str, Any], kit: Path) -> dict[str, Any]:
    """Keep the server's jobs in its kit, where a restart finds them."""
    if component.get("id") == "job_manager":
        component["args"]["uri_root"] = str((kit / "jobs").absolute())
    return component


def _authorization(local: Path) -> dict[str, Any]:
    """FLARE's permissions, without jobs that bring code, and without shells.

    A shell command of FLARE's lists and shows files of a site.
    """
    rules = _present(local, "authorization.json")
    for role, rights in rules.get("permissions", {}).items():
        if rights == "any":
            rights = dict.fromkeys(_RIGHTS, "any")
            rules["permissions"][role] = rights
        if isinstance(rights, dict):
            rights.update({"byoc": "none", "shell_commands": "none"})
    return rules


_RIGHTS = (
    "submit_job",
    "clone_job",
    "manage_job",
    "download_job",
    "view",
    "operate",
    "shell_commands",
    "byoc",
)


def _privacy(local: Path, share: Sequence[str]) -> dict[str, Any]:
    """The site's filter, for every job.

    Raises:
        UserError: the site has rules of its own, which stay as they are.

    """
    own = {
        "path": "fs_plugins.engine.SharedOnly",
        "args": {"share": [*share]},
    }
    file = local / "privacy.json"
    if file.exists() and _read(file).get("default_scope") != _SCOPE:
        raise UserError(
            f"{file} has rules of its own, which stay; add to the "
            f"task_result_filters of its scopes: {json.dumps(own)}"
        )
    scope = {"name": _SCOPE, "task_result_filters": [own]}
    return {"scopes": [scope], "default_scope": _SCOPE}


def _present(local: Path, name: str) -> dict[str, Any]:
    """The site's own version of a file, or else FLARE's."""
    file = local / name
    return _read(file if file.exists() else local / f"{name}.default")


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{file} holds no mapping")
    return tree


def absolute(name: str) -> str:
    """A name whose part before ``@`` is absolute, if it is a path."""
    path, at, rest = name.rpartition("@")
    path = path if at else name
    rest = f"{at}{rest}" if at else ""
    return f"{Path(path).absolute()}{rest}" if Path(path).exists() else name
