"""The client: shares what the policy shares, keeps what it keeps."""

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from federatedscope.core.message import Message
from federatedscope.core.workers import Client

from fs_plugins.errors import RunError
from fs_plugins.state import KeptOnDisk
from fs_plugins.wire import encode
from fs_plugins.worker.parameters import parameters_of

logger = logging.getLogger("federatedscope.fs_plugins")


class FedSAClient(Client):  # type: ignore[misc]
    """A client of FedSA, or of any other policy.

    In a round it takes the global A from the server and its own B and head
    from where it left them, trains them together, puts B and head away and
    sends A.  (Guo et al., arXiv 2410.01463, section 4)

    In distributed mode it also writes B and head to a file after each round,
    and finds them there if it is started again during the same run.

    Attributes:
        kept: its B and head, or what else the policy keeps.
        final: the message that came with the end of the run.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        if self.mode == "distributed":
            self.ID = self._cfg.distribute.data_idx
        self.parameters = parameters_of(self.model, self._cfg)
        self.kept = self.parameters.kept_by(self.ID)
        self.final: Message | None = None

    @contextmanager
    def _model_with(self, message: Message) -> Iterator[None]:
        """The model with the server's parameters and this client's own."""
        rnd = message.state + 1
        shared = self.parameters.received(self.ID, message.content, rnd)
        with self.parameters.lent(shared, self.kept.values, client=self.ID):
            yield

    def callback_funcs_for_model_para(self, message: Message) -> None:
        """A round: train, keep what is kept, send what is shared.

        If the loss is no longer a number, nothing of the round is kept or
        sent: the server learns that there is no update, and why.
        """
        self.state = message.state
        payload: bytes | str
        rnd = self.state + 1
        with (
            self._model_with(message),
            self.parameters.training(rnd),
            self._optimizer_state(),
        ):
            samples, _, results = self.trainer.train()
            reason = self._divergence(results)
            if reason:
                logger.warning(
                    "round %d: client %d goes back to the round's start: %s",
                    self.state,
                    self.ID,
                    reason,
                )
                samples, payload = 0, reason
            else:
                self._keep()
                payload = encode(self.parameters.sent_by(self.ID, rnd))
        self._monitor.format_eval_res(
            results, rnd=self.state, role=f"Client #{self.ID}", return_raw=True
        )
        self.comm_manager.send(
            Message(
                msg_type="model_para",
                sender=self.ID,
                receiver=[message.sender],
                state=self.state,
                timestamp=message.timestamp,
                content=(samples, payload),
            )
        )

    def callback_funcs_for_evaluate(self, message: Message) -> None:
        """Evaluate the global parameters together with this client's own."""
        with self._model_with(message):
            message = _without_content(message)
            super().callback_funcs_for_evaluate(message)

    def callback_funcs_for_finish(self, message: Message) -> None:
        """The end: the host has nothing to load, as nothing is its own."""
        self.final = message
        super().callback_funcs_for_finish(_without_content(message))

    def callback_funcs_for_assign_id(self, message: Message) -> None:
        """Learn which run it is; go on with what was kept of it.

        Raises:
            UserError: what was kept can't be read.

        """
        run = message.content["run"]
        if not re.fullmatch("[0-9a-f]{16}", run):  # it becomes a folder
            raise RunError(f"the server's run {run!r} has no valid name")
        kept = self.parameters.kept_by(self.ID, run)
        if isinstance(kept, KeptOnDisk):
            kept.find()
        self.kept = kept

    def run(self) -> None:
        """Take part in a distributed run, to its end.

        Raises:
            RunError: the server is gone.
            UserError: the server refuses this client.

        """
        try:
            super().run()
        finally:
            self.comm_manager.close()

    def _divergence(self, results: Any) -> str:
        """Why a round's training is worth nothing; empty if it is."""
        losses = [v for k, v in results.items() if k.endswith("loss")]
        if not all(map(math.isfinite, losses)):
            return "its loss is not finite"
        if not self.parameters.are_finite():
            return "its parameters are not finite"
        return ""

    @contextmanager
    def _optimizer_state(self) -> Iterator[None]:
        """With ``fedsa.state.optimizer``, lend the trainer its own."""
        if not self._cfg.fedsa.state.optimizer:
            yield
            return
        self.trainer.optimizer_state = self.kept.optimizer
        try:
            yield
        finally:
            self.trainer.optimizer_state = None

    def _keep(self) -> None:
        state = {}
        if self._cfg.fedsa.state.optimizer:
            state = self.trainer.optimizer_state
        self.kept.save({**self.parameters.trained_by(self.ID), **state})


def _without_content(message: Message) -> Message:
    """The message, for a handler of the host that would load its content."""
    return Message(
        msg_type=message.msg_type,
        sender=message.sender,
        receiver=message.receiver,
        state=message.state,
        content=None,
        timestamp=message.timestamp,
    )
