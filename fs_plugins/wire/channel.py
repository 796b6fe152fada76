"""Requests between processes: gRPC with mutual TLS, a token and sessions.

A request consists of bytes.  Its metadata hold the *token* that all
participants share and the *session* that its two ends have agreed on.  A
request with a wrong token is refused before its bytes are read.
"""

import asyncio
import hashlib
import hmac
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from fs_plugins.errors import UserError

# Otherwise gRPC's core also prints the errors that it raises as exceptions.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
_SERVICE, _SEND, _PING = "fs_plugins", "Send", "Ping"
_LOOPBACK = ("127.", "localhost", "::1", "[::1]")


class RefusedError(ConnectionError):
    """The other side has answered and refuses the request.

    Args:
        reason: why the request is refused.
        is_final: whether the same request would be refused again.

    Attributes:
        is_final: as above.

    """

    def __init__(self, reason: str, is_final: bool = True) -> None:
        super().__init__(reason)
        self.is_final = is_final


class UnreachableError(ConnectionError):
    """The other side has not answered; the message says why."""


@dataclass(frozen=True)
class Security:
    """Who may take part.

    Attributes:
        certificate, key, ca: the participant's certificate, its key, and
            the certificate of the authority, in PEM; all three are empty for
            connections without TLS.
        token: the SHA-256 digest of a secret that all participants know;
            empty if there is no secret.

    """

    certificate: bytes = b""
    key: bytes = b""
    ca: bytes = b""
    token: str = ""

    @classmethod
    def load(
        cls, certificate: str, key: str, ca: str, token_file: str
    ) -> "Security":
        """Read the files that ``fedsa.transport`` names.

        Args:
            certificate: the file of the participant's certificate, or ``""``
                for connections without TLS.
            key: the file of the certificate's key, or ``""``.
            ca: the file of the authority's certificate, or ``""``.
            token_file: the file that holds the shared secret, or ``""``.

        Raises:
            UserError: a file cannot be read, only some of the three files
                for TLS are named, or they do not fit together.

        """
        names = {"certificate": certificate, "key": key, "ca": ca}
        missing = [name for name, file in names.items() if not file]
        if missing and len(missing) < len(names):
            raise UserError(
                f"fedsa.transport.{missing[0]}: is empty; TLS needs "
                "certificate, key and ca"
            )
        pem = {name: _read(name, file) for name, file in names.items()}
        if not missing:
            _check_tls(certificate, key, ca)
        secret = _read("token_file", token_file).strip()
        if token_file and not secret:
            raise UserError(
                f"fedsa.transport.token_file: {token_file} is empty"
            )
        token = hashlib.sha256(secret).hexdigest() if secret else ""
        return cls(**pem, token=token)

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted and both ends authenticated."""
        return bool(self.certificate)

    def accepts(self, token: str) -> bool:
        """Whether ``token`` is the one that all participants share."""
        return hmac.compare_digest(self.token.encode(), token.encode())


def _read(name: str, file: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes() if file else b""
    except OSError as error:
        raise UserError(
            f"fedsa.transport.{name}: {file} cannot be read: {error.strerror}"
        ) from error


def _check_tls(certificate: str, key: str, ca: str) -> None:
    """Refuse files that do not fit together, before gRPC uses them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError):
        raise UserError(
            f"fedsa.transport: the certificate {certificate} and the key "
            f"{key} do not belong together, or are not PEM files"
        ) from None
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError):
        raise UserError(
            f"fedsa.transport.ca: {ca} holds no certificate in PEM"
        ) from None


@dataclass(frozen=True)
class Request:
    """A request that has arrived.

    Attributes:
        data: the bytes of the request.
        session: the session that the sender claims to belong to.

    """

    data: bytes
    session: str


