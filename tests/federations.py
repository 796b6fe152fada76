"""A stand-in for NVIDIA FLARE: a process a participant, tasks and results.

As FLARE does, it gives the sites the server's messages as tasks, says which
sites are gone, and ends the job with the server's process.  It knows nothing
of certificates and files of jobs.
"""

import contextlib
import json
import multiprocessing
import queue
import signal
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import processes

from fs_plugins.config.yaml_file import flatten, read_yaml
from fs_plugins.engine.links import ServerLink, SiteLink, said_of, unpacked
from fs_plugins.engine.outcome import Outcome, read_outcome, write_outcome
from fs_plugins.engine.part import folder_of, take_part
from fs_plugins.engine.site import Site

CLIENTS = (1, 2, 3)
RUN = "participant"
ENDED_BY = "ended by:"


class Federation:
    """A server and its clients.

    Args:
        lab: makes the YAML file.
        needed: how many sites the run needs to go on; 0 stands for all.
        of_clients: what each client's configuration has of its own.
        sites: the settings of participants that are no simulated ones, by
            ID; 0 is the server's.
        changes: what is changed in the experiment of the job.

    Attributes:
        processes: the processes of the newest job, by ID.

    """

    def __init__(
        self,
        lab: Any,
        needed: int = 0,
        of_clients: Sequence[Mapping[str, Any]] = ({},) * 3,
        sites: Mapping[int, Site] | None = None,
        **changes: Any,
    ) -> None:
        self._asked = dict(flatten(read_yaml(lab.file(**changes))))
        self._needed = needed or len(CLIENTS)
        simulated = Site(lab.folder / "exp", {}, True, tuple(of_clients))
        self._sites = {ID: simulated for ID in (0, *CLIENTS)} | (sites or {})
        self._jobs = 0
        self.processes: dict[int, processes.Process] = {}

    def folder(self, ID: int) -> Path:
        """The folder of a participant's results."""
        return folder_of(self._sites[ID], RUN, _name(ID))

    def start(self) -> None:
        """Start a job; it goes on from what an earlier one has left."""
        self._jobs += 1
        self._out = self.folder(0).with_name(f"job_{self._jobs}")
        ends = {ID: multiprocessing.Pipe() for ID in CLIENTS}
        for ID in (0, *CLIENTS):
            settings = (self._sites[ID], self._asked, self.folder(ID))
            own = (ID, ends[ID][1]) if ID else (
                {each: pair[0] for each, pair in ends.items()},
                self._out,
                self._needed,
            )  # fmt: skip
            part = _be_site if ID else _be_server
            self.processes[ID] = processes.Process(part, settings, *own)
        for pair in ends.values():
            for end in pair:
                end.close()

    def abort(self) -> None:
        """End the job, as ``fedsa`` and FLARE's administrators can."""
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / "abort").touch()

    def kill(self, first: int, *others: int) -> None:
        """End processes by SIGKILL; the first one is alive."""
        for ID in (first, *others):
            self.processes[ID].kill()
        assert self.processes[first].wait() == -signal.SIGKILL

    def end(self) -> Outcome | None:
        """Wait for the job's end; None if the server could not tell how."""
        for process in self.processes.values():
            process.communicate(timeout=120)
        return read_outcome(self._out)

    def said(self, ID: int) -> str:
        """What a participant's part was ended by; empty if by nothing."""
        printed = self.processes[ID].communicate()[0]
        return printed.partition(ENDED_BY)[2].strip()

    def lines(self) -> list[dict[str, Any]]:
        """The evaluations that the server has written."""
        file = self.folder(0) / "metrics.jsonl"
        text = file.read_text() if file.exists() else ""
        whole = text.rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole]

    def evaluated(self) -> list[set[str]]:
        """Who has taken part in each evaluation that the server wrote."""
        return [set(line["clients"]) for line in self.lines()]


def _name(ID: int) -> str:
    return f"site-{ID}" if ID else "server"


def _take_part(settings: tuple[Any, ...], ID: int, link: Any) -> Any:
    """Take part; what ends the part is printed."""
    error = take_part(*settings, ID, link)
    print(ENDED_BY, error or "", flush=True)
    return error


def _be_server(
    settings: tuple[Any, ...],
    sites: Mapping[int, Connection],
    out: Path,
    needed: int,
) -> None:
    """Be the server's process; ``fs_plugins.engine.server`` in FLARE."""
    of_name = {_name(ID): site for ID, site in sites.items()}
    gone: set[str] = set()

    def post(name: str, fields: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            of_name[name].send([fields] if fields else [])

    def listen(name: str) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                link.take(name, *of_name[name].recv())
        gone.add(name)

    is_ended = (out / "abort").exists
    link = ServerLink([*of_name], post, gone.__contains__, is_ended, needed)
    for name in of_name:
        threading.Thread(target=listen, args=(name,), daemon=True).start()
    link.ask_to_join()
    error = _take_part(settings, 0, link)
    write_outcome(out, error, link.has_lost)


def _be_site(settings: tuple[Any, ...], ID: int, server: Connection) -> None:
    """Be a site's process; ``fs_plugins.engine.client`` in FLARE."""
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    is_ended = threading.Event()

    def listen() -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                tasks.put(server.recv())
        is_ended.set()
        tasks.put(None)

    threading.Thread(target=listen, daemon=True).start()
    link = SiteLink()
    working = partial(_take_part, settings, ID, link)
    for number, task in enumerate(iter(tasks.get, None)):
        if not number:
            link.start(working)
        for fields in task:
            link.hand(unpacked(fields, 0))
        sent, error = link.answers(is_ended.is_set)
        with contextlib.suppress(OSError):
            server.send((sent, said_of(error, settings[0].is_simulated)))
