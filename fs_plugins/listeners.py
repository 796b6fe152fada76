"""Listeners: objects that are told what happens in a run."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fs_plugins.errors import UserError, did_you_mean, shown
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Message, Server, Worker

Results = Mapping[str, float]  # <split>_<metric>: value


class StopRun(Exception):  # noqa: N818  no error has happened
    """Raised by a listener to end the run after the current round.

    The run ends as after its last round: adapters and summary are written.
    It has an effect where ``round_ends`` is told.

    Args:
        reason: is noted in the summary as ``stopped_early``.

    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class RunInProgress(Protocol):
    """A run as its listeners see it.

    Attributes:
        cfg: the run's configuration.
        server: the run's server.
        worker: the participant whose process this is: the server, or one
            client of a distributed run, whose listeners see no server.
        times_clients: whether the clients work in this process.
        stopped: why a listener has stopped the run; ``""`` if none has.

    """

    cfg: Config
    server: Server
    worker: Worker
    times_clients: bool
    stopped: str

    def tell(self, event: str, *facts: Any) -> None:
        """Tell every listener of an event.

        Args:
            event: the name of the listener's method for the event.
            facts: the arguments of the method.

        """


class Listener:
    """The base class of objects that are told what happens in a run.

    A subclass overrides the methods for those events that it needs.  Rounds
    are counted from 1.  ``StopRun`` ends the run in good order; any other
    exception that a listener raises is an error that ends it.
    """

    def run_begins(self, run: RunInProgress) -> None:
        """The run begins; no message has been sent yet.

        Args:
            run: the run; the listener may keep the object.

        """

    def clients_joined(self) -> None:
        """All clients have joined; the first message is about to be sent."""

    def round_begins(self, rnd: int, clients: int) -> None:
        """Clients are asked to train for a round.

        Args:
            rnd: the round.
            clients: how many clients are asked; if the round is repeated,
                a second call adds to the first.

        """

    def message_passes(self, message: Message, receivers: int) -> None:
        """A message with parameters passes between the server and clients.

        Messages that the server refuses for their form, their round or their
        sender are not told of.

        Args:
            message: a message of FederatedScope, whose ``state`` is the
                round minus 1.
            receivers: how many participants the message is sent to.

        """

    def trained(self, rnd: int, client: int, results: Results) -> None:
        """A client that works in this process has trained for a round.

        Args:
            rnd: the round.
            client: the client's ID.
            results: the results on its training examples, such as
                ``train_avg_loss``.

        """

    def client_trained(self, client: int) -> None:
        """A client has sent its update to the server."""

    def evaluation_begins(self, clients: int) -> None:
        """Clients are asked to evaluate; ``clients`` is how many more."""

    def client_evaluated(self, client: int) -> None:
        """A client has sent its evaluation results to the server."""

    def evaluated(self, rnd: int, clients: Mapping[int, Results]) -> None:
        """All evaluation results after a round are there.

        Args:
            rnd: the round that has just ended.
            clients: the results of each client, by the client's ID; if the
                server evaluates in place of the clients, its results are
                those of ID 0.

        """

    def recorded(self, line: Mapping[str, Any]) -> None:
        """A line of ``metrics.jsonl`` has been written.

        Args:
            line: the line, with the keys ``round``, ``weighted``, ``mean``,
                ``clients``, ``uplink_bytes`` and ``downlink_bytes``.

        """

    def took(self, what: str, seconds: float) -> None:
        """A piece of work is done.

        Args:
            what: the kind of work: ``train`` or ``eval`` at a client, or
                ``aggregate`` at the server.
            seconds: how long the work has taken.

        """

    def round_ends(self, rnd: int) -> None:
        """A round has ended, and no message is under way.

        The run could stop here and continue later.  The event occurs after
        every round but the last.

        Args:
            rnd: the round that has ended.

        """

    def clients_leave(self) -> None:
        """The last round is over, and the clients are about to be told.

        The event occurs in distributed runs.
        """

    def run_ends(self) -> None:
        """The run is over, whether it has finished or was stopped."""


LISTENERS: list[tuple[type[Listener], str]] = []  # with the plugin's file
_importing: list[str] = []  # the plugin that is being imported


@contextmanager
def importing(plugin: Path) -> Iterator[None]:
    """Import a plugin, whose listeners are its own.

    Args:
        plugin: the plugin's file.

    """
    _importing.append(str(plugin))
    try:
        yield
    finally:
        _importing.pop()


def register_listener(listener: type[Listener]) -> None:
    """Register a listener for the runs that use a plugin file.

    Args:
        listener: the class; each run that names the file which calls this
            function creates one object of the class, without arguments.

    Raises:
        UserError: it is no subclass of ``Listener``, or one of its methods
            has nearly the name of an event.

    """
    if not (isinstance(listener, type) and issubclass(listener, Listener)):
        raise UserError(
            f"register_listener: {shown(listener)} is no subclass of Listener"
        )
    check_hooks(listener)
    module = sys.modules.get(listener.__module__)
    file = str(getattr(module, "__file__", ""))
    LISTENERS.append((listener, _importing[-1] if _importing else file))


def check_hooks(listener: type[Listener]) -> None:
    """Refuse a listener with a misspelt method, which nobody would call.

    Args:
        listener: the class.

    Raises:
        UserError: a public method has nearly the name of an event.

    """
    events = [name for name in vars(Listener) if not name.startswith("_")]
    for name in dir(listener):
        if name.startswith("_") or name in events:
            continue
        meant = did_you_mean(name, events, 0.8)
        if meant and callable(getattr(listener, name, None)):
            raise UserError(
                f"{listener.__name__}.{name}: there is no such event{meant}; "
                "a method that is no event's needs another name"
            )


def listeners_of(plugins: Sequence[str]) -> list[Listener]:
    """New listeners of the classes that plugin files have registered.

    Args:
        plugins: the files, as ``fedsa.plugins`` names them.

    """
    files = {str(Path(plugin).absolute()) for plugin in plugins}
    return [listener() for listener, file in LISTENERS if file in files]
