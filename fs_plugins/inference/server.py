"""Runs the server: where it listens, and how it ends."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from fs_plugins.errors import UserError
from fs_plugins.experiment.signals import handling
from fs_plugins.inference.app import App
from fs_plugins.inference.service import Service

_GRACE = 10  # seconds that connections have to end
_LOCAL = ("localhost", "127.0.0.1", "::1")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: the name or the address of this machine.
        port: the port; 0 for one that is free.

    Raises:
        UserError: the port is taken, or there is no such address.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: the server cannot listen there "
            f"({why}); take another port, or 0 for one that is free"
        ) from error


def hosts_of(host: str) -> tuple[str, ...]:
    """The names that requests may have for a host; none for any."""
    return _LOCAL if host in _LOCAL else ()


class _Server(uvicorn.Server):
    """A server that Ctrl-C and SIGTERM end in good order.

    Args:
        config: the configuration.
        service: what is closed then, so that no answer is waited for.

    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals, without raising them again at the end."""
        with handling(self._stop):
            yield

    def _stop(self, number: int, _: Any) -> None:
        self.force_exit = self.should_exit
        self.stop()

    def stop(self) -> None:
        """End; answers that are being written are cut off."""
        self._service.close()
        self.should_exit = True


def server_of(app: App, service: Service) -> _Server:
    """The server of an application; ``run`` runs it on a socket.

    Args:
        app: the application.
        service: the service that the application uses.

    """
    return _Server(
        uvicorn.Config(
            app.asgi,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        ),
        service,
    )
