"""The server's part in an evaluation: it checks and merges the results."""

import logging
from collections.abc import Mapping
from typing import Any

from federatedscope.core.message import Message

from fs_plugins.host.protocols import Message as HostMessage
from fs_plugins.wire import WireError, told
from fs_plugins.wire.messages import Metrics, round_of, split_of
from fs_plugins.worker.attendance import AttendingServer
from fs_plugins.worker.client_results import in_agreement, known_results

logger = logging.getLogger("federatedscope.fs_plugins")


class EvaluatingServer(AttendingServer):
    """A server that takes those results only that clients can have.

    Attributes:
        results: each client's results of the last evaluation, by the
            client's ID.  A result that a client has not is nan.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._cfg is None:  # FederatedScope lists the handlers this way
            return
        self.results: dict[int, Mapping[str, float]] = {}
        self._known = known_results(self._cfg, self.data)
        # how many examples a client has of a split
        self._totals: dict[tuple[int, str], float] = {}
        self._is_skipped = False

    def can_take(self, message: HostMessage) -> bool:
        """Whether a client's message is awaited, and of the right form."""
        if message.msg_type != "metrics":
            return False
        try:
            self._check_results_awaited(message.sender, message.state)
            Metrics.from_content(message.content, self._known)
        except Exception:  # callback_funcs_for_metrics says why
            return False
        return True

    def _check_results_awaited(self, client: int, state: int) -> None:
        """Refuse results of another round, or that were not asked for."""
        if client not in self._evaluating:
            raise WireError("none are awaited from this client")
        if state != self._evaluated_state:
            raise WireError(f"they are of round {told(round_of(state))}")

    def callback_funcs_for_metrics(self, message: Message) -> Any:
        """Check and collect a client's results; once all have come, go on."""
        awaited = len(self._evaluating)
        metrics = self.checked(message, "the results", self._results_in)
        if metrics is not None:
            results = self.msg_buffer["eval"].setdefault(self.state - 1, {})
            results[message.sender] = metrics.results
        was_awaited = len(self._evaluating) < awaited
        return was_awaited and self.check_and_move_on(check_eval_result=True)

    def _results_in(self, message: Message) -> Metrics:
        """The results in a message."""
        client = message.sender
        self._check_results_awaited(message.sender, message.state)
        self._evaluating.discard(client)
        metrics = Metrics.from_content(message.content, self._known)
        self._check_totals(client, metrics)
        for name in metrics.undefined:
            logger.warning(
                "round %d: client %d has no %s: the value is not finite",
                round_of(message.state),
                client,
                name,
            )
        return metrics

    def _check_totals(self, client: int, metrics: Metrics) -> None:
        """Refuse another number of examples than the client had before."""
        if self._known.metrics is None:
            return
        for split in {split_of(name) for name in metrics.results}:
            total = metrics.results[f"{split}_total"]
            before = self._totals.setdefault((client, split), total)
            if total != before:
                raise WireError(
                    f"{split}_total is {told(total)}, and was {told(before)}"
                )

    def merge_eval_results_from_all_clients(self) -> Any:
        """Average and log the results that can be averaged over clients.

        FederatedScope averages the clients of which all results of a split
        are finite.  If none of these has the result that the best round is
        chosen by, it averages nothing.
        """
        everything = self.msg_buffer["eval"].get(self.state - 1, {})
        self.results = everything
        if self._known.metrics is None:
            self.results = in_agreement(everything)
        results = in_agreement(
            {ID: Metrics(r).defined for ID, r in self.results.items()}
        )
        key = self._cfg.eval.best_res_update_round_wise_key
        unseen = {ID: r for ID, r in results.items() if self._is_unseen(ID)}
        seen = {ID: r for ID, r in results.items() if ID not in unseen}
        for group in (unseen, seen):
            if not any(key in name for r in group.values() for name in r):
                group.clear()
        self.msg_buffer["eval"][self.state - 1] = seen | unseen
        self._is_skipped = not seen
        if self._is_skipped:
            logger.warning(
                "round %d: no client has sent a %s, so that the evaluation "
                "is skipped",
                self.round - 1,
                key,
            )
            return {}
        return super().merge_eval_results_from_all_clients()

    def _is_unseen(self, client: int) -> bool:
        """Whether a client is held out from training."""
        return client in (self.unseen_clients_id or ())

    def check_and_save(self) -> None:
        """Stop early, save, or finish after an evaluation.

        One that was skipped does not count for ``early_stop.patience``.
        """
        patience = self.early_stopper.patience
        if self._is_skipped:
            self.early_stopper.patience = 0
        try:
            super().check_and_save()
        finally:
            self.early_stopper.patience = patience
