"""FederatedScope's own transport, for those who ask for it by name.

It takes messages from anyone who reaches the port, and unpickles some of what
arrives.  ``fedsa.transport.unsafe: True`` lets a run use it nevertheless.
"""

import base64
import contextlib
import time
from typing import Any

from fs_plugins.host.protocols import Message as HostMessage

# A text that stands for bytes, or for a float, begins with one of these.
_BYTES, _FLOAT = "base64:", "float:"
_PAUSE = 0.01  # seconds between two looks at what has arrived


class HostTransport:
    """The host's ``gRPCCommManager``, as the plugins' workers use one.

    The host's messages hold no bytes, and floats in single precision only, so
    both travel as texts.  Nobody watches whether participants still answer.

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
        message.content = _from_texts(message.content)
        return message

    def close(self) -> None:
        """Stop listening."""
        self._theirs.grpc_server.stop(grace=1.0)


def _with_texts(content: Any) -> Any:
    """The content with texts in place of bytes and floats."""
    if isinstance(content, bytes):
        return _BYTES + base64.b64encode(content).decode()
    if isinstance(content, float):
        return _FLOAT + content.hex()
    if isinstance(content, dict):
        return {key: _with_texts(each) for key, each in content.items()}
    if isinstance(content, (list, tuple)):
        return [_with_texts(each) for each in content]
    return content


def _from_texts(content: Any) -> Any:
    """The content with bytes and floats in place of the texts."""
    if isinstance(content, str):
        # What cannot be read is left as it is, and refused by whoever knows
        # what is expected.
        with contextlib.suppress(ValueError, OverflowError):
            if content.startswith(_BYTES):
                return base64.b64decode(content[len(_BYTES) :], validate=True)
            if content.startswith(_FLOAT):
                return float.fromhex(content[len(_FLOAT) :])
    if isinstance(content, dict):
        return {key: _from_texts(each) for key, each in content.items()}
    if isinstance(content, list):
        return [_from_texts(each) for each in content]
    return content
