"""Serves the models of a run: ``fedsa serve RUN``."""

import json
import time
from pathlib import Path
from typing import Any

from fs_plugins.commands.model_card import warning
from fs_plugins.errors import UserError, printable
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import load_run
from fs_plugins.inference.service import Service
from fs_plugins.notes import note


def serve(folder: Path, host: str, port: int, as_json: bool = False) -> None:
    """Serve the models of a run until Ctrl-C or SIGTERM.

    Args:
        folder: the run's folder.
        host: the name or the address of this machine that is listened on.
        port: the port; 0 for one that is free.
        as_json: whether the lines of the log are JSON objects.

    Raises:
        UserError: the run cannot be served, the port is taken, or packages
            are missing.

    """
    try:
        from fs_plugins.inference.app import App
        from fs_plugins.inference.server import (
            hosts_of,
            listen,
            server_of,
        )
    except ImportError as error:
        raise UserError(
            "serve: it needs starlette and uvicorn: pip install "
            f"'fs_plugins[serve]' ({error})"
        ) from error
    run = load_run(folder)
    with listen(host, port) as listener:
        service = Service(run)
        if RunFolder.GLOBAL in service.names and warning(run):
            note(warning(run))
        hosts = hosts_of(host)
        if not hosts:
            note(
                f"--host {host}: whoever reaches this machine can ask the "
                "models; nothing is encrypted, and there is no password"
            )
        name = f"[{host}]" if ":" in host else host
        number = listener.getsockname()[1]
        url = f"http://{name}:{number}/v1"
        say = _say_json if as_json else _say_text
        say({"url": url, "models": service.names})
        app = App(service, say, hosts)
        server_of(app, service).run(sockets=[listener])
        say({"stopped": url})


def _say_json(line: dict[str, Any]) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)


def _say_text(line: dict[str, Any]) -> None:
    """Print a line of the log for a reader."""
    if "url" in line:
        names = ", ".join(line["models"])
        print(f"{line['url']} serves {names}; Ctrl-C ends it", flush=True)
        return
    if "stopped" in line:
        print("stopped", flush=True)
        return
    parts = [line["path"], line.get("model", ""), str(line["status"])]
    parts += [f"{line[u]} {u}" for u in ("tokens", "texts") if u in line]
    if "seconds" in line:
        parts.append(f"{line['seconds']:.2f} s")
    when = time.strftime("%H:%M:%S")
    print(when, *(printable(part) for part in parts if part), flush=True)
