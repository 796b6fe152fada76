"""What workers send each other."""

from typing import Any


class Message:
    """One message.

    Args:
        msg_type: selects the receiver's handler (``model_para``, ...).
        sender: ID of the sender; the server's is 0.
        receiver: an ID, or a list of IDs.
        state: the round that it belongs to.
        content: whatever the handler expects.
        timestamp: virtual time; the embedded host has no use for it.

    """

    def __init__(
        self,
        msg_type: str | None = None,
        sender: int = 0,
        receiver: int | list[int] = 0,
        state: int = 0,
        content: Any = "None",
        timestamp: float = 0,
        strategy: Any = None,
        serial_num: int = 0,
    ) -> None:
        self.msg_type = msg_type
        self.sender = sender
        self.receiver = receiver
        self.state = state
        self.content = content
        self.timestamp = timestamp
        self.strategy = strategy
        self.serial_num = serial_num

    def __lt__(self, other: "Message") -> bool:
        mine = (self.timestamp, self.state, self.serial_num)
        return mine < (other.timestamp, other.state, other.serial_num)

    def count_bytes(self) -> tuple[int, int]:
        """(bytes to download, bytes to upload): the payload's true size."""
        size = _size(self.content)
        receivers = (
            self.receiver
            if isinstance(self.receiver, list)
            else [self.receiver]
        )
        return size, size * len(receivers)


def _size(content: Any) -> int:
    if isinstance(content, (bytes, bytearray, str)):
        return len(content)
    if isinstance(content, dict):
        return sum(_size(value) for value in content.values())
    if isinstance(content, (list, tuple)):
        return sum(_size(value) for value in content)
    if hasattr(content, "element_size"):
        return int(content.element_size() * content.numel())
    return 0 if content is None else 8
