"""FederatedScope's own transport, for those who ask for it by name.

It takes messages from anyone who reaches the port, and unpickles some of what
arrives.  ``fedsa.transport.unsafe: True`` lets a run use it nevertheless.
"""

import base64
import time
from typing import Any

from fs_plugins.host.protocols import Message as HostMessage

_PREFIX = "base64:"  # begins a text that stands for bytes
_PAUSE = 0.01  # seconds between two looks at what has arrived


class HostTransport:
    """The host's ``gRPCCommManager``, as the plugins' workers use one.

    The host's messages hold no bytes, so bytes travel as text.  Nobody
    watches whether participants still answer.

    Args:
        theirs: the host's manager.

    Attributes:
        lost: empty.

    """

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs
        self.lost: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._theirs, name)

    def send(self, message: HostMessage) -> None:
        """Send a message to its receivers; if it names none, to everyone."""
        message.content = _with_texts(message.content)
        self._theirs.send(message)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message; None if none arrives within ``timeout`` seconds.

        The host's own manager would spin while it waits.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self._theirs.server_funcs.msg_queue:
            if end is not None and time.monotonic() > end:
                return None
            time.sleep(_PAUSE)
        message = self._theirs.receive()
        message.content = _with_bytes(message.content)
        return message

    def close(self) -> None:
        """Stop listening."""
        self._theirs.grpc_server.stop(grace=1.0)


def _with_texts(content: Any) -> Any:
    """The content with texts in place of bytes."""
    if isinstance(content, bytes):
        return _PREFIX + base64.b64encode(content).decode()
    if isinstance(content, (list, tuple)):
        return [_with_texts(each) for each in content]
    return content


def _with_bytes(content: Any) -> Any:
    """The content with bytes in place of the texts that stand for them."""
    if isinstance(content, str) and content.startswith(_PREFIX):
        return base64.b64decode(content[len(_PREFIX) :], validate=True)
    if isinstance(content, list):
        return [_with_bytes(each) for each in content]
    return content
