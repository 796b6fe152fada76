"""The ends of the connection between FederatedScope's workers and FLARE.

FederatedScope's workers send and receive messages by a ``comm_manager``.
NVIDIA FLARE knows tasks: the server gives a site a task, and the site returns
one result.  So a message of the server to a client is a task, and the
messages that the client sends while it handles it are the task's result.

Nothing of FLARE is imported here.
"""

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from federatedscope.core.message import Message

from fs_plugins.errors import Interrupted, RunError, UserError
from fs_plugins.host.protocols import Message as HostMessage

Fields = dict[str, Any]
_FIELDS = ("msg_type", "state", "timestamp", "content")
# What is answered, and by what kind of message.
_ANSWERS = {"model_para": "model_para", "evaluate": "metrics"}
_PAUSE = 0.1  # seconds between two looks at what FLARE says
# What a site says of an error: its own sentence may quote its texts.
REFUSED = "its data or settings cannot be used; its log says why"
FAILED = "it has failed; its log says why"
LEFT = "it has left the run"


def packed(message: HostMessage) -> Fields:
    """The fields of a message that travel.

    The sender is not among them, as FLARE knows who sends what.
    """
    return {name: getattr(message, name) for name in _FIELDS}


def unpacked(fields: object, sender: int) -> Message | None:
    """The message with these fields; None if they are none of a message.

    The worker that receives the message checks the content.

    Args:
        fields: what has arrived.
        sender: the ID of the participant that FLARE says it comes from.

    """
    if not isinstance(fields, dict) or fields.keys() != {*_FIELDS}:
        return None
    return Message(sender=sender, receiver=[], **fields)


def said_of(error: Exception | None, in_full: bool) -> str:
    """What a site tells the server of an error; empty if there is none.

    Args:
        error: the error that has ended the site's part.
        in_full: whether the error's own sentence may leave the site.

    """
    if error is None:
        return ""
    if in_full:
        return str(error)
    if isinstance(error, UserError):
        return REFUSED
    return LEFT if isinstance(error, Interrupted) else FAILED


class SiteLink:
    """The ``comm_manager`` of a client.

    The client works in a thread of its own.  FLARE's thread hands it a
    message, and then waits until the client asks for the next one.
    """

    host, port = "", 0  # where the host's workers believe it listens

    def __init__(self) -> None:
        self.neighbors: dict[int, Any] = {}
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._sent: list[Fields] = []
        self._changed = threading.Condition()
        # Messages that were handed over and are not handled yet.  The first
        # one stands for joining.
        self._unhandled = 1
        self._is_handling = True
        self._is_over = False
        self._error: Exception | None = None

    # What FederatedScope's client calls.

    def add_neighbors(self, neighbor_id: int, address: Any) -> None:
        """Do nothing, as FLARE knows where the server is.

        Args:
            neighbor_id: not used.
            address: not used.

        """

    def send(self, message: HostMessage) -> None:
        """Send the server a message, in the result of the task at hand."""
        with self._changed:
            self._sent.append(packed(message))

    def receive(self, timeout: float | None = None) -> Message | None:
        """The server's next message; None after ``timeout`` seconds.

        Raises:
            Interrupted: the job was ended.

        """
        with self._changed:
            self._unhandled -= self._is_handling
            self._is_handling = False
            self._changed.notify_all()
        try:
            message = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is None:
            raise Interrupted("the job was ended", signal.SIGTERM)
        self._is_handling = True
        return message

    def close(self) -> None:
        """Do nothing: the link ends with the client's thread."""

    # What the executor calls.

    def start(self, work: Callable[[], Exception | None]) -> None:
        """Let the client work, in a thread of its own.

        Args:
            work: takes part in the run, and returns the error that has ended
                the part.

        """

        def working() -> None:
            error: Exception | None = RunError("its part has ended")
            try:
                error = work()
            finally:
                with self._changed:
                    self._is_over, self._error = True, error
                    self._changed.notify_all()

        threading.Thread(target=working, name="fedsa", daemon=True).start()

    def hand(self, message: Message | None) -> None:
        """Hand the client a message; None ends its part in the run."""
        with self._changed:
            self._unhandled += message is not None
        self._inbox.put(message)

    def answers(
        self, is_aborted: Callable[[], bool]
    ) -> tuple[list[Fields], Exception | None]:
        """Wait until the client has handled its messages.

        Args:
            is_aborted: whether the job was ended meanwhile.

        Returns:
            The messages that the client has sent, and the error that has
            ended its part.

        """
        with self._changed:
            while self._unhandled and not self._is_over:
                self._changed.wait(_PAUSE)
                if is_aborted():
                    self._inbox.put(None)
                    break
            sent, self._sent = self._sent, []
            return sent, self._error


