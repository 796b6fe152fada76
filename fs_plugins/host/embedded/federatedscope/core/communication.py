"""Communication: in standalone mode, a queue that all workers share."""

from collections import deque
from typing import Any

from federatedscope.core.message import Message

# For distributed mode; the plugins bring theirs, here and to FederatedScope.
gRPCCommManager: Any = None


class StandaloneCommManager:
    """Puts messages on the queue from which the runner delivers them."""

    def __init__(
        self, comm_queue: deque[Message], monitor: Any = None
    ) -> None:
        self.comm_queue = comm_queue
        self.neighbors: dict[int, Any] = {}
        self.monitor = monitor

    def receive(self) -> None:
        """Nothing to do: in standalone mode the runner delivers."""

    def add_neighbors(self, neighbor_id: int, address: Any = None) -> None:
        """Remember a worker that messages can go to."""
        self.neighbors[neighbor_id] = address

    def get_neighbors(self, neighbor_id: Any = None) -> Any:
        """The address of one worker, of several, or of all."""
        if not neighbor_id:
            return self.neighbors
        if isinstance(neighbor_id, list):
            return {each: self.neighbors[each] for each in neighbor_id}
        return self.neighbors[neighbor_id]

    def send(self, message: Message) -> None:
        """Queue ``message`` and count it as uploaded."""
        if self.monitor is not None:
            self.monitor.track_upload_bytes(message.count_bytes()[1])
        self.comm_queue.append(message)
