"""The events of a run, and how listeners are told of them.

This is the only module that replaces methods of the host's live objects.  It
does so once for each runner, on behalf of all listeners, so that recording,
progress, tracking and checkpoints know neither each other nor the host.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from fs_plugins.host.protocols import (
    Communication,
    Message,
    Runner,
    Server,
)
from fs_plugins.listeners import Listener, StopRun
from fs_plugins.wire.messages import round_of
from fs_plugins.worker.ours import clients_of, is_our_server


class LiveRun:
    """A run of either host as its listeners see it.

    Args:
        runner: a runner of the host that has not run yet.
        listeners: the listeners, which are told of events in this order.
        pauses: whether the run pauses between rounds, so that listeners can
            be told of each round's end.

    Attributes:
        cfg: the run's configuration.
        server: the run's server.
        times_clients: whether the clients work in this process.
        stopped: why a listener has stopped the run; ``""`` if none has.

    """

    def __init__(
        self,
        runner: Runner,
        listeners: Sequence[Listener],
        pauses: bool = True,
    ) -> None:
        self.cfg = runner.cfg
        self.server = runner.server
        self.times_clients = runner.mode == "standalone"
        self.stopped = ""
        self._runner = runner
        self._listeners = tuple(listeners)
        self._attach(pauses)

    def run(self) -> None:
        """Run to the end."""
        try:
            self.tell("run_begins", self)
            self._runner.run()
        finally:
            self.tell("run_ends")

    def tell(self, event: str, *facts: Any) -> None:
        """Tell every listener of an event.

        Args:
            event: the name of the listener's method for the event.
            facts: the arguments of the method.

        """
        for listener in self._listeners:
            try:
                getattr(listener, event)(*facts)
            except StopRun as stop:
                self.stopped = self.stopped or str(stop)

    def _attach(self, pauses: bool) -> None:
        server = self.server
        self._watch_sending(server.comm_manager)
        self._watch_joining(server)
        self._time(server, "_perform_federated_aggregation", "aggregate")
        if self.cfg.federate.make_global_eval:
            self._watch_global_evaluation(server)
        else:
            self._watch_merging(server)
        if not self.times_clients:
            self._watch_receiving(server.comm_manager)
            self._watch_ending(server)
        for client in clients_of(self._runner).values():
            self._watch_sending(client.comm_manager)
            self._time(client.trainer, "train", "train")
            self._time(client.trainer, "evaluate", "eval")
        if pauses:
            _call_between_rounds(server, self._round_ends)

    def _round_ends(self) -> bool:
        """Tell of the end of a round; returns whether there is another."""
        self.tell("round_ends", self.server.state)
        return not self.stopped

    def _time(self, owner: Any, method: str, work: str) -> None:
        """Tell listeners how long each call of a method takes."""
        function = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.tell("took", work, time.perf_counter() - begin)

        setattr(owner, method, timed)

    def _watch_joining(self, server: Server) -> None:
        broadcast = server.broadcast_model_para

        def first(*args: Any, **kwargs: Any) -> Any:
            server.broadcast_model_para = broadcast
            self.tell("clients_joined")
            return broadcast(*args, **kwargs)

        server.broadcast_model_para = first

    def _watch_ending(self, server: Server) -> None:
        terminate = server.terminate

        def ending(*args: Any, **kwargs: Any) -> None:
            self.tell("clients_leave")
            terminate(*args, **kwargs)

        server.terminate = ending

    def _watch_sending(self, manager: Communication) -> None:
        send = manager.send

        def watched(message: Message) -> None:
            to = message.receiver
            self._see(message, len(to) if isinstance(to, list) else 1)
            send(message)

        manager.send = watched

    def _watch_receiving(self, manager: Communication) -> None:
        receive = manager.receive

        def watched(*args: Any, **kwargs: Any) -> Any:
            message = receive(*args, **kwargs)
            if message is not None:
                self._see(message, 1)
            return message

        manager.receive = watched

    def _see(self, message: Message, receivers: int) -> None:
        kind = message.msg_type
        if message.sender != 0 and not self._is_good(message):
            return  # listeners are told of nothing that is refused
        if kind in ("model_para", "evaluate", "finish"):
            self.tell("message_passes", message, receivers)
        if kind == "model_para" and message.sender == 0:
            self.tell("round_begins", round_of(message.state), receivers)
        elif kind == "model_para":
            self.tell("client_trained", message.sender)
        elif kind == "evaluate":
            self.tell("evaluation_begins", receivers)
        elif kind == "metrics":
            self.tell("client_evaluated", message.sender)

    def _is_good(self, message: Message) -> bool:
        """Whether the server will take a client's message.

        What reaches FederatedScope's own server has been checked before.
        """
        server = self.server
        return not is_our_server(server) or server.can_take(message)

    def _watch_merging(self, server: Server) -> None:
        merge = server.merge_eval_results_from_all_clients

        def watched() -> Any:
            merged = merge()
            state = max(server.msg_buffer["eval"])
            results = (
                server.results
                if is_our_server(server)
                else server.msg_buffer["eval"][state]
            )
            clients = {ID: dict(r) for ID, r in results.items() if r}
            if clients:
                self.tell("evaluated", round_of(state), clients)
            return merged

        server.merge_eval_results_from_all_clients = watched

    def _watch_global_evaluation(self, server: Server) -> None:
        self._time(server.trainer, "evaluate", "eval")
        evaluate, evaluate_all = server.trainer.evaluate, server.eval
        results: dict[str, float] = {}

        def keep(*args: Any, **kwargs: Any) -> Any:
            metrics = evaluate(*args, **kwargs)
            results.update(metrics)
            return metrics

        def watched() -> None:
            rnd = server.state
            evaluate_all()
            self.tell("evaluated", rnd, {0: dict(results)})

        server.trainer.evaluate, server.eval = keep, watched


def _call_between_rounds(server: Server, action: Callable[[], bool]) -> None:
    """Call ``action`` before each round but the first.

    At that time all updates and all results of the evaluation before the
    round have been received.  The host's own server would begin the next
    round while clients still evaluate; here the round waits for them.  The
    clients do the same things in the same order either way.

    Args:
        server: a server of this package or of the host, which has not run.
        action: the function to call; if it returns False, the run ends
            as after its last round.  An error that it raises ends the run.

    """
    begin = server._start_new_training_round
    evaluate = server.eval
    merge = server._merge_and_format_eval_results
    waiting: list[tuple[Any, ...]] = []  # arguments of a delayed round
    awaited = [False]  # whether clients of the host still evaluate

    def begun(*args: Any) -> None:
        if is_our_server(server) and server.is_evaluating:
            # Our server delays the round itself while clients evaluate, and
            # calls this function again.
            begin(*args)
        elif not is_our_server(server) and awaited[0]:
            waiting.append(args)
        elif action():
            begin(*args)
        else:
            server.terminate()

    def evaluated() -> None:
        awaited[0] = not server._cfg.federate.make_global_eval
        evaluate()

    def merged() -> None:
        merge()
        awaited[0] = False
        while waiting and not server.is_finish:
            begun(*waiting.pop())

    server._start_new_training_round = begun
    server.eval = evaluated
    server._merge_and_format_eval_results = merged
