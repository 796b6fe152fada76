"""Which clients take part, and whose answers are awaited."""

import logging
import time
from collections.abc import Callable, Set
from functools import partial
from typing import Any

from federatedscope.core.message import Message

from fs_plugins.errors import RunError
from fs_plugins.wire import WireError, told
from fs_plugins.worker.admission import AdmittingServer

logger = logging.getLogger("federatedscope.fs_plugins")
MAX_REPEATS = 10  # of one round; FederatedScope has the same limit
_HANDLED = ("join_in", "join_in_info", "model_para", "metrics")


class UnsoundRoundError(Exception):
    """A round's updates cannot become new global parameters.

    Args:
        is_new: whether a client was found out that spoils the round, and the
            others can do it without that client.

    """

    def __init__(self, is_new: bool) -> None:
        super().__init__()
        self.is_new = is_new


class AttendingServer(AdmittingServer):
    """A server that knows which clients' answers it awaits.

    A round of training, or an evaluation, lasts until every client that was
    asked has answered or, in distributed mode, is given up.  FederatedScope's
    own server counts answers instead, and waits forever for a client that is
    gone.

    Attributes:
        absent: the IDs of clients that have joined and are lost.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.absent: set[int] = set()
        # clients that were asked and have not answered yet
        self._training: set[int] = set()
        self._evaluating: set[int] = set()
        # whether the next round waits for the evaluation before it to end
        self._round_waits = False
        # the host's state of the evaluation that was asked for last
        self._evaluated_state = -1
        self._repeats = 0
        self._asked_at = time.monotonic()
        self._ask_again: Callable[[], None] = lambda: None
        self._waits_for_all = True  # before the run begins

    def _choose(
        self,
        msg_type: str,
        sample_client_num: int = -1,
        filter_unseen_clients: bool = True,
    ) -> list[int]:
        """Choose the clients that get a message, and await their answers.

        Args:
            msg_type: the kind of the message.
            sample_client_num: how many clients to sample; -1 for all clients
                that are present.
            filter_unseen_clients: whether to sample no clients that are held
                out from training.

        Returns:
            The IDs of the chosen clients.

        """
        if filter_unseen_clients:
            self.sampler.change_state(self.unseen_clients_id, "unseen")
        if sample_client_num > 0:
            idle = int(sum(self.sampler.client_state))
            size = min(sample_client_num, idle)
            receivers = self.sampler.sample(size=size) if size else []
        else:
            receivers = sorted(self._present)
            if msg_type == "model_para":
                self.sampler.change_state(receivers, "working")
        if filter_unseen_clients:
            self.sampler.change_state(self.unseen_clients_id, "seen")
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
        return receivers

    @property
    def is_evaluating(self) -> bool:
        """Whether the server awaits evaluation results of clients."""
        return bool(self._evaluating)

    @property
    def _present(self) -> set[int]:
        """The IDs of the clients that can be reached."""
        return set(self.comm_manager.neighbors) - self.absent

    def check_buffer(
        self,
        cur_round: int,
        min_received_num: int,
        check_eval_result: bool = False,
    ) -> bool:
        """Whether all awaited answers are there, and enough of them.

        Args:
            cur_round: not used; the server's own state counts.
            min_received_num: not used; ``fedsa.min_received`` counts.
            check_eval_result: whether the answers are evaluation results;
                otherwise they are updates.

        """
        if check_eval_result:
            return not self._evaluating
        answers = self.msg_buffer["train"].setdefault(self.state, {})
        enough = len(answers) >= self._cfg.fedsa.min_received
        return enough and not self._training

    def check_and_move_on(
        self, check_eval_result: bool = False, min_received_num: Any = None
    ) -> Any:
        """Aggregate updates, or merge results, once all of them are there.

        Args:
            check_eval_result: whether evaluation results are merged;
                otherwise updates are aggregated.
            min_received_num: not used; ``fedsa.min_received`` counts.

        Returns:
            Whether the run has moved on.

        """
        if self._evaluating if check_eval_result else self._training:
            return False
        if check_eval_result:
            results = self.msg_buffer["eval"].setdefault(self.state - 1, {})
            if not results and not self._present:
                return False
        elif not self.check_buffer(self.state, 0):
            self._repeat_round()
            return False
        try:
            has_moved = super().check_and_move_on(check_eval_result)
        except UnsoundRoundError as error:
            # There are not more such repetitions than clients.
            self._repeats -= error.is_new
            self._repeat_round()
            return False
        if self._round_waits and not self._evaluating and not self.is_finish:
            self._start_new_training_round()
        return has_moved

    def _start_new_training_round(self, aggregated_num: int = 0) -> None:
        """Begin a round, once the evaluation before it has ended."""
        self._repeats = 0
        self._round_waits = bool(self._evaluating)
        if not self._round_waits:
            super()._start_new_training_round(aggregated_num)

    def _repeat_round(self) -> None:
        """Ask clients to train again from the same global parameters."""
        self._repeats += 1
        if self._repeats > MAX_REPEATS:
            raise RunError(
                f"round {self.round} was repeated {MAX_REPEATS} times "
                f"without {self._cfg.fedsa.min_received} good update(s); "
                "the log says why each was refused"
            )
        logger.warning("round %d is repeated", self.round)
        self.aggregator.reset()
        self.msg_buffer["train"][self.state].clear()
        self.broadcast_model_para(
            "model_para", sample_client_num=self.sample_client_num
        )

    # In distributed mode clients may be lost.

    def run(self) -> None:
        """Take part in a distributed run until its end.

        Raises:
            RunError: for ``fedsa.transport.wait`` seconds, not all clients
                have joined at the start, or no client was present later.

        """
        self._asked_at = time.monotonic()
        try:
            while not self.is_finish:
                message = self.comm_manager.receive(timeout=1.0)
                if message is not None:
                    self._handle(message)
                self._look_after_clients()
        finally:
            self.comm_manager.close()

    def _handle(self, message: Message) -> None:
        """Handle a message of a client; refuse one of an unknown kind."""
        kind = self.checked(message, "a message", _kind_of)
        if kind is not None:
            self.msg_handlers[kind](message)

    def _look_after_clients(self) -> None:
        """Give up clients that are gone or too slow.

        If no answer is awaited any more, the clients are asked again.
        """
        patience = self._cfg.fedsa.transport.wait
        if not self._has_started:
            if self._waited_for(patience):
                self._begin_without_all(patience)
            return
        lost = self.comm_manager.lost & self.comm_manager.neighbors.keys()
        gone = lost - self.absent
        self.absent |= gone
        # the sampler does not choose clients that are working
        self.sampler.change_state(sorted(gone), "working")
        self._give_up(gone, "is gone")
        limit = self._cfg.fedsa.round_timeout
        if limit and self._waited_for(limit):
            self._give_up(self._training | self._evaluating, "is too slow")
        if self._training or self._evaluating or self.is_finish:
            return
        if self._present:
            self._ask_again()
        elif self._waited_for(patience):
            raise RunError(
                f"no client has been there for {patience:g} seconds"
            )

    def check_client_join_in(self) -> bool:
        """Whether the run can begin."""
        return not self._waits_for_all or bool(super().check_client_join_in())

    def trigger_for_start(self) -> None:
        """Begin once all clients are there; after the last round, end."""
        if self.state >= self.total_round_num and self.check_client_join_in():
            self.terminate()
        else:
            super().trigger_for_start()

    def _begin_without_all(self, patience: float) -> None:
        """Begin without the clients that stay away, if the run may.

        Args:
            patience: for how many seconds they were waited for.

        Raises:
            RunError: the run needs more clients than are there.

        """
        is_over = self.state >= self.total_round_num
        needed = getattr(self.comm_manager, "needed", self.client_num)
        if len(self._present) < needed and not is_over:
            raise RunError(
                f"{len(self._present)} of {self.client_num} clients have "
                f"joined in {patience:g} seconds"
            )
        away = {*range(1, self.client_num + 1)} - self._present
        logger.warning(
            "round %d begins without %s, who have not come",
            self.round,
            ", ".join(f"client {ID}" for ID in sorted(away)),
        )
        # the sampler does not choose clients that are working
        self.sampler.change_state(sorted(away), "working")
        self._waits_for_all = False
        self.trigger_for_start()

    def _give_up(self, clients: Set[int], why: str) -> None:
        """Stop waiting for the answers of these clients."""
        training = self._training & clients
        evaluating = self._evaluating & clients
        for client in sorted(training | evaluating):
            logger.warning(
                "round %d: client %d %s; the others go on",
                self.round,
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
        """Whether the last message to clients is older than ``seconds``."""
        return time.monotonic() - self._asked_at > seconds


def _kind_of(message: Message) -> str:
    """The kind of a client's message, if there is such a kind."""
    kind = message.msg_type
    if not isinstance(kind, str) or kind not in _HANDLED:
        raise WireError(f"there are no messages of the kind {told(kind)}")
    return kind
