"""The client: shares what the policy shares, keeps what it keeps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from federatedscope.core.message import Message
from federatedscope.core.workers import Client

from fs_plugins.errors import RunError
from fs_plugins.state import read_tensors, write_tensors
from fs_plugins.wire import decode, encode, spec_of
from fs_plugins.worker.parameters import parameters_of


class FedSAClient(Client):  # type: ignore[misc]
    """A client of FedSA, or of any other policy.

    In a round it takes the global A from the server and its own B and head
    from where it left them, trains them together, puts B and head away and
    sends A.  (Guo et al., arXiv 2410.01463, section 4)

    In distributed mode it also writes B and head to a file after each round,
    and finds them there if it is started again during the same run.

    Attributes:
        kept: its B and head, or what else the policy keeps.
        final: the payload that came with the end of the run.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        self.parameters = parameters_of(self.model, self._cfg)
        self.kept = self.parameters.kept_by_a_client()
        self.final: Any = None
        self._file: Path | None = None
        if self.mode == "distributed":
            self.ID = self._cfg.distribute.data_idx

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
            self._keep()
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
        self.final = message.content
        super().callback_funcs_for_finish(_without_content(message))

    def callback_funcs_for_assign_id(self, message: Message) -> None:
        """Learn which run it is; go on with what was kept of it.

        Raises:
            UserError: what was kept can't be read.

        """
        run = message.content["run"]
        if not re.fullmatch("[0-9a-f]{16}", run):  # it becomes a folder
            raise RunError(f"the server's run {run!r} has no valid name")
        folder = _base_folder(Path(self._cfg.outdir)) / "state" / run
        self._file = folder / f"client_{self.ID}.safetensors"
        if self._file.exists():
            spec = spec_of(self.parameters.kept)
            self.kept.save(read_tensors(self._file, spec))

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

    def _keep(self) -> None:
        self.kept.save(self.parameters.kept)
        if self._file is not None:
            write_tensors(self._file, self.kept.values)


def _base_folder(outdir: Path) -> Path:
    """The folder that a run shares with those started again after it.

    The host puts them into ``sub_exp_<time>`` below.
    """
    return outdir.parent if outdir.name.startswith("sub_exp") else outdir


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
