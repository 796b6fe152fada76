"""The server: broadcasts, checks and aggregates what is shared."""

import logging
from collections.abc import Set
from itertools import groupby
from typing import Any

from federatedscope.core.message import Message

from fs_plugins.host.configuration import Config
from fs_plugins.settings import rank_of
from fs_plugins.wire import WireError, decode, spec_of
from fs_plugins.wire.messages import (
    GlobalParameters,
    Metrics,
    NoUpdate,
    answer_from,
    round_of,
)
from fs_plugins.worker.attendance import AttendingServer
from fs_plugins.worker.client_results import in_agreement
from fs_plugins.worker.parameters import parameters_of

logger = logging.getLogger("federatedscope.fs_plugins")


class FedSAServer(AttendingServer):
    """The server of FedSA, or of any other policy.

    It knows the shared parameters only: A^(t+1) = sum_i w_i A_i.
    (Guo et al., arXiv 2410.01463, section 4)

    Attributes:
        rejected_updates: updates that were not what they should be.
        known_rounds: by client, how many additions to the base it has got.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        self.parameters = parameters_of(self.model, self._cfg)
        self.aggregator = self.parameters.aggregator()
        self.aggregators = [self.aggregator]
        self.rejected_updates = 0
        self.known_rounds: dict[int, int] = {}

    def broadcast_model_para(
        self,
        msg_type: str = "model_para",
        sample_client_num: int = -1,
        filter_unseen_clients: bool = True,
    ) -> None:
        """Send the shared parameters to sampled clients, or (-1) to all."""
        receivers = self._choose(
            msg_type, sample_client_num, filter_unseen_clients
        )
        # Evaluation belongs to the round that has just ended.
        rnd = self.round - 1 if msg_type == "evaluate" else self.round
        messages: dict[Any, GlobalParameters] = {}
        for kind, group in groupby(receivers, self._kind_of):
            alike = list(group)
            if kind not in messages:
                payload = self.parameters.payload_for(
                    alike[0], self.aggregator.shared, kind[1]
                )
                messages[kind] = GlobalParameters(payload)
            self._post(msg_type, alike, messages[kind], rnd)
        now = self.parameters.delta.rounds
        self.known_rounds |= dict.fromkeys(receivers, now)

    def _give_up(self, clients: Set[int], why: str) -> None:
        """They may have missed what was sent."""
        for client in clients:
            self.known_rounds.pop(client, None)
        super()._give_up(clients, why)

    def _kind_of(self, client: int) -> tuple[int, int]:
        """Clients of the same kind get the same payload."""
        return rank_of(self._cfg, client), self.known_rounds.get(client, 0)

    def callback_funcs_model_para(self, message: Message) -> Any:
        """Check an update and add it; when all are in, go on."""
        if self.is_finish:
            return "finish"
        client = message.sender
        self.cur_timestamp = message.timestamp
        if client in self._present:
            self.sampler.change_state(client, "idle")
        is_awaited = client in self._training
        try:
            rnd = round_of(message.state)
            if rnd != self.round:
                raise WireError(f"it is of round {rnd}")
            if not is_awaited:
                raise WireError("none is awaited from this client")
            self._training.discard(client)
            answer = answer_from(message.content, _most_samples(self._cfg))
            if isinstance(answer, NoUpdate):
                raise WireError(f"it has none: {answer.reason[:100]!r}")
            sent = self.parameters.sent_by(client, rnd)
            update = decode(answer.payload, spec_of(sent))
        except WireError as error:
            self.rejected_updates += 1
            logger.warning(
                "round %d: the update of client %s is refused: %s",
                self.round,
                client,
                error,
            )
        else:
            self.aggregator.add(update, answer.samples)
            answers = self.msg_buffer["train"].setdefault(self.state, {})
            answers[client] = answer.samples
        return is_awaited and self.check_and_move_on()

    def callback_funcs_for_metrics(self, message: Message) -> Any:
        """Collect results; when all are in, merge them."""
        client = message.sender
        if client not in self._evaluating:
            logger.warning("results of client %s come too late", client)
            return False
        self._evaluating.discard(client)
        results = self.msg_buffer["eval"].setdefault(self.state - 1, {})
        try:
            metrics = Metrics.from_content(
                message.content, self._cfg.eval.split
            )
        except WireError as error:
            logger.warning(
                "client %s's results are refused: %s", client, error
            )
        else:
            results[client] = metrics.results
        return self.check_and_move_on(check_eval_result=True)

    def merge_eval_results_from_all_clients(self) -> Any:
        """Average and log what can be averaged."""
        results = self.msg_buffer["eval"]
        results[self.state - 1] = in_agreement(results[self.state - 1])
        return super().merge_eval_results_from_all_clients()

    def _perform_federated_aggregation(self) -> int:
        """New global parameters from the round's sum."""
        self.aggregator.finish()
        return len(self.msg_buffer["train"][self.state])

    def eval(self) -> None:
        """Evaluate at the clients, or here if nothing is kept by them."""
        with self.parameters.lent(self.aggregator.shared):
            super().eval()

    def terminate(self, msg_type: str = "finish") -> None:
        """End the run; clients get the final shared parameters."""
        self.is_finish = True
        self._monitor.finish_fl()
        self.broadcast_model_para(msg_type, filter_unseen_clients=False)


def _most_samples(cfg: Config) -> int:
    """What ``fedsa.max_samples`` says, or stands for."""
    if cfg.fedsa.max_samples:
        return int(cfg.fedsa.max_samples)
    if cfg.train.batch_or_epoch != "batch":
        return 2**31 - 1
    steps = cfg.train.local_update_steps * cfg.grad.grad_accum_count
    return int(steps * cfg.dataloader.batch_size)
