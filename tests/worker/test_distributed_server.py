"""The server of a distributed run, and clients that misbehave.

The clients here are played: they speak the protocol and train nothing.
"""

import contextlib
import copy
import threading
from types import SimpleNamespace

import pytest
import torch
from federatedscope.core.message import Message
from helpers import free_port, wait_for

from fs_plugins.config.agreement import agreed
from fs_plugins.errors import RunError
from fs_plugins.host.comm_manager import CommManager
from fs_plugins.wire import decode, encode, spec_of
from fs_plugins.wire.messages import Joining

RESULTS = {"val_loss": 1.0, "val_total": 2, "val_avg_loss": 0.5, "val_acc": 1}


class Played:
    """A client that answers as told.

    Args:
        ID: its number.
        port: the server's.
        train: message -> what to answer to ``model_para``; None: nothing.
        evaluate: message -> what to answer to ``evaluate``; None: nothing.
        settings: what it says of its configuration as it joins.
    """

    def __init__(
        self, ID, port, train, evaluate=lambda m: RESULTS, settings=None
    ):
        self.ID = ID
        self.settings = settings or {}
        self.refusal = ""
        self.answers = {"model_para": train, "evaluate": evaluate}
        self.seen = []
        self.run = None
        self.manager = CommManager(
            host="127.0.0.1",
            port=free_port(),
            client_num=3,
            cfg=SimpleNamespace(
                role="client",
                grpc_max_send_message_length=10_000_000,
                grpc_max_receive_message_length=10_000_000,
            ),
            options=SimpleNamespace(
                certificate="",
                key="",
                ca="",
                token_file="",
                wait=20.0,
                lost_after=0.5,
            ),
        )
        self.manager.add_neighbors(0, f"127.0.0.1:{port}")
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self):
        with contextlib.suppress(RunError):  # the server has ended before
            self._take_part()
        self.manager.close()

    def _take_part(self):
        joining = Joining("127.0.0.1", self.manager.port, self.settings)
        self._say("join_in", joining.to_content(), 0)
        while not self.manager._closed.is_set():
            message = self.manager.receive(timeout=0.1)
            if message is None:
                continue
            self.seen.append((message.msg_type, message.state))
            if message.msg_type == "finish":
                break
            if message.msg_type == "assign_client_id":
                self.run = message.content.get("run")
                self.refusal = message.content.get("refusal", "")
                if self.refusal:
                    break
                continue
            answer = self.answers[message.msg_type](message)
            if answer is not None:
                kind = {"evaluate": "metrics"}.get(message.msg_type)
                self._say(kind or "model_para", answer, message.state)

    def _say(self, msg_type, content, state):
        self.manager.send(
            Message(
                msg_type=msg_type,
                sender=self.ID,
                receiver=[0],
                state=state,
                timestamp=0,
                content=content,
            )
        )

    def die(self):
        """As a killed process does: nothing is said, the port is closed."""
        self.manager._outboxes.clear()
        self.manager.close()


@pytest.fixture
def server(lab):
    """Starts a server's runner; ``run`` runs it in a thread."""
    started = []

    def call(**changes):
        port = free_port()
        runner = lab.runner(
            federate__mode="distributed",
            federate__share_local_model=False,
            distribute__use=True,
            distribute__role="server",
            distribute__server_host="127.0.0.1",
            distribute__server_port=port,
            fedsa__transport={"wait": 3.0, "lost_after": 0.5},
            **changes,
        )
        result = SimpleNamespace(
            server=runner.server, port=port, error=None, merged=[]
        )
        merge = runner.server.merge_eval_results_from_all_clients

        def recorded():
            answer = merge()
            buffers = runner.server.msg_buffer["eval"]
            result.merged.append(copy.deepcopy(buffers[max(buffers)]))
            return answer

        runner.server.merge_eval_results_from_all_clients = recorded

        def run():
            try:
                runner.run()
            except RunError as error:
                result.error = error

        result.thread = threading.Thread(target=run, daemon=True)
        result.run = result.thread.start
        started.append(result)
        return result

    yield call
    for each in started:
        each.server.is_finish = True
        each.thread.join(20)


def plus(number, samples=8):
    """Trains by adding a number to all that is shared."""

    def train(message):
        tensors = decode(message.content, plus.spec)
        return samples, encode({n: t + number for n, t in tensors.items()})

    return train


def play(at, *trains, **kwargs):
    plus.spec = spec_of(at.server.parameters.shared)
    clients = [
        Played(ID, at.port, train, **kwargs)
        for ID, train in enumerate(trains, 1)
    ]
    at.run()
    return clients


def moved(at):
    """By how much what is shared has moved; it is all the same amount."""
    start = at.server.parameters.initial
    differences = torch.cat(
        [
            (t - start[n]).flatten()
            for n, t in at.server.aggregator.shared.items()
        ]
    )
    assert differences.max() - differences.min() < 1e-5
    return differences.mean().item()


