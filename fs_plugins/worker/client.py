"""The client: shares what the policy shares, keeps what it keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from federatedscope.core.message import Message
from federatedscope.core.workers import Client

from fs_plugins.state import KeptParameters
from fs_plugins.wire import decode, encode
from fs_plugins.worker.parameters import parameters_of


class FedSAClient(Client):  # type: ignore[misc]
    """A client of FedSA, or of any other policy.

    In a round it takes the global A from the server and its own B and head
    from where it left them, trains them together, puts B and head away and
    sends A.  (Guo et al., arXiv 2410.01463, section 4)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        self.parameters = parameters_of(self.model, self._cfg)
        self.kept = KeptParameters(
            self.parameters.initial_of(self.parameters.kept)
        )

    @contextmanager
    def _model_with(self, payload: Any) -> Iterator[None]:
        """The model with the server's parameters and this client's own."""
        shared = decode(payload, self.parameters.spec)
        with self.parameters.lent(shared, self.kept.values):
            yield

    def callback_funcs_for_model_para(self, message: Message) -> None:
        """A round: train, keep what is kept, send what is shared."""
        self.state = message.state
        with self._model_with(message.content):
            samples, _, results = self.trainer.train()
            self.kept.save(self.parameters.kept)
            payload = encode(self.parameters.shared)
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
        with self._model_with(message.content):
            message = _without_content(message)
            super().callback_funcs_for_evaluate(message)

    def callback_funcs_for_finish(self, message: Message) -> None:
        """The end: the host has nothing to load, as nothing is its own."""
        super().callback_funcs_for_finish(_without_content(message))


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
