"""FederatedScope's distributed mode, over a transport that can be trusted.

It takes the place of the host's ``gRPCCommManager``, which unpickles what
arrives and takes it from anyone.
"""

import logging
import queue
import secrets
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from federatedscope.core.message import Message

from fs_plugins.errors import (
    RunError,
    UnknownParticipantError,
    UserError,
)
from fs_plugins.host.configuration import Distribute, Transport
from fs_plugins.host.protocols import Message as HostMessage
from fs_plugins.wire import WireError
from fs_plugins.wire.channel import (
    Listener,
    Peer,
    RefusedError,
    Request,
    Security,
    UnreachableError,
    is_loopback,
)
from fs_plugins.wire.envelope import pack, unpack
from fs_plugins.wire.messages import Joining

logger = logging.getLogger("federatedscope.fs_plugins")
# How many messages of one sender may wait; in a round a client sends two.
_WAITING = 16
# So ends a refusal by a server that does not know the session.
_UNKNOWN = ("has not joined", "session is unknown")


class CommManager:
    """Sends and receives the messages of one server or client.

    Each client draws a random session key when it starts and tells it to the
    server when it joins.  Both put the key on all messages that they send
    each other, so that no participant can speak for another.

    Args:
        host: the host to listen on.
        port: the port to listen on.
        client_num: how many clients there are.
        cfg: the section ``distribute``.
        options: the section ``fedsa.transport``.

    Attributes:
        neighbors: the addresses of the participants, ``host:port``, by ID.
        lost: the IDs of participants that have not answered for
            ``fedsa.transport.lost_after`` seconds.

    Raises:
        UserError: the port is taken, or a file of the options cannot be
            used.

    """

    def __init__(
        self,
        host: str,
        port: int,
        client_num: int,
        cfg: Distribute,
        options: Transport,
    ) -> None:
        self.host, self.port = host, port
        self.monitor: Any = None
        self.neighbors: dict[int, str] = {}
        self.lost: set[int] = set()
        self._client_num = client_num
        self._is_server = cfg.role == "server"
        self._wait = float(options.wait)
        self._lost_after = float(options.lost_after)
        self._limit = (
            cfg.grpc_max_send_message_length,
            cfg.grpc_max_receive_message_length,
        )
        self._security = Security.load(
            options.certificate, options.key, options.ca, options.token_file
        )
        self._own_session = secrets.token_hex(16)
        self._joining = ""  # the session of the message received last
        self._sessions: dict[int, str] = {}
        self._claims: dict[int, tuple[str, str]] = {}
        self._peers: dict[int, Peer] = {}
        self._outboxes: dict[int, ThreadPoolExecutor] = {}
        self._last_seen: dict[int, float] = {}
        self._serial = 0
        self._newest: dict[str, int] = {}  # session -> serial
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._has_joined = self._is_unknown = False  # as the server has said
        self._closed = threading.Event()
        self._listener = Listener(
            host,
            port,
            self._security,
            self._limit[1],
            self._take,
            lambda session: session in self._sessions.values(),
        )
        if not self._security.is_tls and not is_loopback(host):
            print(
                f"fedsa: warning: {host}:{port} is open to other machines "
                "without TLS; set fedsa.transport.certificate, key and ca",
                file=sys.stderr,
            )
        threading.Thread(target=self._watch, daemon=True).start()

    # What FederatedScope's workers call.

    def add_neighbors(self, neighbor_id: int, address: Any) -> None:
        """Remember where a participant listens.

        Args:
            neighbor_id: the participant's ID.
            address: ``{'host': ..., 'port': ...}`` or ``host:port``.

        """
        if not isinstance(address, str):
            address = Joining.from_content(address).address
        session = self._joining if self._is_server else self._own_session
        if self._sessions.get(neighbor_id) == session:
            return
        if neighbor_id in self._peers:
            self._outboxes.pop(neighbor_id).shutdown(
                wait=False, cancel_futures=True
            )
            self._peers.pop(neighbor_id).close()
        self.neighbors[neighbor_id] = address
        self._peers[neighbor_id] = Peer(
            address, self._security, session, self._limit[0]
        )
        self._outboxes[neighbor_id] = ThreadPoolExecutor(1)
        self._sessions[neighbor_id] = session
        with self._lock:
            self._claims[neighbor_id] = (session, address)
        self._seen(neighbor_id)

    def get_neighbors(self, neighbor_id: Any = None) -> Any:
        """The address of one participant, of several, or of all."""
        if not neighbor_id:
            return self.neighbors
        if isinstance(neighbor_id, list):
            return {each: self.neighbors[each] for each in neighbor_id}
        return self.neighbors[neighbor_id]

    def send(self, message: HostMessage) -> None:
        """Send a message to its receivers; if it names none, to everyone.

        The message is sent in the background.  Each receiver gets its
        messages in order, and one that is slow or gone delays no other.
        """
        receivers = message.receiver
        if receivers is None:
            receivers = list(self.neighbors)
        elif not isinstance(receivers, list):
            receivers = [receivers]
        self._serial += 1
        data = pack(
            {
                "msg_type": message.msg_type,
                "serial": self._serial,
                "sender": message.sender,
                "state": message.state,
                "timestamp": message.timestamp,
                "content": message.content,
            }
        )
        for ID in receivers:
            if ID in self._peers:
                self._outboxes[ID].submit(
                    self._deliver, ID, self._peers[ID], data
                )

    def receive(self, timeout: float | None = None) -> Any:
        """The next message; None if none arrives within ``timeout`` seconds.

        Raises:
            UserError: the server refuses this client.
            UnknownParticipantError: the server does not know this client.
            RunError: the server is gone.

        """
        try:
            item = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, UnknownParticipantError):
            # A new session, in which the new server counts from the start.
            self._own_session = secrets.token_hex(16)
            self.add_neighbors(0, self.neighbors[0])
        if isinstance(item, Exception):
            raise item
        fields, session = item
        with self._lock:
            self._waiting[fields["sender"]] -= 1
        self._joining = session
        return Message(
            msg_type=fields["msg_type"],
            sender=fields["sender"],
            receiver=[],
            state=fields["state"],
            content=fields["content"],
            timestamp=fields["timestamp"],
        )

    def close(self) -> None:
        """Deliver the messages that still wait, and stop listening."""
        if self._closed.is_set():
            return
        for outbox in self._outboxes.values():
            outbox.shutdown(wait=True)
        self._closed.set()
        self._listener.close()
        for peer in self._peers.values():
            peer.close()

    # Requests arrive in threads of the listener.

    def _take(self, request: Request) -> None:
        try:
            fields = unpack(request.data)
        except WireError as error:
            logger.warning("a message is refused: %s", error)
            raise RefusedError(str(error)) from None
        sender, session = fields["sender"], request.session
        if fields["msg_type"] == "join_in":
            self._admit(sender, session, fields["content"])
        elif not session or self._sessions.get(sender) != session:
            raise RefusedError(f"participant {sender} has not joined")
        else:
            self._seen(sender)
            self._has_joined, self._is_unknown = not self._is_server, False
        with self._lock:
            if fields["serial"] <= self._newest.get(session, 0):
                return  # a repetition, sent because our answer was lost
            if self._waiting[sender] >= _WAITING:
                raise RefusedError("too many messages wait", is_final=False)
            self._newest[session] = fields["serial"]
            self._waiting[sender] += 1
        self._inbox.put((fields, session))

    def _admit(self, client: int, session: str, content: object) -> None:
        """Refuse a client that does not exist, or has joined already."""
        if not self._is_server:
            raise RefusedError("this is not the server")
        try:
            where = Joining.from_content(content).address
        except WireError as error:
            raise RefusedError(str(error)) from None
        if not session:
            raise RefusedError("it does not say in which session")
        if client == -1:  # a worker of the host's, whose ID the server gives
            if len(self._claims) >= self._client_num:
                raise RefusedError(
                    f"all {self._client_num} clients have joined"
                )
            return
        if not 1 <= client <= self._client_num:
            raise RefusedError(
                f"there is no client {client}; federate.client_num is "
                f"{self._client_num}"
            )
        with self._lock:
            claim = self._claims.get(client)
        if claim is not None and claim[0] != session:
            other = Peer(claim[1], self._security, claim[0], self._limit[0])
            try:
                other.ping(self._lost_after)
            except (RefusedError, UnreachableError):
                pass  # that process is gone, and the new one replaces it
            else:
                raise RefusedError(f"client {client} has joined already")
            finally:
                other.close()
        with self._lock:
            if self._claims.get(client) != claim:
                raise RefusedError(f"client {client} has joined already")
            self._claims[client] = (session, where)

    # Messages are delivered in the thread of the receiver's outbox.

    def _deliver(self, ID: int, peer: Peer, data: bytes) -> None:
        patience = self._lost_after if self._is_server else self._wait
        end, pause = time.monotonic() + patience, 0.1
        while self._peers.get(ID) is peer and not self._closed.is_set():
            try:
                peer.send(data, timeout=max(60.0, patience))
            except RefusedError as error:
                if error.is_final:
                    self._fail(ID, peer, UserError, str(error))
                    return
                reason = str(error)
            except UnreachableError as error:
                reason = str(error)
            else:
                self._seen(ID)
                return
            if time.monotonic() > end:
                self._fail(ID, peer, RunError, reason)
                return
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _fail(
        self, ID: int, peer: Peer, kind: type[Exception], reason: str
    ) -> None:
        """Give up on a message that cannot be delivered.

        A server goes on without the client; a client cannot go on without
        the server, and ``receive`` raises the exception.

        Args:
            ID: the receiver's ID.
            peer: the connection to the receiver.
            kind: the class of the exception.
            reason: why the message cannot be delivered.

        """
        if self._peers.get(ID) is not peer:
            return  # the receiver has joined again since
        if self._is_server:
            logger.warning("client %d does not get a message: %s", ID, reason)
            self.lost.add(ID)
        elif self._has_joined and reason.endswith(_UNKNOWN):
            self._tell_unknown()
        elif kind is UserError:
            self._inbox.put(kind(f"the server {peer.address}: {reason}"))
        else:
            self._inbox.put(
                kind(f"no server for {self._wait:g} seconds: {reason}")
            )

    def _tell_unknown(self) -> None:
        """Let ``receive`` say, once, that the server does not know us."""
        with self._lock:
            was_told, self._is_unknown = self._is_unknown, True
        if not was_told:
            reason = "the server was started again; start this client again"
            self._inbox.put(UnknownParticipantError(reason))

    # A thread of its own watches which participants still answer.

    def _seen(self, ID: int) -> None:
        self._last_seen[ID] = time.monotonic()
        self.lost.discard(ID)

    def _watch(self) -> None:
        period = self._lost_after / 5
        with ThreadPoolExecutor(8) as pool:
            while not self._closed.wait(period):
                peers = dict(self._peers)
                list(
                    pool.map(
                        partial(self._ping, period), peers, peers.values()
                    )
                )

    def _ping(self, timeout: float, ID: int, peer: Peer) -> None:
        try:
            peer.ping(timeout)
        except (RefusedError, UnreachableError) as error:
            self._missed(ID, peer, str(error))
        else:
            if self._peers.get(ID) is peer:
                self._seen(ID)

    def _missed(self, ID: int, peer: Peer, reason: str) -> None:
        if self._peers.get(ID) is not peer or ID in self.lost:
            return
        if self._has_joined and reason.endswith(_UNKNOWN):
            self._tell_unknown()
            return
        gone = time.monotonic() - self._last_seen[ID]
        if self._is_server and gone > self._lost_after:
            logger.warning("client %d is gone: %s", ID, reason)
            self.lost.add(ID)
        elif not self._is_server and gone > self._wait:
            self.lost.add(ID)
            self._inbox.put(
                RunError(f"no server for {self._wait:g} seconds: {reason}")
            )