def dies(clients, index):
    """Answers by being gone, once ``clients`` has it at ``index``."""

    def die():
        wait_for(lambda: len(clients) > index)
        clients[index].die()

    return lambda message: threading.Thread(target=die).start()


def ended(at, clients=()):
    at.thread.join(30)
    assert not at.thread.is_alive()
    for client in clients:
        client.thread.join(10)
        assert not client.thread.is_alive()


def test_all_answer(server):
    at = server(fedsa__max_samples=16)
    clients = play(at, plus(1), plus(2), plus(6, samples=16))
    ended(at, clients)
    assert moved(at) == pytest.approx(3 * (1 * 8 + 2 * 8 + 6 * 16) / 32)
    kinds = ["assign_client_id", *["model_para", "evaluate"] * 3, "finish"]
    for client in clients:
        assert [kind for kind, _ in client.seen] == kinds
    assert len({client.run for client in clients}) == 1
    assert at.server.rejected_updates == 0


@pytest.mark.parametrize(
    "answer",
    [
        lambda m: "rubbish",
        lambda m: (8, b"rubbish"),
        lambda m: (8, bytes(5_000_000)),
        lambda m: (-1, m.content),
        lambda m: {"A": [1, 2]},
        lambda m: (10**18, 10**18),
    ],
    ids=["text", "bytes", "too much", "negative", "dict", "numbers"],
)
def test_who_sends_rubbish_harms_only_itself(server, answer):
    at = server()
    clients = play(at, plus(1), plus(3), answer)
    ended(at, clients)
    assert moved(at) == pytest.approx(3 * 2)
    assert at.server.rejected_updates == 3


def test_who_dies_in_a_round_is_not_waited_for(server):
    at, clients = server(), []
    clients += play(at, plus(1), plus(3), dies(clients, 2))
    ended(at, clients[:2])
    assert moved(at) == pytest.approx(3 * 2)
    assert at.server.absent == {3}


def test_who_dies_while_evaluating_is_not_waited_for(server):
    at, clients = server(), []
    clients += play(at, plus(1), plus(3), plus(2))
    clients[2].answers["evaluate"] = dies(clients, 2)
    ended(at, clients[:2])
    assert moved(at) == pytest.approx(3 * 2)
    assert [sorted(each) for each in at.merged] == [[1, 2]] * 3


def test_who_hangs_is_given_up_after_the_round_timeout(server):
    at = server(fedsa__round_timeout=1.0, federate__total_round_num=2)
    clients = play(at, plus(1), plus(3), lambda m: None)
    ended(at, clients)
    assert moved(at) == pytest.approx(2 * 2)
    # It is asked once: until it answers, it is at work.
    assert [k for k, _ in clients[2].seen].count("model_para") == 1


def test_an_answer_after_the_timeout_is_refused_and_forgiven(server):
    at = server(fedsa__round_timeout=1.0, federate__total_round_num=4)
    next_round = threading.Event()

    def late(message):
        if message.state == 0:
            next_round.wait(10)
        return plus(2)(message)

    def first(message):
        if message.state == 1:
            next_round.set()
            wait_for(lambda: at.server.rejected_updates == 1)
        return plus(1)(message)

    clients = play(at, first, plus(3), late)
    ended(at, clients)
    assert at.server.rejected_updates == 1
    rounds = [s for k, s in clients[2].seen if k == "model_para"]
    assert rounds == [0, 2, 3]
    assert moved(at) == pytest.approx(4 * 2)


def test_who_comes_back_joins_the_next_round(server):
    at, clients = server(federate__total_round_num=6), []

    def first(message):
        if message.state == 2:
            wait_for(lambda: len(clients) == 4 and clients[3].run)
        return plus(1)(message)

    clients += play(at, first, plus(3), dies(clients, 2))
    wait_for(lambda: at.server.absent == {3})
    clients.append(Played(3, at.port, plus(2)))
    ended(at, [clients[0], clients[1], clients[3]])
    assert clients[3].run == clients[0].run
    rounds = [s for k, s in clients[3].seen if k == "model_para"]
    # 3 at the latest: round 2 waits for it
    assert rounds == list(range(rounds[0], 6)) and 1 <= rounds[0] <= 3
    assert moved(at) == pytest.approx(6 * 2)
    assert at.server.absent == set()


def test_with_nobody_left_it_stops_with_an_error(server):
    at, clients = server(), []
    clients += play(at, *(dies(clients, i) for i in range(3)))
    ended(at)
    assert "no client has been there for 3 seconds" in str(at.error)
    assert moved(at) == 0


