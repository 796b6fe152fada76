"""The server: broadcasts, checks and aggregates shared parameters."""

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
    """The server of FedSA-LoRA, or of a method with any other policy.

    The server knows the shared parameters only.  In FedSA-LoRA these are the
    factors A, which it averages: A^(t+1) = sum_i w_i A_i.
    (Guo et al., arXiv 2410.01463, section 4)

    Attributes:
        parameters: the model's parameters, by what the policy does to them.
        aggregator: the aggregator; ``aggregator.shared`` are the global
            parameters.
        rejected_updates: the number of updates that the server has refused.
        known_rounds: for each client, how many additions to the base model
            it has received.

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
        """Send clients the global parameters.

        Args:
            msg_type: the kind of message: ``model_para`` asks the clients to
                train, ``evaluate`` to evaluate, and ``finish`` ends the run.
            sample_client_num: how many clients to sample; -1 for all clients
                that are present.
            filter_unseen_clients: whether to sample no clients that are held
                out from training.

        """
        receivers = self._choose(
            msg_type, sample_client_num, filter_unseen_clients
        )
        # Evaluation belongs to the round that has just ended.
        rnd = self.round - 1 if msg_type == "evaluate" else self.round
        # FederatedScope counts far ahead when it stops a run early.
        rnd = min(rnd, self.total_round_num + 1)
        messages: dict[Any, GlobalParameters] = {}
        for kind, group in groupby(receivers, self._kind_of):
            clients = list(group)
            if kind not in messages:
                payload = self.parameters.payload_for(
                    clients[0], self.aggregator.shared, kind[1]
                )
                messages[kind] = GlobalParameters(payload)
            self._post(msg_type, clients, messages[kind], rnd)
        rounds = self.parameters.delta.rounds
        self.known_rounds |= dict.fromkeys(receivers, rounds)

    def _give_up(self, clients: Set[int], why: str) -> None:
        """Stop waiting for the answers of these clients.

        They may have missed the last changes of the base model, so that they
        are sent all of them the next time.
        """
        for client in clients:
            self.known_rounds.pop(client, None)
        super()._give_up(clients, why)

    def _kind_of(self, client: int) -> tuple[int, int]:
        """A client's rank, and the changes of the base model that it has.

        Clients for which both are equal get the same payload.
        """
        return rank_of(self._cfg, client), self.known_rounds.get(client, 0)

    def callback_funcs_model_para(self, message: Message) -> Any:
        """Check and add a client's update; once all have come, go on."""
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
                raise WireError("no update is awaited from this client")
            self._training.discard(client)
            answer = answer_from(message.content, _most_samples(self._cfg))
            if isinstance(answer, NoUpdate):
                raise WireError(f"there is none: {answer.reason[:100]!r}")
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
        """Check and collect a client's results; once all have come, go on."""
        client = message.sender
        if client not in self._evaluating:
            logger.warning("the results of client %s come too late", client)
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
        """Average and log the results that can be averaged over clients."""
        results = self.msg_buffer["eval"]
        results[self.state - 1] = in_agreement(results[self.state - 1])
        return super().merge_eval_results_from_all_clients()

    def _perform_federated_aggregation(self) -> int:
        """Compute the new global parameters; return the number of updates."""
        self.aggregator.finish()
        return len(self.msg_buffer["train"][self.state])

    def eval(self) -> None:
        """Evaluate at the clients, or here if clients keep nothing."""
        with self.parameters.loaded(self.aggregator.shared):
            super().eval()

    def terminate(self, msg_type: str = "finish") -> None:
        """End the run, and send all clients the final global parameters."""
        self.is_finish = True
        self._monitor.finish_fl()
        self.broadcast_model_para(msg_type, filter_unseen_clients=False)


def _most_samples(cfg: Config) -> int:
    """The most samples that a client can have trained on in a round.

    It is ``fedsa.max_samples``; if that is 0, the number follows from the
    steps of a round where these are counted in batches.
    """
    if cfg.fedsa.max_samples:
        return int(cfg.fedsa.max_samples)
    if cfg.train.batch_or_epoch != "batch":
        return 2**31 - 1
    steps = cfg.train.local_update_steps * cfg.grad.grad_accum_count
    return int(steps * cfg.dataloader.batch_size)
