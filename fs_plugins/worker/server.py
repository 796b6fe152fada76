"""The server: broadcasts, checks and aggregates shared parameters."""

import logging
from collections.abc import Mapping, Set
from itertools import groupby
from typing import Any

import torch
from federatedscope.core.message import Message
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from fs_plugins.aggregator.distances import (
    Distances,
    are_finite,
    copied,
    distance,
)
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Message as HostMessage
from fs_plugins.settings import rank_of
from fs_plugins.wire import Tensors, WireError, decode, spec_of, told
from fs_plugins.wire.messages import (
    GlobalParameters,
    NoUpdate,
    answer_from,
    round_of,
    state_of,
)
from fs_plugins.worker.attendance import UnsoundRoundError
from fs_plugins.worker.evaluation import EvaluatingServer
from fs_plugins.worker.parameters import parameters_of

logger = logging.getLogger("federatedscope.fs_plugins")


class FedSAServer(EvaluatingServer):
    """The server of FedSA-LoRA, or of a method with any other policy.

    The server knows the shared parameters only.  In FedSA-LoRA these are the
    factors A, which it averages: A^(t+1) = sum_i w_i A_i.
    (Guo et al., arXiv 2410.01463, section 4)

    Attributes:
        parameters: the model's parameters, by what the policy does to them.
        aggregator: the aggregator; ``aggregator.shared`` are the global
            parameters.
        known_rounds: for each client, how many additions to the base model
            it has received.
        suspects: the IDs of clients that have spoilt a round.  Their updates
            are held until all of a round are there, so that they can be
            refused without repeating it.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        self.parameters = parameters_of(self.model, self._cfg)
        self.aggregator = self.parameters.aggregator()
        self.aggregators = [self.aggregator]
        self.known_rounds: dict[int, int] = {}
        self.suspects: set[int] = set()
        self._left_out: set[int] = set()  # of the present round
        self._held: dict[int, tuple[Tensors, int]] = {}
        self._distances = Distances(self._cfg.fedsa.max_norm)
        # what the clients have started the present round from, once needed
        self._start: dict[str, torch.Tensor] | None = None

    @property
    def refusals(self) -> dict[str, Any]:
        """What a checkpoint holds of what the server has refused, as JSON."""
        return {
            "updates": self.rejected_updates,
            "messages": self.rejected_messages,
            "suspects": sorted(self.suspects),
        }

    @refusals.setter
    def refusals(self, known: Mapping[str, Any]) -> None:
        self.rejected_updates = known["updates"]
        self.rejected_messages = known["messages"]
        self.suspects = set(known["suspects"])

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
        if msg_type == "evaluate":
            self._evaluated_state = state_of(rnd)
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

    def can_take(self, message: HostMessage) -> bool:
        """Whether a client's message is awaited, and of the right form.

        Nobody but the server sees any other message.  The values in it may
        still be refused.
        """
        if message.msg_type != "model_para":
            return super().can_take(message)
        try:
            self._check_awaited(message.sender, message.state)
            answer_from(message.content, _most_samples(self._cfg))
        except Exception:  # callback_funcs_model_para says why
            return False
        return True

    def _check_awaited(self, client: int, state: int) -> None:
        """Refuse an update that is of another round, or was not asked for."""
        if state != self.state:
            raise WireError(f"it is of round {told(round_of(state))}")
        if client not in self._training:
            raise WireError("no update is awaited from this client")

    def callback_funcs_model_para(self, message: Message) -> Any:
        """Check and add a client's update; once all have come, go on."""
        if self.is_finish:
            return "finish"
        was_awaited = message.sender in [*self._training]
        read = self.checked(message, "the update", self._update_in)
        if read is not None:
            self._take(message.sender, *read)
        return was_awaited and self.check_and_move_on()

    def _update_in(self, message: Message) -> tuple[Tensors, int]:
        """The update in a message, and its samples."""
        client = message.sender
        self._note_time(message)
        if client in self._present:
            self.sampler.change_state(client, "idle")
        self._check_awaited(message.sender, message.state)
        self._training.discard(client)
        answer = answer_from(message.content, _most_samples(self._cfg))
        if isinstance(answer, NoUpdate):
            raise WireError(f"there is none: {told(answer.reason)}")
        if client in self._left_out:
            raise WireError("it has spoilt the average of this round before")
        sent = self.parameters.sent_by(client, self.round)
        return decode(answer.payload, spec_of(sent)), answer.samples

    def _take(self, client: int, update: Tensors, samples: int) -> None:
        """Add a good update to the round."""
        if self._start is None:
            drawn = self.parameters.drawn_in(self.round)
            self._start = {**self.aggregator.shared, **drawn}
        self._distances.add(client, distance(update, self._start))
        if client in self.suspects:
            self._held[client] = (update, samples)
        else:
            self.aggregator.add(update, samples)
        self.msg_buffer["train"].setdefault(self.state, {})[client] = samples

    def _perform_federated_aggregation(self) -> int:
        """Compute the new global parameters; return the number of updates.

        Raises:
            UnsoundRoundError: the round has to be repeated, from the same
                global parameters as before.

        """
        answers = self.msg_buffer["train"][self.state]
        self._leave_out(self._distances.too_far())
        if len(answers) < self._cfg.fedsa.min_received:
            raise UnsoundRoundError(is_new=False)
        for update, samples in self._held.values():
            self.aggregator.add(update, samples)
        before = copied(self.aggregator.state())
        try:
            self.aggregator.finish()
            is_sound = are_finite(
                self.aggregator.state(), self.aggregator.delta
            )
        except LinAlgError:  # of values beyond all bounds
            is_sound = False
        if not is_sound:
            self._go_back(before)
        self._begin_anew()
        self._left_out = set()
        return len(answers)

    def _leave_out(self, spoilers: Mapping[int, str]) -> None:
        """Refuse the updates that spoil a round.

        Args:
            spoilers: why, by client.

        Raises:
            UnsoundRoundError: one of the updates has been added already, so
                that the others have to be added anew.

        """
        for client, why in spoilers.items():
            self.refuse(client, "the update", why)
            self._distances.remove(client)
            del self.msg_buffer["train"][self.state][client]
        are_added = spoilers.keys() - self._held.keys()
        for client in spoilers:
            self._held.pop(client, None)
        self.suspects |= spoilers.keys()
        if are_added:
            raise UnsoundRoundError(is_new=True)

    def _go_back(self, before: Mapping[str, Tensors]) -> None:
        """Go back to the start of a round whose average is not finite.

        Args:
            before: the aggregator's state before the average.

        Raises:
            UnsoundRoundError: always.

        """
        self.aggregator.restore(before)
        spoilers = self._distances.to_blame()
        logger.warning(
            "round %d: the aggregated parameters are not finite: %s",
            self.round,
            "it cannot be told which update is to blame"
            if not spoilers
            else "the round begins again without the updates to blame",
        )
        self._held = {}
        self._left_out |= spoilers.keys()
        self._leave_out(spoilers)
        raise UnsoundRoundError(is_new=False)

    def _repeat_round(self) -> None:
        """Ask clients to train again from the same global parameters."""
        self._begin_anew()
        super()._repeat_round()

    def _begin_anew(self) -> None:
        """Forget what is known of the updates of a round."""
        self._distances.clear()
        self._held, self._start = {}, None

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
