"""Who is told what happens in a run: recording, progress, a user's plugin."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fs_plugins.experiment.events import LiveRun
    from fs_plugins.host.protocols import Message

Results = Mapping[str, float]  # <split>_<metric>: value


class Listener:
    """Is told what happens in a run; any of its methods may be overridden.

    Rounds count from 1.  An exception that a listener raises ends the run.
    """

    def run_begins(self, run: "LiveRun") -> None:
        """Nothing has been sent yet.

        Args:
            run: the run, which outlives the call.

        """

    def clients_joined(self) -> None:
        """All participants are there; the first message is about to go."""

    def round_begins(self, rnd: int, clients: int) -> None:
        """Clients are asked to train.

        Args:
            rnd: the round.
            clients: how many; a second call in a round adds to the first.

        """

    def message_passes(self, message: "Message", receivers: int) -> None:
        """A message with parameters passes between server and clients.

        Args:
            message: of FederatedScope, whose ``state`` is the round less 1.
            receivers: how many it goes to.

        """

    def client_trained(self, client: int) -> None:
        """A client has sent its update."""

    def evaluation_begins(self, clients: int) -> None:
        """So many (more) clients are asked to evaluate."""

    def client_evaluated(self, client: int) -> None:
        """A client has sent its results."""

    def evaluated(self, rnd: int, clients: Mapping[int, Results]) -> None:
        """All results after a round are there.

        Args:
            rnd: the round that has just ended.
            clients: each client's results; those of 0 are the server's, if
                it evaluates in their place.

        """

    def recorded(self, line: Mapping[str, Any]) -> None:
        """A line of ``metrics.jsonl`` is written: results, and bytes so far.

        Args:
            line: ``round``, ``weighted``, ``mean``, ``clients``,
                ``uplink_bytes`` and ``downlink_bytes``.

        """

    def took(self, what: str, seconds: float) -> None:
        """A piece of work is done.

        Args:
            what: ``train`` or ``eval``, at a client, or ``aggregate``.
            seconds: how long it took.

        """

    def round_ends(self, rnd: int) -> None:
        """Nothing is under way: the run could stop here and go on later.

        It is told in standalone runs, after every round but the last.

        Args:
            rnd: the round.

        """

    def run_ends(self) -> None:
        """The run is over, whether it has come to its end or not."""


LISTENERS: list[type[Listener]] = []


def register_listener(listener: type[Listener]) -> None:
    """Have the runs that name this plugin file told to a listener.

    Args:
        listener: its class, defined in a file that ``fedsa.plugins`` names;
            each run makes one, without arguments.

    """
    LISTENERS.append(listener)


def listeners_of(plugins: Sequence[str]) -> list[Listener]:
    """New listeners of the classes that these files have registered.

    Args:
        plugins: ``fedsa.plugins``.

    """
    files = {str(Path(each).absolute()) for each in plugins}
    return [
        listener()
        for listener in LISTENERS
        if getattr(sys.modules[listener.__module__], "__file__", "") in files
    ]
