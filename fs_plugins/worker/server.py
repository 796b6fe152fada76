"""The server: broadcasts, checks and aggregates what is shared."""

import logging
import secrets
import time
from functools import partial
from typing import Any

from federatedscope.core.message import Message
from federatedscope.core.workers import Server

from fs_plugins.aggregator import AGGREGATORS
from fs_plugins.errors import RunError
from fs_plugins.wire import WireError, decode, encode
from fs_plugins.worker.parameters import parameters_of
from fs_plugins.worker.results import check_results, in_agreement

logger = logging.getLogger("federatedscope.fs_plugins")
MAX_REPEATS = 10  # of one round; FederatedScope's own limit
_HANDLED = ("join_in", "join_in_info", "model_para", "metrics")


class FedSAServer(Server):  # type: ignore[misc]
    """The server of FedSA, or of any other policy.

    It knows the shared parameters only: A^(t+1) = sum_i w_i A_i.
    (Guo et al., arXiv 2410.01463, section 4)

    A round and an evaluation go on until every client that was asked has
    answered or, in distributed mode, is given up.

    Attributes:
        rejected_updates: updates that were not what they should be.
        absent: clients that have joined and are not there now.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        self.parameters = parameters_of(self.model, self._cfg)
        self.aggregator = AGGREGATORS[self._cfg.fedsa.aggregator](
            self.parameters.initial_of(self.parameters.shared),
            ignore_weight=self._cfg.federate.ignore_weight,
        )
        self.aggregators = [self.aggregator]
        self.rejected_updates = 0
        self.absent: set[int] = set()
        self._training: set[int] = set()  # who is asked, and hasn't answered
        self._evaluating: set[int] = set()
        self._round_waits = False  # for the evaluation before it
        self._repeats = 0
        self._has_started = False
        self._run = secrets.token_hex(8)

    def broadcast_model_para(
        self,
        msg_type: str = "model_para",
        sample_client_num: int = -1,
        filter_unseen_clients: bool = True,
    ) -> None:
        """Send the shared parameters to sampled clients, or (-1) to all."""
        if filter_unseen_clients:
            self.sampler.change_state(self.unseen_clients_id, "unseen")
        if sample_client_num > 0:
            idle = int(sum(self.sampler.client_state))
            size = min(sample_client_num, idle)
            receivers = self.sampler.sample(size=size) if size else []
        else:
            receivers = [
                ID
                for ID in self.comm_manager.neighbors
                if ID not in self.absent
            ]
            if msg_type == "model_para":
                self.sampler.change_state(receivers, "working")
        if filter_unseen_clients:
            self.sampler.change_state(self.unseen_clients_id, "seen")
        # Evaluation belongs to the round that has just ended.
        state = self.state - 1 if msg_type == "evaluate" else self.state
        if msg_type == "model_para":
            self._has_started = True
            self._training = set(receivers)
        elif msg_type == "evaluate":
            self._evaluating = set(receivers)
        self._asked_at = time.monotonic()
        self._ask_again = partial(
            self.broadcast_model_para,
            msg_type,
            sample_client_num,
            filter_unseen_clients,
        )
        self.comm_manager.send(
            Message(
                msg_type=msg_type,
                sender=self.ID,
                receiver=receivers,
                state=min(state, self.total_round_num),
                timestamp=self.cur_timestamp,
                content=encode(self.aggregator.shared),
            )
        )

    def callback_funcs_model_para(self, message: Message) -> Any:
        """Check an update and add it; when all are in, go on."""
        if self.is_finish:
            return "finish"
        client = message.sender
        self.cur_timestamp = message.timestamp
        if client not in self.absent:
            self.sampler.change_state(client, "idle")
        is_awaited = client in self._training
        try:
            if message.state != self.state:
                raise WireError(f"it is of round {message.state}")
            if not is_awaited:
                raise WireError("none is awaited from this client")
            self._training.discard(client)
            samples, payload = _parts(message.content)
            update = decode(payload, self.parameters.spec)
        except WireError as error:
            self.rejected_updates += 1
            logger.warning(
                "round %d: the update of client %s is refused: %s",
                self.state,
                client,
                error,
            )
        else:
            self.aggregator.add(update, samples)
            answers = self.msg_buffer["train"].setdefault(self.state, {})
            answers[client] = samples
        return is_awaited and self.check_and_move_on()

    def callback_funcs_for_metrics(self, message: Message) -> Any:
        """Collect results; when all are in, merge them."""
        client = message.sender
        if client not in self._evaluating:
            logger.warning("results of client %s come too late", client)
            return False
        self._evaluating.discard(client)
        try:
            check_results(message.content, self._cfg.eval.split)
        except WireError as error:
            logger.warning(
                "client %s's results are refused: %s", client, error
            )
        else:
            answers = self.msg_buffer["eval"].setdefault(self.state - 1, {})
            answers[client] = message.content
        return self.check_and_move_on(check_eval_result=True)

    def check_buffer(
        self,
        cur_round: int,
        min_received_num: int,
        check_eval_result: bool = False,
    ) -> bool:
        """Whether nothing more is to come, and there is something."""
        if check_eval_result:
            answers = self.msg_buffer["eval"].get(self.state - 1)
            return bool(answers) and not self._evaluating
        answers = self.msg_buffer["train"].setdefault(self.state, {})
        return (
            not self._training and len(answers) >= self._cfg.fedsa.min_received
        )

    def check_and_move_on(
        self, check_eval_result: bool = False, min_received_num: Any = None
    ) -> Any:
        """Aggregate, or merge results, if nothing more is to come."""
        if self._evaluating if check_eval_result else self._training:
            return False
        if check_eval_result:
            results = self.msg_buffer["eval"].get(self.state - 1, {})
            self.msg_buffer["eval"][self.state - 1] = in_agreement(results)
        elif not self.check_buffer(self.state, 0):
            self._repeat_round()
            return False
        has_moved = super().check_and_move_on(check_eval_result)
        if self._round_waits and not self._evaluating and not self.is_finish:
            self._start_new_training_round()
        return has_moved

    def _repeat_round(self) -> None:
        """Ask again: what is shared stays as it was."""
        self._repeats += 1
        if self._repeats > MAX_REPEATS:
            raise RunError(
                f"round {self.state + 1} was repeated {MAX_REPEATS} times "
                f"without {self._cfg.fedsa.min_received} good update(s); "
                "the log says why each was refused"
            )
        logger.warning("round %d is repeated", self.state)
        self.aggregator.reset()
        self.msg_buffer["train"][self.state].clear()
        self.broadcast_model_para(
            "model_para", sample_client_num=self.sample_client_num
        )

    def _perform_federated_aggregation(self) -> int:
        """New global parameters from the round's sum."""
        self.aggregator.finish()
        self._repeats = 0
        return len(self.msg_buffer["train"][self.state])

    def _start_new_training_round(self, aggregated_num: int = 0) -> None:
        """Begin a round, once the evaluation before it has ended."""
        self._round_waits = bool(self._evaluating)
        if not self._round_waits:
            super()._start_new_training_round(aggregated_num)

    def eval(self) -> None:
        """Evaluate at the clients, or here if nothing is kept by them."""
        with self.parameters.lent(self.aggregator.shared):
            super().eval()

    def terminate(self, msg_type: str = "finish") -> None:
        """End the run; clients get the final shared parameters."""
        self.is_finish = True
        self._round_waits = False
        self._monitor.finish_fl()
        self.broadcast_model_para(msg_type, filter_unseen_clients=False)

    # Distributed mode: clients come late, go, and come back.

    def run(self) -> None:
        """Take part in a distributed run, to its end.

        Raises:
            RunError: clients are missing at the start, or all of them later,
                for ``fedsa.transport.wait`` seconds.

        """
        self._asked_at = time.monotonic()
        try:
            while not self.is_finish:
                message = self.comm_manager.receive(timeout=1.0)
                if message is not None and message.msg_type in _HANDLED:
                    self.msg_handlers[message.msg_type](message)
                if self._has_started:
                    self._look_after_clients()
                elif self._waited_for(self._cfg.fedsa.transport.wait):
                    raise RunError(
                        f"{len(self.comm_manager.neighbors)} of "
                        f"{self.client_num} clients have joined in "
                        f"{self._cfg.fedsa.transport.wait:g} seconds"
                    )
        finally:
            self.comm_manager.close()

    def callback_funcs_for_join_in(self, message: Message) -> None:
        """Admit a client, perhaps again; with the last one, begin."""
        if self.mode == "standalone" or message.msg_type != "join_in":
            super().callback_funcs_for_join_in(message)
            return
        client = message.sender
        is_known = client in self.comm_manager.neighbors
        self.comm_manager.add_neighbors(client, message.content)
        self.comm_manager.send(
            Message(
                msg_type="assign_client_id",
                sender=self.ID,
                receiver=[client],
                state=self.state,
                timestamp=self.cur_timestamp,
                content={"run": self._run},
            )
        )
        if not is_known:
            super().callback_funcs_for_join_in(message)
            return
        logger.info("client %d has joined again", client)
        if self._has_started:
            self._give_up({client}, "has started again")
            self._welcome({client})

    def _look_after_clients(self) -> None:
        """Go on without those that are gone; ask again if nobody is left."""
        lost = self.comm_manager.lost & set(self.comm_manager.neighbors)
        self._welcome(self.absent - lost)
        gone = lost - self.absent
        self.absent |= gone
        self.sampler.change_state(sorted(gone), "working")
        self._give_up(gone, "is gone")
        limit = self._cfg.fedsa.round_timeout
        if limit and self._waited_for(limit):
            self._give_up(self._training | self._evaluating, "is too slow")
        if self._training or self._evaluating or self.is_finish:
            return
        if set(self.comm_manager.neighbors) - self.absent:
            self._ask_again()
        elif self._waited_for(self._cfg.fedsa.transport.wait):
            raise RunError(
                "no client has been there for "
                f"{self._cfg.fedsa.transport.wait:g} seconds"
            )

    def _welcome(self, clients: set[int]) -> None:
        self.absent -= clients
        self.sampler.change_state(sorted(clients), "idle")

    def _give_up(self, clients: set[int], why: str) -> None:
        """No longer wait for these clients' answers."""
        training = clients & self._training
        evaluating = clients & self._evaluating
        for client in sorted(training | evaluating):
            logger.warning(
                "round %d: client %d %s; the others go on",
                self.state,
                client,
                why,
            )
        self._training -= training
        self._evaluating -= evaluating
        if training:
            self.check_and_move_on()
        if evaluating:
            self.check_and_move_on(check_eval_result=True)

    def _waited_for(self, seconds: float) -> bool:
        return time.monotonic() - self._asked_at > seconds


def _parts(content: Any) -> tuple[int, Any]:
    """(samples, payload) of an update."""
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise WireError("it is not a pair of samples and payload")
    samples, payload = content
    if type(samples) is not int or samples <= 0:
        raise WireError(f"it claims {samples!r} samples")
    return samples, payload
