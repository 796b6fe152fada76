"""Writes the job of a run, as NVIDIA FLARE takes it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fs_plugins.config.yaml_file import dump
from fs_plugins.engine.outcome import SERVER

PACKAGE = "fs_plugins.engine"
_FORMAT = 2  # of FLARE's configurations
_APP = "app"
_BEATS = 5  # signs of life before a site is gone


def write_job(
    folder: Path,
    asked: Mapping[str, Any],
    sites: Sequence[str],
    run: str,
    needed: int = 0,
    lost_after: float = 60.0,
) -> None:
    """Write the job of a run.

    No code travels: the sites have this package installed, and the job names
    its classes.

    Args:
        folder: the folder of the job, which is made.
        asked: the configuration of the run, as nested mappings.
        sites: the names of the sites; the client with ID i is at the i-th.
        run: the name of the run.
        needed: how many sites the run needs to go on; 0 stands for all.
        lost_after: after how many seconds of silence a site is gone.

    """
    config = folder / _APP / "config"
    config.mkdir(parents=True, exist_ok=True)
    part = {"experiment": dump(asked), "sites": [*sites], "run": run}
    filters: dict[str, Any] = {
        "task_data_filters": [],
        "task_result_filters": [],
    }
    server = {
        "format_version": _FORMAT,
        "task_request_interval": 0.1,  # seconds between a site's questions
        "workflows": [
            {
                "id": "fedsa",
                "path": f"{PACKAGE}.Federation",
                "args": {**part, "needed": needed, "lost_after": lost_after},
            }
        ],
        "components": [],
        **filters,
    }
    client = {
        "format_version": _FORMAT,
        "default_task_fetch_interval": 0.1,
        "executors": [
            {
                "tasks": ["*"],
                "executor": {
                    "path": f"{PACKAGE}.Participant",
                    "args": {**part, "beats_every": lost_after / _BEATS},
                },
            }
        ],
        "components": [],
        **filters,
    }
    least = needed or len(sites)
    meta = {
        "name": run,
        "deploy_map": {_APP: [SERVER, *sites]},
        "resource_spec": {},
        "min_clients": least,
        "mandatory_clients": [*sites] if least == len(sites) else [],
    }
    _write(config / "config_fed_server.json", server)
    _write(config / "config_fed_client.json", client)
    _write(folder / "meta.json", meta)


def _write(file: Path, tree: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