class Listener:
    """A server for requests, in a thread of its own.

    A peer that is slow to send, or that never finishes, does not block the
    others.

    Args:
        host, port: the address to listen on.
        security: who may send requests.
        limit: the most bytes of a request; a larger one is refused unread.
        on_send: called with each request; raises ``RefusedError`` to refuse
            the request.
        knows: answers a ping: whether a session is known here.

    Raises:
        UserError: the port is taken, or the address is not one of this
            machine.

    """

    def __init__(
        self,
        host: str,
        port: int,
        security: Security,
        limit: int,
        on_send: Callable[[Request], None],
        knows: Callable[[str], bool],
    ) -> None:
        self._security = security
        self._on_send = on_send
        self._knows = knows
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, daemon=True
        )
        self._thread.start()
        start = self._start(f"{host}:{port}", limit)
        try:
            asyncio.run_coroutine_threadsafe(start, self._loop).result()
        except RuntimeError:
            self._stop_loop()
            raise UserError(
                f"{host}:{port} cannot be listened on: the port is taken, or "
                "the address is not one of this machine"
            ) from None

    async def _start(self, address: str, limit: int) -> None:
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limit),
            )
        )
        methods = {
            _SEND: grpc.unary_unary_rpc_method_handler(self._send),
            _PING: grpc.unary_unary_rpc_method_handler(self._ping),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, methods),)
        )
        security = self._security
        if security.is_tls:
            self._server.add_secure_port(
                address,
                grpc.ssl_server_credentials(
                    [(security.key, security.certificate)],
                    security.ca,
                    require_client_auth=True,
                ),
            )
        else:
            self._server.add_insecure_port(address)
        await self._server.start()

    async def _session(self, context: "grpc.aio.ServicerContext") -> str:
        """The session of a request; aborts a request with a wrong token."""
        metadata = {k: str(v) for k, v in context.invocation_metadata() or ()}
        if not self._security.accepts(metadata.get("token", "")):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "the token is not the one of this run",
            )
        return metadata.get("session", "")

    async def _send(
        self, data: bytes, context: "grpc.aio.ServicerContext"
    ) -> bytes:
        session = await self._session(context)
        try:
            # The handler may wait for another process: not in this thread.
            await self._loop.run_in_executor(
                None, self._on_send, Request(data, session)
            )
        except RefusedError as error:
            code = grpc.StatusCode.PERMISSION_DENIED
            if not error.is_final:
                code = grpc.StatusCode.RESOURCE_EXHAUSTED
            await context.abort(code, str(error))
        return b""

    async def _ping(
        self, data: bytes, context: "grpc.aio.ServicerContext"
    ) -> bytes:
        if not self._knows(await self._session(context)):
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "the session is unknown"
            )
        return b""

    def close(self) -> None:
        """Stop listening."""
        asyncio.run_coroutine_threadsafe(
            self._server.stop(grace=1), self._loop
        ).result()
        self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Peer:
    """A connection to another participant's ``Listener``.

    Args:
        address: the listener's ``host:port``.
        security: the certificates and the token of this participant.
        session: the session that both participants have agreed on.
        limit: the most bytes of a request.

    """

    def __init__(
        self, address: str, security: Security, session: str, limit: int
    ) -> None:
        self.address = address
        self._metadata = (("token", security.token), ("session", session))
        options = (
            ("grpc.max_send_message_length", limit),
            ("grpc.enable_http_proxy", 0),
            # so that a participant that starts late is soon found
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.use_local_subchannel_pool", 1),
        )
        if security.is_tls:
            self._channel = grpc.secure_channel(
                address,
                grpc.ssl_channel_credentials(
                    security.ca, security.key, security.certificate
                ),
                options,
            )
        else:
            self._channel = grpc.insecure_channel(address, options)

    def send(self, data: bytes, timeout: float) -> None:
        """Deliver a request; return once the other side has accepted it.

        Args:
            data: the bytes of the request.
            timeout: how many seconds to wait for the answer.

        Raises:
            RefusedError: the other side refuses the request.
            UnreachableError: the other side has not answered in time.

        """
        self._call(_SEND, data, timeout)

    def ping(self, timeout: float) -> None:
        """Ask whether the other side is there and knows our session.

        Raises:
            RefusedError: the other side does not know the session.
            UnreachableError: the other side has not answered for ``timeout``
                seconds.

        """
        self._call(_PING, b"", timeout)

    def _call(self, method: str, data: bytes, timeout: float) -> None:
        call = self._channel.unary_unary(f"/{_SERVICE}/{method}")
        try:
            call(data, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._why(error) from None
        except ValueError:
            raise UnreachableError(f"{self.address} was given up") from None

    def _why(self, error: grpc.RpcError) -> ConnectionError:
        """The error that says why gRPC has not delivered a request."""
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return RefusedError(details, is_final="larger than max" in details)
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            tls = ("handshake failed", "Verification", "Socket closed")
            if any(word in details for word in tls):
                return UnreachableError(
                    f"{self.address} closed the connection: both sides need "
                    "TLS, or neither, and certificates of one CA that are "
                    "issued for the names in the addresses"
                )
            return UnreachableError(f"{self.address} is not there")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnreachableError(f"{self.address} does not answer")
        return RefusedError(details)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on ``host``."""
    return host.startswith(_LOOPBACK)