def test_it_goes_on_when_clients_come_back(server):
    at, clients = server(fedsa__min_received=2), []
    clients += play(at, *(dies(clients, i) for i in range(3)))
    wait_for(lambda: at.server.absent == {1, 2, 3})
    again = [Played(ID, at.port, plus(ID)) for ID in (1, 3)]
    ended(at, again)
    assert at.error is None and moved(at) == pytest.approx(3 * 2)


def test_without_all_clients_it_does_not_begin(server):
    at = server()
    play(at, plus(1), plus(1))
    ended(at)
    assert str(at.error) == "2 of 3 clients have joined in 3 seconds"


def test_who_is_set_up_otherwise_is_told_so_and_may_come_again(server):
    at = server()
    right = agreed(at.server._cfg)
    clients = play(at, plus(1), plus(3), settings=right)
    wrong = Played(3, at.port, plus(9), settings=right | {"seed": "2"})
    wait_for(lambda: wrong.refusal)
    assert "seed is 2 and not 1" in wrong.refusal
    again = Played(3, at.port, plus(2), settings=right)
    ended(at, [*clients, again])
    assert at.error is None and moved(at) == pytest.approx(3 * 2)


def test_who_evaluates_alone_without_an_example_ends_nothing(server):
    """It has none of the split that the best round is chosen by."""
    at, clients = server(federate__total_round_num=2), []
    clients += play(at, plus(1), plus(3), plus(2))
    without = {k: v for k, v in RESULTS.items() if not k.startswith("val")}
    clients[0].answers["evaluate"] = lambda m: without
    clients[1].answers["evaluate"] = dies(clients, 1)
    clients[2].answers["evaluate"] = dies(clients, 2)
    ended(at, clients[:1])
    assert at.error is None and at.server.is_finish


def test_a_resumed_run_goes_on_without_who_stays_away(server):
    """Who comes late takes part from then on; a new run waits for all."""
    at, clients = server(federate__total_round_num=6), []
    at.server.go_on_as("0123456789abcdef")
    at.server.state = 2

    def first(message):
        if message.state == 4:
            wait_for(lambda: len(clients) == 3 and clients[2].run)
        return plus(1)(message)

    clients += play(at, first, plus(3))
    wait_for(lambda: ("model_para", 2) in clients[0].seen)
    clients.append(Played(3, at.port, plus(2)))
    ended(at, clients)
    assert at.error is None and {c.run for c in clients} == {
        at.server.run_name
    }
    assert at.server.run_name == "0123456789abcdef"
    rounds = [s for k, s in clients[0].seen if k == "model_para"]
    assert rounds == [2, 3, 4, 5]
    late = [s for k, s in clients[2].seen if k == "model_para"]
    assert late and late == rounds[-len(late) :]
    assert moved(at) == pytest.approx(4 * 2)


@pytest.mark.parametrize("count", [0, 3])
def test_a_run_that_is_resumed_after_its_last_round_ends(server, count):
    """Whoever has not been told of the end is told."""
    at = server()
    at.server.go_on_as("0123456789abcdef")
    at.server.state = at.server.total_round_num
    clients = play(at, *[plus(1)] * count)
    ended(at, clients)
    assert at.error is None and moved(at) == 0
    for client in clients:
        assert [k for k, _ in client.seen] == ["assign_client_id", "finish"]


@pytest.mark.parametrize(
    "results",
    [
        "fine",
        {"val_acc": "high"},
        {"val_loss": 1.0},  # of how many examples?
        RESULTS | {"val_total": -5},
        RESULTS | {"val_total": float("inf")},
        RESULTS | {"val_f1": 0.5},  # which the others don't have
        RESULTS | {"key": 1.0},
        {1: 2},
    ],
)
def test_results_that_cannot_be_averaged_are_left_out(server, results):
    at = server(federate__total_round_num=1)
    clients = play(at, plus(1), plus(1), plus(1))
    clients[2].answers["evaluate"] = lambda m: results
    ended(at, clients)
    assert at.error is None
    merged = at.server.history_results["Results_weighted_avg"]
    assert merged["val_acc"] == [1.0]
    with_acc = {ID for ID, r in at.merged[0].items() if "val_acc" in r}
    assert with_acc == {1, 2}


def test_sampling_draws_what_a_standalone_run_draws(server, lab):
    at = server(federate__sample_client_num=2, federate__total_round_num=6)
    clients = play(at, plus(1), plus(1), plus(1))
    ended(at, clients)
    distributed = [
        {c.ID for c in clients if ("model_para", rnd) in c.seen}
        for rnd in range(6)
    ]
    runner = lab.runner(
        federate__sample_client_num=2, federate__total_round_num=6
    )
    drawn = []
    sample = runner.server.sampler.sample
    runner.server.sampler.sample = lambda size: (
        drawn.append(sample(size=size)) or drawn[-1]
    )
    runner.run()
    assert distributed == [set(each) for each in drawn]
    assert len({frozenset(each) for each in distributed}) > 1
