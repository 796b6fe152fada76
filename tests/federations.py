"""Distributed runs as a user starts them: one process a participant."""

import json
from pathlib import Path
from typing import Any

import processes
from helpers import free_port

CLIENTS = (1, 2, 3)


class Federation:
    """A server and its clients, on ports of their own.

    Args:
        lab: makes the YAML files.
        changes: what is changed in all of them.

    Attributes:
        name: the folders of the participants begin with it.
    """

    def __init__(self, lab: Any, **changes: Any) -> None:
        self.lab = lab
        self.name = "participant"
        self.changes = changes
        self.ports = {ID: free_port() for ID in (0, *CLIENTS)}
        self.processes: dict[int, processes.Process] = {}

    def folder(self, ID: int) -> Path:
        folder: Path = self.lab.folder / "exp" / f"{self.name}_{ID}"
        return folder

    def start(self, ID: int, **changes: Any) -> processes.Process:
        own = {
            "expname": f"{self.name}_{ID}",
            "federate__mode": "distributed",
            "federate__share_local_model": False,
            "distribute__use": True,
            "distribute__role": "client" if ID else "server",
            "distribute__server_host": "127.0.0.1",
            "distribute__server_port": self.ports[0],
            "distribute__client_host": "127.0.0.1",
            "distribute__client_port": self.ports[ID],
            "distribute__data_idx": ID or -1,
        }
        file = self.lab.file(**own | self.changes | changes)
        self.processes[ID] = processes.fedsa("run", "--cfg", file)
        return self.processes[ID]

    def start_all(self) -> None:
        for ID in (0, *CLIENTS):
            self.start(ID)

    def resume(self) -> processes.Process:
        """The server goes on."""
        self.processes[0] = processes.fedsa("run", "--resume", self.folder(0))
        return self.processes[0]

    def end(self, ID: int) -> tuple[int | None, str, str]:
        """(exit code, what it printed, what it complained)."""
        process = self.processes[ID]
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def kill(self, ID: int, number: int) -> tuple[int | None, str, str]:
        """Send a signal, and wait for the end."""
        self.processes[ID].send_signal(number)
        return self.end(ID)

    def lines(self) -> list[dict[str, Any]]:
        """The evaluations that the server has written."""
        file = self.folder(0) / "metrics.jsonl"
        text = file.read_text() if file.exists() else ""
        whole = text.rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole]

    def evaluated(self) -> list[set[str]]:
        """Who has taken part in each evaluation that the server wrote."""
        return [set(line["clients"]) for line in self.lines()]
