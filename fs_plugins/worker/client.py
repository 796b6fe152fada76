"""The client: shares what the policy shares, keeps what it keeps."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from federatedscope.core.message import Message
from federatedscope.core.workers import Client

from fs_plugins.errors import RunError
from fs_plugins.host.configuration import Config
from fs_plugins.state import KeptOnDisk
from fs_plugins.wire import WireError, encode
from fs_plugins.wire.messages import (
    Admission,
    GlobalParameters,
    NoUpdate,
    Update,
    round_of,
    state_of,
)
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
        final: the parameters that came with the end of the run.

    """

    _cfg: Config

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        if self.mode == "distributed":
            self.ID = self._cfg.distribute.data_idx
        self.parameters = parameters_of(self.model, self._cfg)
        self.kept = self.parameters.kept_by(self.ID)
        self.final: GlobalParameters | None = None

    @contextmanager
    def _model_with(self, sent: GlobalParameters, rnd: int) -> Iterator[None]:
        """The model with the server's parameters and this client's own.

        Args:
            sent: what the server has sent.
            rnd: the round that it belongs to.

        Raises:
            RunError: they are not what they should be.

        """
        with self._refusing(rnd):
            shared = self.parameters.received(self.ID, sent.payload, rnd)
        with self.parameters.lent(shared, self.kept.values, client=self.ID):
            yield

    def _sent_in(self, message: Message) -> GlobalParameters:
        with self._refusing(round_of(message.state)):
            return GlobalParameters.from_content(message.content)

    @contextmanager
    def _refusing(self, rnd: int) -> Iterator[None]:
        """Without parameters of the server's, a client cannot go on."""
        try:
            yield
        except WireError as error:
            raise RunError(
                f"round {rnd}: client {self.ID} refuses the server's "
                f"parameters: {error}"
            ) from error

    def train_with(
        self, sent: GlobalParameters, rnd: int
    ) -> Update | NoUpdate:
        """Train for a round and keep what is kept; returns what is shared.

        If the loss is no longer a number, nothing of the round is kept, and
        there is no update.

        Args:
            sent: what the server has sent.
            rnd: the round, counted from 1.

        Raises:
            RunError: the server's parameters are not what they should be.

        """
        self.state = state_of(rnd)
        answer: Update | NoUpdate
        with (
            self._model_with(sent, rnd),
            self.parameters.training(rnd),
            self._optimizer_state(),
        ):
            samples, _, results = self.trainer.train()
            reason = self._divergence(results)
            if reason:
                logger.warning(
                    "round %d: client %d goes back to the round's start: %s",
                    rnd,
                    self.ID,
                    reason,
                )
                answer = NoUpdate(reason)
            else:
                self._keep()
                shared = self.parameters.sent_by(self.ID, rnd)
                answer = Update(samples, encode(shared))
        self._monitor.format_eval_res(
            results, rnd=self.state, role=f"Client #{self.ID}", return_raw=True
        )
        return answer

    def callback_funcs_for_model_para(self, message: Message) -> None:
        """A round: the server learns what this client shares, or why not."""
        answer = self.train_with(
            self._sent_in(message), round_of(message.state)
        )
        self.comm_manager.send(
            Message(
                msg_type="model_para",
                sender=self.ID,
                receiver=[message.sender],
                state=message.state,
                timestamp=message.timestamp,
                content=answer.to_content(),
            )
        )

    def callback_funcs_for_evaluate(self, message: Message) -> None:
        """Evaluate the global parameters together with this client's own."""
        sent = self._sent_in(message)
        with self._model_with(sent, round_of(message.state)):
            super().callback_funcs_for_evaluate(_without_content(message))

    def callback_funcs_for_finish(self, message: Message) -> None:
        """The end: the host has nothing to load, as nothing is its own."""
        self.final = self._sent_in(message)
        super().callback_funcs_for_finish(_without_content(message))

    def callback_funcs_for_assign_id(self, message: Message) -> None:
        """Learn which run it is; go on with what was kept of it.

        Raises:
            RunError: the server says something else.
            UserError: what was kept can't be read.

        """
        try:
            run = Admission.from_content(message.content).run
        except WireError as error:
            raise RunError(str(error)) from error
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
