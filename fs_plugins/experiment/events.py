"""The events of a run, and how listeners are told of them.

This is the only module that replaces methods of the host's live objects.  It
does so once for each runner, on behalf of all listeners, so that recording,
progress, tracking and checkpoints know neither each other nor the host.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from fs_plugins.host.protocols import (
    Client,
    Communication,
    Message,
    Runner,
    Server,
)
from fs_plugins.listeners import Listener, StopRun
from fs_plugins.wire.messages import round_of
from fs_plugins.worker.ours import clients_of, is_our_server, participant_of


class _Live:
    """What listeners are told of, whichever participant works here.

    Args:
        listeners: the listeners, which are told of events in this order.

    Attributes:
        stopped: why a listener has stopped the run; ``""`` if none has.

    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.stopped = ""
        self._listeners = tuple(listeners)

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

    def _run(self, function: Callable[[], object]) -> None:
        """Tell of the beginning and the end of a run."""
        try:
            self.tell("run_begins", self)
            function()
        finally:
            self.tell("run_ends")

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

    def _watch_client(self, client: Client) -> None:
        """Tell of a client's work, and of the messages that it sends."""
        self._watch_sending(client.comm_manager)
        self._time(client.trainer, "train", "train")
        self._time(client.trainer, "evaluate", "eval")
        train = client.trainer.train

        def watched(*args: Any, **kwargs: Any) -> Any:
            samples, parameters, results = train(*args, **kwargs)
            self.tell("trained", round_of(client.state), client.ID, results)
            return samples, parameters, results

        client.trainer.train = watched

    def _watch_sending(self, manager: Communication) -> None:
        send = manager.send

        def watched(message: Message) -> None:
            to = message.receiver
            self._see(message, len(to) if isinstance(to, list) else 1)
            send(message)

        manager.send = watched

    def _see(self, message: Message, receivers: int) -> None:
        """Tell of a message, of which there is one for each receiver."""
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
        """Whether a client's message will be taken."""
        return True


class LiveClient(_Live):
    """The part of one client in a distributed run, as listeners see it.

    What the client is asked for is seen where its handlers are called, and
    what it answers where it sends.  So it does not matter what carries the
    messages.

    Args:
        runner: the runner of a client's process, which has not run yet.
        listeners: the listeners, which are told of events in this order.

    Attributes:
        cfg: the configuration.
        worker: the client.
        times_clients: True, as the client works in this process.

    """

    times_clients = True

    def __init__(self, runner: Runner, listeners: Sequence[Listener]) -> None:
        super().__init__(listeners)
        self.cfg = runner.cfg
        self.worker = cast(Client, participant_of(runner))
        self._watch_client(self.worker)
        for kind in ("model_para", "evaluate", "finish"):
            self._watch_handling(kind)

    def run(self, take_part: Callable[[], object]) -> None:
        """Take part in the run until its end.

        Args:
            take_part: runs the runner.

        """
        self._run(take_part)

    def _watch_handling(self, kind: str) -> None:
        handlers = self.worker.msg_handlers
        handle = handlers[kind]

        def watched(message: Message) -> Any:
            self._see(message, 1)
            return handle(message)

        handlers[kind] = watched

    def _see(self, message: Message, receivers: int) -> None:
        super()._see(message, receivers)
        if message.msg_type == "metrics":
            results = {self.worker.ID: dict(message.content)}
            if results[self.worker.ID]:
                self.tell("evaluated", round_of(message.state), results)


class LiveRun(_Live):
    """A run of either host as its listeners see it.

    Args:
        runner: a runner of the host that has not run yet.
        listeners: the listeners, which are told of events in this order.
        pauses: whether the run pauses between rounds, so that listeners can
            be told of each round's end.

    Attributes:
        cfg: the run's configuration.
        server: the run's server.
        worker: the same.
        times_clients: whether the clients work in this process.

    """

    def __init__(
        self,
        runner: Runner,
        listeners: Sequence[Listener],
        pauses: bool = True,
    ) -> None:
        super().__init__(listeners)
        self.cfg = runner.cfg
        self.server = self.worker = runner.server
        self.times_clients = runner.mode == "standalone"
        self._runner = runner
        self._attach(pauses)

    def run(self) -> None:
        """Run to the end."""
        self._run(self._runner.run)

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
            self._watch_client(client)
        if pauses:
            _call_between_rounds(server, self._round_ends)

    def _round_ends(self) -> bool:
        """Tell of the end of a round; returns whether there is another."""
        self.tell("round_ends", self.server.state)
        return not self.stopped

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

    def _watch_receiving(self, manager: Communication) -> None:
        receive = manager.receive

        def watched(*args: Any, **kwargs: Any) -> Any:
            message = receive(*args, **kwargs)
            if message is not None:
                self._see(message, 1)
            return message

        manager.receive = watched

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
