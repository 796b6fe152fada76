"""Who is admitted to a run, and what the server refuses of whom."""

import logging
import math
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from federatedscope.core.message import Message
from federatedscope.core.workers import Server

from fs_plugins.config.agreement import disagreement
from fs_plugins.errors import (
    Interrupted,
    RunError,
    UserError,
    first_line,
)
from fs_plugins.host.configuration import Config
from fs_plugins.listeners import StopRun
from fs_plugins.wire import WireError, told
from fs_plugins.wire.messages import (
    Admission,
    FromServer,
    Joining,
    round_of,
    state_of,
)
from fs_plugins.worker.joining import settings_of

logger = logging.getLogger("federatedscope.fs_plugins")
# Errors that are not the sender's.
_NOT_OF_THE_SENDER = (
    UserError,
    RunError,
    Interrupted,
    StopRun,
    OSError,
    MemoryError,
)
T = TypeVar("T")
_MOST_LINES = 20  # in the log, about one client in one round


class AdmittingServer(Server):  # type: ignore[misc]
    """A server that trusts nothing that a client sends.

    Attributes:
        rejected_updates: the number of updates that the server has refused.
        rejected_messages: the number of other messages that the server has
            refused, such as results.
        run_name: the name of a distributed run, by which clients find what
            they keep of it.

    """

    _cfg: Config

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rejected_updates = 0
        self.rejected_messages = 0
        self._lines: Counter[object] = Counter()  # by round and client
        self._has_started = False
        self.run_name = secrets.token_hex(8)
        # before anything is added to the base model
        is_alone = self._cfg is None or self.mode == "standalone"
        self._agreed = {} if is_alone else settings_of(self)

    @property
    def round(self) -> int:
        """The round that trains now or next, counted from 1."""
        return round_of(self.state)

    def checked(
        self, message: Message, what: str, read: Callable[[Message], T]
    ) -> T | None:
        """What a client's message brings; None if the message is refused.

        Args:
            message: the message of a client.
            what: what the message brings, such as ``the update``.
            read: reads and checks the message, and does nothing else: any
                error of it counts as one of the sender's.

        """
        try:
            if type(message.sender) is not int:
                raise WireError("it does not say who sends it")
            if type(message.state) is not int:
                raise WireError("it does not say of which round it is")
            return read(message)
        except WireError as error:
            why = str(error)
        except _NOT_OF_THE_SENDER:
            raise
        except Exception as error:
            # The checks have a gap, which must not end the run.
            why = f"{type(error).__name__}: {told(first_line(error))}"
        self.refuse(message.sender, what, why)
        return None

    def refuse(self, client: object, what: str, why: str) -> None:
        """Count and log what is refused.

        Args:
            client: the client's ID, as the message has it.
            what: what is refused; ``the update`` counts as an update.
            why: the reason.

        """
        if what == "the update":
            self.rejected_updates += 1
        else:
            self.rejected_messages += 1
        known = client if client in [*self.comm_manager.neighbors] else None
        self._lines[self.round, known] += 1
        lines = self._lines[self.round, known]
        if lines <= _MOST_LINES:
            logger.warning(
                "round %d: %s of client %s is refused: %s%s",
                self.round,
                what,
                told(client),
                why,
                "; no more is logged of it in this round"
                if lines == _MOST_LINES
                else "",
            )

    def _post(
        self,
        msg_type: str,
        receivers: list[int],
        message: FromServer,
        rnd: int,
    ) -> None:
        """Send a message to clients.

        Args:
            msg_type: FederatedScope's name for the kind of message.
            receivers: the IDs of the clients.
            message: the message.
            rnd: the round that the message belongs to, counted from 1.

        """
        self.comm_manager.send(
            Message(
                msg_type=msg_type,
                sender=self.ID,
                receiver=receivers,
                state=state_of(rnd),
                timestamp=self.cur_timestamp,
                content=message.to_content(),
            )
        )

    def callback_funcs_for_join_in(self, message: Message) -> None:
        """Admit a client that joins; begin with the last one."""
        if message.msg_type == "join_in_info":
            if self.checked(message, "the information", self._info_in):
                super().callback_funcs_for_join_in(message)
            return
        client, refusal = message.sender, ""
        joining = self.checked(message, "the joining", self._joining_in)
        if joining is None:
            return
        if self.mode != "standalone":
            self.comm_manager.add_neighbors(client, message.content)
            refusal = disagreement(self._agreed, joining.settings)
            admission = Admission("" if refusal else self.run_name, refusal)
            self._post("assign_client_id", [client], admission, self.round)
        if refusal:
            self.refuse(client, "the joining", refusal)
            del self.comm_manager.neighbors[client]
        else:
            super().callback_funcs_for_join_in(message)

    def _joining_in(self, message: Message) -> Joining:
        """How a client joins; in this process it tells nothing."""
        client = message.sender
        if not 1 <= client <= self.client_num:
            raise WireError(f"there is no client {told(client)}")
        if client in self.comm_manager.neighbors:
            raise WireError("it has joined already")
        if self._has_started:
            raise WireError("the run has begun")
        is_here = self.mode == "standalone"
        return Joining() if is_here else Joining.from_content(message.content)

    def _info_in(self, message: Message) -> dict[str, float]:
        """What a client tells of itself as it joins, if it was asked."""
        wanted, client = set(self._cfg.federate.join_in_info), message.sender
        is_here = client in self.comm_manager.neighbors
        was_asked = wanted and is_here and client not in self.join_in_info
        if self._has_started or not was_asked:
            raise WireError("it was not asked for")
        info = message.content
        if not isinstance(info, dict) or info.keys() != wanted:
            raise WireError("it is not what was asked for")
        for value in info.values():
            if type(value) not in (int, float) or not 0 <= value < 1e100:
                raise WireError(f"{told(value)} is no number")
        return info

    def _note_time(self, message: Message) -> None:
        """Take over the simulated time at which a client has answered."""
        time = message.timestamp
        if type(time) in (int, float) and math.isfinite(time):
            self.cur_timestamp = time