class ServerLink:
    """The ``comm_manager`` of the server.

    Args:
        sites: the names of the sites; the client with ID i is at the i-th.
        post: gives the site of this name a task with these fields; ``take``
            gets its result.
        is_gone: whether FLARE says that the site of this name is gone.
        is_aborted: whether the job was ended.
        needed: how many sites the run needs to go on.

    Attributes:
        neighbors: the names of the sites that have joined, by the ID of their
            client.
        problems: why sites take part no longer, by the ID of their client.
        needed: how many sites the run needs to go on.
        has_lost: whether a site is disconnected, which may come back.
        patience: for how many seconds the server waits for its clients at
            the end.

    """

    host, port = "", 0

    def __init__(
        self,
        sites: Sequence[str],
        post: Callable[[str, Fields], None],
        is_gone: Callable[[str], bool],
        is_aborted: Callable[[], bool],
        needed: int,
    ) -> None:
        self.neighbors: dict[int, Any] = {}
        self.problems: dict[int, str] = {}
        self.has_lost = False
        self._sites = dict(enumerate(sites, start=1))
        self._IDs = {name: ID for ID, name in self._sites.items()}
        self._post, self._is_gone = post, is_gone
        self._is_aborted, self.needed = is_aborted, needed
        self.patience = 3600.0
        # The tasks of each site that have no result yet, the oldest first.
        self._asked: dict[int, deque[Fields]] = {
            ID: deque() for ID in self._sites
        }
        self._refused: set[int] = set()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lock = threading.Lock()

    # What FederatedScope's server calls.

    def add_neighbors(self, neighbor_id: int, address: Any) -> None:
        """Note that a client has joined.

        Args:
            neighbor_id: the client's ID.
            address: not used, as FLARE knows where the client is.

        """
        self.neighbors[neighbor_id] = self._sites[neighbor_id]

    def get_neighbors(self, neighbor_id: Any = None) -> Any:
        """The site of one participant, of several, or of all."""
        if not neighbor_id:
            return self.neighbors
        if isinstance(neighbor_id, list):
            return {each: self.neighbors[each] for each in neighbor_id}
        return self.neighbors[neighbor_id]

    @property
    def lost(self) -> set[int]:
        """The IDs of the clients that take part no longer.

        Raises:
            RunError: fewer sites take part than the run needs.  The round at
                hand is not ended without them, so that the next job, in
                which they may be back, trains it as if nothing had been.

        """
        lost = self._note_lost()
        if len(self._sites) - len(lost) < self.needed:
            told = [
                f"{self._sites[ID]}: {why}"
                for ID, why in sorted(self.problems.items())
            ]
            raise RunError("; ".join(told))
        return lost

    def _note_lost(self) -> set[int]:
        for ID, site in self._sites.items():
            if ID not in self.problems and self._is_gone(site):
                self.problems[ID] = "it is disconnected"
                self.has_lost = True
        return {*self.problems}

    def send(self, message: HostMessage) -> None:
        """Send a message to its receivers; if it names none, to everyone."""
        receivers = message.receiver
        if receivers is None:
            receivers = list(self.neighbors)
        elif not isinstance(receivers, list):
            receivers = [receivers]
        self._note_refusal(message, receivers)
        fields = packed(message)
        for ID in receivers:
            self._give(ID, fields)

    def _note_refusal(
        self, message: HostMessage, receivers: Sequence[int]
    ) -> None:
        content = message.content
        if message.msg_type == "assign_client_id" and "refusal" in content:
            for ID in receivers:
                self.problems[ID] = content["refusal"]
                self._refused.add(ID)

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message; None if none arrives within ``timeout`` seconds.

        Raises:
            Interrupted: the job was ended.
            RunError: fewer sites take part than the run needs.

        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._is_aborted():
                raise Interrupted("the job was ended", signal.SIGTERM)
            _ = self.lost
            try:
                return self._inbox.get(timeout=_PAUSE)
            except queue.Empty:
                if end is not None and time.monotonic() >= end:
                    return None

    def close(self) -> None:
        """Wait until the clients have handled what they were sent.

        A site that hangs is not waited for longer than ``patience`` seconds.
        """
        end = time.monotonic() + self.patience
        while not self._is_aborted() and time.monotonic() < end:
            with self._lock:
                known = {*self.neighbors, *self._refused}
                busy = {ID for ID in known if self._asked[ID]}
            if not busy - (self._note_lost() - self._refused):
                return
            time.sleep(_PAUSE)

    # What the controller calls.

    def ask_to_join(self) -> None:
        """Ask all sites to join the run."""
        for ID in self._sites:
            self._give(ID, {})

    def take(self, site: str, messages: object, problem: str) -> None:
        """Take the result of a site's task, in FLARE's thread.

        Args:
            site: the name of the site, as FLARE knows it.
            messages: the messages of the site's client, as they have arrived.
            problem: why the site takes part no longer; empty while it does.

        """
        ID = self._IDs[site]
        with self._lock:
            asked = self._asked[ID].popleft() if self._asked[ID] else {}
        has_answered = False
        for fields in messages if isinstance(messages, list) else []:
            message = unpacked(fields, ID)
            if message is not None:
                self._inbox.put(message)
                has_answered = True
        kind = _ANSWERS.get(asked.get("msg_type", ""))
        if kind and not has_answered:
            # The server refuses it, and waits no longer.
            nothing = {"content": None, "timestamp": 0, "msg_type": kind}
            fields = {**asked, **nothing}
            self._inbox.put(Message(sender=ID, receiver=[], **fields))
        if problem:
            self.problems.setdefault(ID, problem)

    def _give(self, ID: int, fields: Fields) -> None:
        with self._lock:
            asked = {k: v for k, v in fields.items() if k != "content"}
            self._asked[ID].append(asked)
        self._post(self._sites[ID], fields)
