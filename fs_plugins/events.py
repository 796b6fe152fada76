"""What happens in a run, told to whoever listens.

Here, and nowhere else, methods of the host's live objects are replaced: once
for a runner, on behalf of all listeners.  So recording, progress, tracking
and checkpoints know neither each other nor the host.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Results = Mapping[str, float]  # <split>_<metric>: value


class Listener:
    """Is told what happens in a run; any of its methods may be overridden.

    Rounds count from 1.  An exception that a listener raises ends the run.
    """

    def run_begins(self, run: "Run") -> None:
        """Nothing has been sent yet.

        Args:
            run: the run, which outlives the call.

        """

    def clients_joined(self) -> None:
        """All participants are there; the first message is about to go."""

    def round_begins(self, rnd: int, clients: int) -> None:
        """Clients are asked to train.

        Args:
            rnd: the round.
            clients: how many; a second call in a round adds to the first.

        """

    def message_passes(self, message: Any, receivers: int) -> None:
        """A message with parameters passes between server and clients.

        Args:
            message: of FederatedScope, whose ``state`` is the round less 1.
            receivers: how many it goes to.

        """

    def client_trained(self, client: int) -> None:
        """A client has sent its update."""

    def evaluation_begins(self, clients: int) -> None:
        """So many (more) clients are asked to evaluate."""

    def client_evaluated(self, client: int) -> None:
        """A client has sent its results."""

    def evaluated(self, rnd: int, clients: Mapping[int, Results]) -> None:
        """All results after a round are there.

        Args:
            rnd: the round that has just ended.
            clients: each client's results; those of 0 are the server's, if
                it evaluates in their place.

        """

    def recorded(self, line: Mapping[str, Any]) -> None:
        """A line of ``metrics.jsonl`` is written: results, and bytes so far.

        Args:
            line: ``round``, ``weighted``, ``mean``, ``clients``,
                ``uplink_bytes`` and ``downlink_bytes``.

        """

    def took(self, what: str, seconds: float) -> None:
        """A piece of work is done.

        Args:
            what: ``train`` or ``eval``, at a client, or ``aggregate``.
            seconds: how long it took.

        """

    def round_ends(self, rnd: int) -> None:
        """Nothing is under way: the run could stop here and go on later.

        It is told in standalone runs, after every round but the last.

        Args:
            rnd: the round.

        """

    def run_ends(self) -> None:
        """The run is over, whether it has come to its end or not."""


LISTENERS: list[type[Listener]] = []


def register_listener(listener: type[Listener]) -> None:
    """Have the runs that name this plugin file told to a listener.

    Args:
        listener: its class, defined in a file that ``fedsa.plugins`` names;
            each run makes one, without arguments.

    """
    LISTENERS.append(listener)


def listeners_of(plugins: Sequence[str]) -> list[Listener]:
    """New listeners of the classes that these files have registered.

    Args:
        plugins: ``fedsa.plugins``.

    """
    files = {str(Path(each).absolute()) for each in plugins}
    return [
        listener()
        for listener in LISTENERS
        if getattr(sys.modules[listener.__module__], "__file__", "") in files
    ]


class Run:
    """A run of either host as its listeners see it.

    Args:
        runner: the host's, not yet run.
        listeners: are told in this order.
        pauses: whether the run pauses between rounds, so that they can be
            told of each round's end.

    Attributes:
        cfg: the run's configuration.
        server: the run's server.
        times_clients: whether the clients work in this process.

    """

    def __init__(
        self, runner: Any, listeners: Sequence[Listener], pauses: bool = True
    ) -> None:
        self.cfg = runner.cfg
        self.server = runner.server
        self.times_clients = runner.mode == "standalone"
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

    def tell(self, what: str, *facts: Any) -> None:
        """Call a method of every listener.

        Args:
            what: the method's name.
            facts: its arguments.

        """
        for listener in self._listeners:
            getattr(listener, what)(*facts)

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
            return
        for client in self._runner.client.values():
            self._watch_sending(client.comm_manager)
            self._time(client.trainer, "train", "train")
            self._time(client.trainer, "evaluate", "eval")
        if pauses:
            _call_between_rounds(
                server, lambda: self.tell("round_ends", server.state)
            )

    def _time(self, owner: Any, method: str, what: str) -> None:
        function = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.tell("took", what, time.perf_counter() - begin)

        setattr(owner, method, timed)

    def _watch_joining(self, server: Any) -> None:
        broadcast = server.broadcast_model_para

        def first(*args: Any, **kwargs: Any) -> Any:
            server.broadcast_model_para = broadcast
            self.tell("clients_joined")
            return broadcast(*args, **kwargs)

        server.broadcast_model_para = first

    def _watch_sending(self, manager: Any) -> None:
        send = manager.send

        def watched(message: Any) -> None:
            to = message.receiver
            self._see(message, len(to) if isinstance(to, list) else 1)
            send(message)

        manager.send = watched

    def _watch_receiving(self, manager: Any) -> None:
        receive = manager.receive

        def watched(*args: Any, **kwargs: Any) -> Any:
            message = receive(*args, **kwargs)
            if message is not None:
                self._see(message, 1)
            return message

        manager.receive = watched

    def _see(self, message: Any, receivers: int) -> None:
        kind = message.msg_type
        if kind in ("model_para", "evaluate", "finish"):
            self.tell("message_passes", message, receivers)
        if kind == "model_para" and message.sender == 0:
            self.tell("round_begins", message.state + 1, receivers)
        elif kind == "model_para":
            self.tell("client_trained", message.sender)
        elif kind == "evaluate":
            self.tell("evaluation_begins", receivers)
        elif kind == "metrics":
            self.tell("client_evaluated", message.sender)

    def _watch_merging(self, server: Any) -> None:
        merge = server.merge_eval_results_from_all_clients

        def watched() -> Any:
            merged = merge()
            rnd = max(server.msg_buffer["eval"])
            results = server.msg_buffer["eval"][rnd]
            clients = {ID: dict(r) for ID, r in results.items() if r}
            self.tell("evaluated", rnd + 1, clients)
            return merged

        server.merge_eval_results_from_all_clients = watched

    def _watch_global_evaluation(self, server: Any) -> None:
        self._time(server.trainer, "evaluate", "eval")
        evaluate, evaluate_all = server.trainer.evaluate, server.eval
        results: dict[str, float] = {}

        def keep(*args: Any, **kwargs: Any) -> Any:
            found = evaluate(*args, **kwargs)
            results.update(found)
            return found

        def watched() -> None:
            rnd = server.state
            evaluate_all()
            self.tell("evaluated", rnd, {0: dict(results)})

        server.trainer.evaluate, server.eval = keep, watched


def _call_between_rounds(server: Any, action: Callable[[], None]) -> None:
    """Call ``action`` before each round but the first.

    All updates are in then, and all results of the evaluation before it.
    The host's own server begins the next round while its clients still
    evaluate; here it waits for them.  The clients do the same, in the same
    order, either way.

    Args:
        server: of either kind, not yet run.
        action: may raise, which ends the run.

    """
    begin = server._start_new_training_round
    evaluate = server.eval
    merge = server._merge_and_format_eval_results
    waiting: list[tuple[Any, ...]] = []  # the round that must wait
    awaited = [False]  # whether the host's clients evaluate

    def is_evaluating() -> bool:
        # Our own server knows; it calls again once all are in.
        return bool(getattr(server, "_evaluating", awaited[0]))

    def begun(*args: Any) -> None:
        if not is_evaluating():
            action()
            begin(*args)
        elif hasattr(server, "_evaluating"):
            begin(*args)
        else:
            waiting.append(args)

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
