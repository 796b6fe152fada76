"""The client: trains, shares some parameters and keeps the others."""

import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from federatedscope.core.message import Message
from federatedscope.core.workers import Client

from fs_plugins.errors import RunError, UserError
from fs_plugins.host.configuration import Config
from fs_plugins.state import StateOfProcess, remember_run
from fs_plugins.wire import Tensors, WireError, encode
from fs_plugins.wire.messages import (
    DIVERGED,
    Admission,
    GlobalParameters,
    Joining,
    NoUpdate,
    Update,
    round_of,
    split_of,
    state_of,
)
from fs_plugins.worker.joining import settings_of
from fs_plugins.worker.parameters import parameters_of

logger = logging.getLogger("federatedscope.fs_plugins")


class FedSAClient(Client):  # type: ignore[misc]
    """A client of FedSA-LoRA, or of a method with any other policy.

    In a round of FedSA-LoRA, the client combines the server's global A with
    its own B and head, trains them together, keeps B and the head for the
    next round, and sends A.  (Guo et al., arXiv 2410.01463, section 4)

    In distributed mode, the client also writes B and the head to a file after
    each round, and reads the file if it is started again in the same run.

    Attributes:
        parameters: the model's parameters, by what the policy does to them.
        kept: the state of B and the head, or of whatever the policy keeps.
        final: the global parameters that the server has sent at the end of
            the run; None before.
        is_leaving: whether the client leaves the run once it has answered
            the message that it is working on.

    """

    _cfg: Config

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        if self.mode == "distributed":
            # The ID is the number of the client's data, not one that the
            # server would assign.
            self.ID = self._cfg.distribute.data_idx
        self.parameters = parameters_of(self.model, self._cfg)
        self.kept = self.parameters.kept_by(self.ID)
        self.final: GlobalParameters | None = None
        self.is_leaving = False
        self._run = ""  # the server's name for the run, once it has told it
        self._written = (
            b""  # a digest of the parameters that were written last
        )

    @contextmanager
    def _model_with(self, sent: GlobalParameters, rnd: int) -> Iterator[None]:
        """Load the server's parameters and those that this client keeps.

        Args:
            sent: the parameters that the server has sent.
            rnd: the round that they belong to.

        Raises:
            RunError: the server's parameters are not what is expected.

        """
        with self._refusing(rnd):
            shared = self.parameters.received(self.ID, sent.payload, rnd)
        self._write(sent, shared)
        with self.parameters.loaded(shared, self.kept.values, client=self.ID):
            yield

    def _write(self, sent: GlobalParameters, shared: Tensors) -> None:
        """Write the server's parameters, so that an export finds them.

        Without them, a client that is away when the run ends would have no
        adapter.

        Args:
            sent: the parameters as they have arrived.
            shared: the same parameters, decoded.

        """
        if not isinstance(self.kept, StateOfProcess):
            return
        digest = hashlib.sha256(sent.payload).digest()
        if digest != self._written:
            delta = self.parameters.delta
            changes = delta.since(0) if delta.rounds else {}
            self.kept.receive({**shared, **changes})
            self._written = digest

    def _sent_in(self, message: Message) -> GlobalParameters:
        """The parameters that the server has sent in a message."""
        with self._refusing(round_of(message.state)):
            return GlobalParameters.from_content(message.content)

    @contextmanager
    def _refusing(self, rnd: int) -> Iterator[None]:
        """End the run if the server's parameters are not what is expected."""
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
        """Train for a round; save what the client keeps.

        If the loss or a parameter is no longer finite, nothing of the round
        is kept, and there is no update.

        Args:
            sent: the parameters that the server has sent.
            rnd: the round, counted from 1.

        Returns:
            The update with the parameters to share, or why there is none.

        Raises:
            RunError: the server's parameters are not what is expected.

        """
        self.state = state_of(rnd)
        if isinstance(self.kept, StateOfProcess):
            self.kept.begin(rnd)
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

    def join_in(self) -> None:
        """Join the run; a process of its own says how it is configured."""
        if self.mode == "distributed":
            joining = Joining(settings_of(self)).to_content()
            self.local_address = {**(self.local_address or {}), **joining}
        super().join_in()

    def callback_funcs_for_model_para(self, message: Message) -> None:
        """Train for a round, and send the server the answer."""
        answer = self.train_with(
            self._sent_in(message), round_of(message.state)
        )
        self._answer(message, "model_para", answer.to_content())

    def _answer(self, message: Message, kind: str, content: object) -> None:
        """Answer a message of the server, for the same round."""
        self.comm_manager.send(
            Message(
                msg_type=kind,
                sender=self.ID,
                receiver=[message.sender],
                state=message.state,
                timestamp=message.timestamp,
                content=content,
            )
        )

    def callback_funcs_for_evaluate(self, message: Message) -> None:
        """Evaluate the global parameters with those that this client keeps."""
        sent = self._sent_in(message)
        with self._model_with(sent, round_of(message.state)):
            if self._has_examples_to_choose_by():
                super().callback_funcs_for_evaluate(_without_content(message))
            else:
                self._evaluate(message)

    def _has_examples_to_choose_by(self) -> bool:
        """Whether the client has results by which its best round is chosen.

        The host's handler fails without them.
        """
        split = split_of(self._cfg.eval.best_res_update_round_wise_key)
        return bool(len(getattr(self.data, f"{split}_data", None) or ()))

    def _evaluate(self, message: Message) -> None:
        """Send the results of those splits of which there are examples."""
        self.state = message.state
        if self._cfg.finetune.before_eval:
            self.trainer.finetune()
        results: dict[str, float] = {}
        for split in self._cfg.eval.split:
            results |= self.trainer.evaluate(target_data_split_name=split)
        self._answer(message, "metrics", results)

    def callback_funcs_for_finish(self, message: Message) -> None:
        """Note the final parameters, and end the client's run.

        The host's handler would load the content of the message into the
        model; it gets the message without content.
        """
        self.final = self._sent_in(message)
        super().callback_funcs_for_finish(_without_content(message))

    def callback_funcs_for_assign_id(self, message: Message) -> None:
        """Learn which run this is, and read what was kept in it before.

        Raises:
            RunError: the message does not name the run, or names another
                run than before.
            UserError: the server refuses this client, the file of this
                client cannot be used, or another process of this client is
                at work.

        """
        try:
            admission = Admission.from_content(message.content)
        except WireError as error:
            raise RunError(str(error)) from error
        if admission.refusal:
            raise UserError(
                f"the server refuses client {self.ID}: {admission.refusal}"
            )
        run = admission.run
        if self._run not in ("", run):
            raise RunError(
                "the server has begun another run; what this client keeps of "
                "the earlier one stays where it is"
            )
        if self._run:
            return
        kept = self.parameters.kept_by(self.ID, run)
        if isinstance(kept, StateOfProcess):
            kept.open()
            remember_run(self._cfg, run)
        self.kept, self._run = kept, run

    def run(self) -> None:
        """Take part in a distributed run until its end.

        Raises:
            RunError: the server is gone.
            UserError: the server refuses this client.

        """
        try:
            while self.final is None and not self.is_leaving:
                message = self.comm_manager.receive(timeout=1.0)
                if message is not None and (
                    message.msg_type == "finish" or self.state <= message.state
                ):
                    self.msg_handlers[message.msg_type](message)
        finally:
            self.comm_manager.close()
            if isinstance(self.kept, StateOfProcess):
                self.kept.close()

    def leave(self) -> None:
        """Leave the run, once the message at hand is answered."""
        self.is_leaving = True

    def _divergence(self, results: Any) -> str:
        """Why a round's training has diverged; empty if it has not."""
        losses = [
            value for name, value in results.items() if name.endswith("loss")
        ]
        if not all(map(math.isfinite, losses)):
            return DIVERGED[0]
        if not self.parameters.are_finite():
            return DIVERGED[1]
        return ""

    @contextmanager
    def _optimizer_state(self) -> Iterator[None]:
        """With ``fedsa.state.optimizer``, give the trainer the kept state."""
        if not self._cfg.fedsa.state.optimizer:
            yield
            return
        self.trainer.optimizer_state = self.kept.optimizer
        try:
            yield
        finally:
            self.trainer.optimizer_state = None

    def _keep(self) -> None:
        """Save the parameters that stay with the client."""
        state = {}
        if self._cfg.fedsa.state.optimizer:
            state = self.trainer.optimizer_state
        self.kept.save({**self.parameters.trained_by(self.ID), **state})


def _without_content(message: Message) -> Message:
    """A copy of the message for a handler that would load the content."""
    return Message(
        msg_type=message.msg_type,
        sender=message.sender,
        receiver=message.receiver,
        state=message.state,
        content=None,
        timestamp=message.timestamp,
    )
