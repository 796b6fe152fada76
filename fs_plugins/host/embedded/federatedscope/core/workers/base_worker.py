"""What the server and the clients have in common."""

from collections.abc import Callable
from typing import Any

from federatedscope.core.message import Message
from federatedscope.core.monitors import Monitor

Handler = Callable[[Message], Any]


class Worker:
    """A participant.

    Args:
        ID: 0 is the server.
        state: the current round.
        config: the configuration.
        model: the model that it works on.

    """

    def __init__(
        self,
        ID: int = -1,
        state: int = 0,
        config: Any = None,
        model: Any = None,
        strategy: Any = None,
    ) -> None:
        self.ID = ID
        self.state = state
        self.model = model
        self.strategy = strategy
        self._cfg = config
        self.msg_handlers: dict[str, Handler] = {}
        self._register_default_handlers()
        if config is not None:
            self.mode = config.federate.mode.lower()
            self._monitor = Monitor(config, monitored_object=self)

    def register_handlers(
        self, msg_type: str, callback_func: Handler, send_msg: Any = (None,)
    ) -> None:
        """Handle messages of ``msg_type`` with ``callback_func``."""
        self.msg_handlers[msg_type] = callback_func

    def _register_default_handlers(self) -> None:
        """Register what the worker answers to."""

    def _send(
        self,
        msg_type: str,
        receiver: list[int],
        content: Any,
        state: int | None = None,
    ) -> None:
        self.comm_manager.send(  # type: ignore[attr-defined]
            Message(
                msg_type=msg_type,
                sender=self.ID,
                receiver=receiver,
                state=self.state if state is None else state,
                content=content,
            )
        )
