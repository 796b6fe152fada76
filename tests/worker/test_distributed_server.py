"""The server of a distributed run, and clients that misbehave.

The clients here are played: they answer tasks as FLARE's sites do and train
nothing.
"""

import copy
import math
import queue
import threading
from types import SimpleNamespace

import pytest
import torch
from helpers import wait_for

from fs_plugins.config.agreement import agreed
from fs_plugins.engine.links import ServerLink
from fs_plugins.errors import Interrupted, RunError
from fs_plugins.wire import decode, encode, spec_of
from fs_plugins.wire.messages import Joining

RESULTS = {"val_loss": 1.0, "val_total": 2, "val_avg_loss": 0.5, "val_acc": 1}
KINDS = {"evaluate": "metrics", "model_para": "model_para"}


class GoneError(Exception):
    """The client's process has ended; nobody answers."""


def saying(msg_type, content, state=0):
    """A message as it travels."""
    fields = {"msg_type": msg_type, "state": state, "timestamp": 0}
    return fields | {"content": content}


class Played:
    """A client that answers as told.

    Args:
        ID: its number.
        train: message -> what to answer to ``model_para``; None: nothing.
        evaluate: message -> what to answer to ``evaluate``; None: nothing.
        settings: what it says of its configuration as it joins.
        joins: the messages with which it joins, if not one as it should be.
        changed: (messages of a result) -> what it returns in their place.

    Attributes:
        seen: the kinds and states of the messages that it has got.
        run: the name of the run that it was admitted to.
        refusal: why it was not admitted.

    """

    def __init__(
        self,
        ID,
        train,
        evaluate=lambda m: RESULTS,
        settings=None,
        joins=None,
        changed=lambda messages: messages,
    ):
        self.ID = ID
        joining = saying("join_in", Joining(settings or {}).to_content())
        self.joins = [joining] if joins is None else joins
        self.answers = {"model_para": train, "evaluate": evaluate}
        self.changed = changed
        self.seen, self.run, self.refusal = [], None, ""
        self.tasks = queue.SimpleQueue()

    def live(self, link):
        """Answer tasks until there are no more."""
        for fields in iter(self.tasks.get, None):
            try:
                messages = self.changed(self._answer(fields))
            except GoneError:
                return
            link.take(f"site-{self.ID}", messages, "")

    def _answer(self, fields):
        if not fields:
            return self.joins
        kind, content = fields["msg_type"], fields["content"]
        self.seen.append((kind, fields["state"]))
        if kind == "assign_client_id":
            self.run, self.refusal = content.get("run"), content.get("refusal")
        if kind not in self.answers:
            return []
        answer = self.answers[kind](SimpleNamespace(**fields))
        if answer is None:
            return []
        return [saying(KINDS[kind], answer, fields["state"])]


class Stage:
    """A server's runner, which runs in a thread, and its played clients.

    Attributes:
        gone: the names of the sites of which FLARE says that they are gone.
        is_aborted: whether the job is ended.
        merged: the results of the clients in each evaluation.
        error: what the run has ended with.

    """

    def __init__(self, lab, needed=3, **changes):
        self.gone, self.is_aborted = set(), False
        self.clients, self.merged, self.error = {}, [], None
        self.link = ServerLink(
            [f"site-{ID}" for ID in (1, 2, 3)],
            self._post,
            self.gone.__contains__,
            lambda: self.is_aborted,
            needed,
        )
        wait = {"fedsa__transport": {"wait": 1.0}}
        self.runner = lab.part(0, self.link, **wait | changes)
        self.server = self.runner.server
        self.spec = spec_of(self.server.parameters.shared)
        self.thread = threading.Thread(target=self._run, daemon=True)
        merge = self.server.merge_eval_results_from_all_clients

        def recorded():
            answer = merge()
            buffers = self.server.msg_buffer["eval"]
            self.merged.append(copy.deepcopy(buffers[max(buffers)]))
            return answer

        self.server.merge_eval_results_from_all_clients = recorded

    def _post(self, site, fields):
        client = self.clients.get(int(site[-1]))
        if client is not None:
            client.tasks.put(fields)

    def _run(self):
        try:
            self.runner.run()
        except (RunError, Interrupted) as error:
            self.error = error
        for client in self.clients.values():
            client.tasks.put(None)

    def plus(self, number, samples=8):
        """Trains by adding a number to all that is shared."""

        def train(message):
            tensors = decode(message.content, self.spec)
            moved = {n: t + number for n, t in tensors.items()}
            return samples, encode(moved)

        return train

    def dies(self, ID):
        """Answers by being gone."""

        def die(message):
            self.gone.add(f"site-{ID}")
            raise GoneError

        return die

    def play(self, *clients):
        """Begin with these clients."""
        self.clients |= {client.ID: client for client in clients}
        for client in clients:
            threading.Thread(
                target=client.live, args=(self.link,), daemon=True
            ).start()
        self.link.ask_to_join()
        self.thread.start()

    def ends(self):
        """Wait for the end."""
        self.thread.join(30)
        assert not self.thread.is_alive()

    @property
    def moved(self):
        """By how much what is shared has moved; all by the same amount."""
        start = self.server.parameters.initial
        shared = self.server.aggregator.shared
        moves = torch.cat(
            [(t - start[n]).flatten() for n, t in shared.items()]
        )
        assert moves.max() - moves.min() < 1e-5
        return moves.mean().item()


@pytest.fixture
def stage(lab):
    """Makes a ``Stage``, whose run ends with the test."""
    made = []

    def call(**changes):
        made.append(Stage(lab, **changes))
        return made[-1]

    yield call
    for each in made:
        each.is_aborted = True
        if each.thread.ident:
            each.thread.join(20)


def seen_by(client, kind="model_para"):
    """The states of the messages of a kind that a client has got."""
    return [state for each, state in client.seen if each == kind]


def test_all_answer(stage):
    at = stage(fedsa__max_samples=16)
    trains = at.plus(1), at.plus(2), at.plus(6, samples=16)
    clients = [Played(ID, train) for ID, train in enumerate(trains, 1)]
    at.play(*clients)
    at.ends()
    assert at.error is None and at.server.rejected_updates == 0
    assert at.moved == pytest.approx(3 * (1 * 8 + 2 * 8 + 6 * 16) / 32)
    kinds = ["assign_client_id", *["model_para", "evaluate"] * 3, "finish"]
    for client in clients:
        assert [kind for kind, _ in client.seen] == kinds
    assert {client.run for client in clients} == {at.server.run_name}


@pytest.mark.parametrize(
    "answer",
    [
        lambda m: "rubbish",
        lambda m: (8, b"rubbish"),
        lambda m: (8, bytes(5_000_000)),
        lambda m: (-1, m.content),
        lambda m: {"A": [1, 2]},
        lambda m: (10**18, 10**18),
        lambda m: (8, spoilt(m.content, math.nan)),
        lambda m: (8, spoilt(m.content, math.inf)),
    ],
    ids=[
        *("text", "bytes", "too much", "negative", "dict", "numbers"),
        *("nan", "inf"),
    ],
)
def test_who_sends_rubbish_harms_only_itself(stage, answer):
    at = stage()
    trains = at.plus(1), at.plus(3), answer
    at.play(*[Played(ID, train) for ID, train in enumerate(trains, 1)])
    at.ends()
    assert at.error is None and at.moved == pytest.approx(3 * 2)
    assert at.server.rejected_updates == 3


def spoilt(payload, value):
    """A payload all of whose values are replaced."""
    from safetensors.torch import load

    tensors = load(payload)
    return encode({n: torch.full_like(t, value) for n, t in tensors.items()})


good = saying("join_in", {"settings": {}})
WRONG_JOINS = {
    "none": [],
    "no message": [5, None, "join_in", {}, {"msg_type": "join_in"}],
    "more fields": [good | {"sender": 1}],
    "another kind": [good | {"msg_type": kind} for kind in (
        "assign_client_id", "finish", "evaluate", "gossip", None, 5, [])],
    "no settings": [good | {"content": c} for c in (None, [], "a", 5)],
    "rubbish": [good | {"content": {"settings": c}} for c in (
        5, {"seed": 1}, {"seed": "1" * 81}, {"a b": "1"},
        {f"k{i}": "1" for i in range(5000)})],
    "others": [good | {"content": {"settings": {"seed": "2"}}}],
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG_JOINS)
def test_who_does_not_join_as_it_should_is_left_out(stage, how):
    at = stage(needed=2, federate__total_round_num=2)
    third = Played(3, at.plus(9), joins=WRONG_JOINS[how])
    at.play(Played(1, at.plus(1)), Played(2, at.plus(3)), third)
    at.ends()
    assert at.error is None and at.moved == pytest.approx(2 * 2)
    assert "model_para" not in dict(third.seen)


def test_joining_twice_is_joining_once(stage):
    """Whenever the second time is."""
    at = stage()
    third = Played(3, at.plus(2), joins=[good] * 3)
    third.changed = lambda messages: [*messages, good]
    at.play(Played(1, at.plus(1)), Played(2, at.plus(3)), third)
    at.ends()
    assert at.error is None and at.moved == pytest.approx(3 * 2)
    assert seen_by(third) == [0, 1, 2]


NO_ANSWERS = [
    lambda m: [m],
    lambda m: list(m.items()),
    lambda m: m | {"sender": 1},
    lambda m: m | {"receiver": [1]},
    lambda m: m | {"state": m["state"] + 1},
    lambda m: m | {"state": 10**9},
    lambda m: m | {"state": -1},
    lambda m: m | {"state": "0"},
    lambda m: m | {"msg_type": "gossip"},
    lambda m: m | {"msg_type": {}},
    lambda m: m | {"msg_type": "finish"},
    lambda m: m | {"msg_type": "join_in_info", "content": {"num_sample": 8}},
]


@pytest.mark.parametrize(
    "changed",
    [
        lambda messages: {"messages": messages},
        lambda messages: [no(m) for m in messages for no in NO_ANSWERS],
    ],
    ids=["no list", "no answers"],
)
def test_a_result_that_answers_nothing_is_waited_for_no_longer(stage, changed):
    """What a site returns in the place of its answers counts for nothing."""
    at = stage(fedsa__round_timeout=0.5, federate__total_round_num=1)
    third = Played(3, at.plus(9))
    third.changed = lambda messages: (
        changed(messages) if third.seen else messages
    )
    at.play(Played(1, at.plus(1)), Played(2, at.plus(3)), third)
    at.ends()
    assert at.error is None and at.moved == pytest.approx(2)
    assert [sorted(each) for each in at.merged] == [[1, 2]]


def test_a_flood_in_one_result_changes_nothing(stage):
    """An answer counts once, whatever is beside it."""
    at = stage()
    third = Played(3, at.plus(2))

    def flood(messages):
        rubbish = [saying("model_para", (8, b"x"), s) for s in range(200)]
        rubbish += [saying("metrics", RESULTS, s) for s in range(200)]
        rubbish += [saying(kind, None) for kind in ("join_in", "x", "finish")]
        return [*messages, *messages, *rubbish, None] * 3

    third.changed = flood
    at.play(Played(1, at.plus(1)), Played(2, at.plus(3)), third)
    at.ends()
    assert at.error is None and at.moved == pytest.approx(3 * 2)
    assert [sorted(each) for each in at.merged] == [[1, 2, 3]] * 3
    assert len(at.link.neighbors) == 3


def test_who_dies_in_a_round_is_not_waited_for(stage):
    at = stage(needed=2)
    trains = at.plus(1), at.plus(3), at.dies(3)
    at.play(*[Played(ID, train) for ID, train in enumerate(trains, 1)])
    at.ends()
    assert at.error is None and at.moved == pytest.approx(3 * 2)
    assert at.server.absent == {3} and at.link.has_lost


def test_who_dies_while_evaluating_is_not_waited_for(stage):
    at = stage(needed=2)
    third = Played(3, at.plus(2), at.dies(3))
    at.play(Played(1, at.plus(1)), Played(2, at.plus(3)), third)
    at.ends()
    assert at.error is None and at.moved == pytest.approx(3 * 2)
    assert [sorted(each) for each in at.merged] == [[1, 2]] * 3


@pytest.mark.parametrize("needed", [2, 3])
def test_a_site_that_says_what_is_wrong_is_given_up_by_name(stage, needed):
    """Its part has ended, while its process answers tasks."""
    at = stage(needed=needed)

    def fails(message):
        at.link.take("site-3", [], "its data cannot be used")
        raise GoneError

    trains = at.plus(1), at.plus(3), fails
    at.play(*[Played(ID, train) for ID, train in enumerate(trains, 1)])
    at.ends()
    assert not at.link.has_lost
    if needed == 3:
        assert str(at.error) == "site-3: its data cannot be used"
    else:
        assert at.error is None and at.moved == pytest.approx(3 * 2)


def test_a_run_that_needs_all_ends_with_the_first_that_is_gone(stage):
    at = stage()
    trains = at.plus(1), at.plus(3), at.dies(3)
    at.play(*[Played(ID, train) for ID, train in enumerate(trains, 1)])
    at.ends()
    assert str(at.error) == "site-3: it is disconnected"
    assert at.moved == 0


def test_with_nobody_left_it_stops_with_an_error(stage):
    at = stage(needed=1)
    at.play(*[Played(ID, at.dies(ID)) for ID in (1, 2, 3)])
    at.ends()
    for ID in (1, 2, 3):
        assert f"site-{ID}: it is disconnected" in str(at.error)
    assert at.moved == 0


def test_an_aborted_job_ends(stage):
    """While the server waits for an answer that does not come."""
    at = stage()
    asked = threading.Event()

    def hang(message):
        asked.set()

    trains = at.plus(1), at.plus(3), hang
    at.play(*[Played(ID, train) for ID, train in enumerate(trains, 1)])
    assert asked.wait(30)
    at.is_aborted = True
    at.ends()
    assert isinstance(at.error, Interrupted)


@pytest.mark.parametrize("is_blocked", [True, False])
def test_who_hangs_is_given_up_after_the_round_timeout(stage, is_blocked):
    """Whether its task is never answered, or by nothing."""
    at = stage(fedsa__round_timeout=0.5, federate__total_round_num=2)
    at.link.patience = 0.3

    def hang(message):
        if is_blocked:
            raise GoneError  # FLARE says nothing of it: its process lives

    third = Played(3, hang)
    at.play(Played(1, at.plus(1)), Played(2, at.plus(3)), third)
    at.ends()
    assert at.error is None and at.moved == pytest.approx(2 * 2)
    # Until it answers, it is at work.  An empty answer is one, and refused.
    assert len(seen_by(third)) == (1 if is_blocked else 2)


def test_an_answer_after_the_timeout_is_refused_and_forgiven(stage):
    at = stage(fedsa__round_timeout=0.5, federate__total_round_num=4)
    next_round = threading.Event()

    def late(message):
        if message.state == 0:
            next_round.wait(10)
        return at.plus(2)(message)

    def first(message):
        if message.state == 1:
            next_round.set()
            wait_for(lambda: at.server.rejected_updates == 1)
        return at.plus(1)(message)

    third = Played(3, late)
    at.play(Played(1, first), Played(2, at.plus(3)), third)
    at.ends()
    assert at.server.rejected_updates == 1
    assert seen_by(third) == [0, 2, 3]
    assert at.moved == pytest.approx(4 * 2)


@pytest.mark.parametrize("state", [0, 1])
def test_without_the_clients_that_it_needs_it_does_not_begin(stage, state):
    """Nor does a run that goes on from a checkpoint."""
    at = stage(needed=3)
    at.server.state = state
    at.play(Played(1, at.plus(1)), Played(2, at.plus(1)))
    at.ends()
    assert str(at.error) == "2 of 3 clients have joined in 1 seconds"


def test_who_comes_late_has_missed_the_run(stage):
    """The others have begun without it; it comes to the next job."""
    at = stage(needed=2)
    third, begun = Played(3, at.plus(9)), threading.Event()

    def joins(messages):
        begun.wait(30)
        return messages

    def first(message):
        begun.set()
        if message.state == 1:
            wait_for(lambda: at.server.rejected_messages == 1)
        return at.plus(1)(message)

    third.changed = joins
    at.play(Played(1, first), Played(2, at.plus(3)), third)
    at.ends()
    assert at.error is None and at.moved == pytest.approx(3 * 2)
    assert third.seen == []


@pytest.mark.parametrize("needed", [2, 3])
def test_who_is_set_up_otherwise_is_told_so(stage, needed):
    """And so is the one who has asked for the run, if it needs the site."""
    at = stage(needed=needed)
    right = agreed(at.server._cfg)
    wrong = Played(3, at.plus(9), settings=right | {"seed": "2"})
    at.play(
        Played(1, at.plus(1), settings=right),
        Played(2, at.plus(3), settings=right),
        wrong,
    )
    at.ends()
    wait_for(lambda: wrong.refusal)
    assert "seed is 2 and not 1" in wrong.refusal
    assert [kind for kind, _ in wrong.seen] == ["assign_client_id"]
    if needed == 3:
        assert str(at.error) == f"site-3: {wrong.refusal}"
    else:
        assert at.error is None and at.moved == pytest.approx(3 * 2)


def test_who_evaluates_alone_without_an_example_ends_nothing(stage):
    """It has none of the split that the best round is chosen by."""
    at = stage(needed=1, federate__total_round_num=2)
    without = {k: v for k, v in RESULTS.items() if not k.startswith("val")}
    at.play(
        Played(1, at.plus(1), lambda m: without),
        Played(2, at.plus(3), at.dies(2)),
        Played(3, at.plus(2), at.dies(3)),
    )
    at.ends()
    assert at.error is None and at.server.is_finish


@pytest.mark.parametrize("count", [0, 3])
def test_a_run_that_is_resumed_after_its_last_round_ends(stage, count):
    """Whoever has not been told of the end is told."""
    at = stage()
    at.server.state = at.server.total_round_num
    at.play(*[Played(ID, at.plus(1)) for ID in (1, 2, 3)[:count]])
    at.ends()
    assert at.error is None and at.moved == 0
    for client in at.clients.values():
        kinds = [kind for kind, _ in client.seen]
        assert kinds == ["assign_client_id", "finish"]


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
def test_results_that_cannot_be_averaged_are_left_out(stage, results):
    at = stage(federate__total_round_num=1)
    third = Played(3, at.plus(1), lambda m: results)
    at.play(Played(1, at.plus(1)), Played(2, at.plus(1)), third)
    at.ends()
    assert at.error is None
    merged = at.server.history_results["Results_weighted_avg"]
    assert merged["val_acc"] == [1.0]
    with_acc = {ID for ID, r in at.merged[0].items() if "val_acc" in r}
    assert with_acc == {1, 2}


def test_sampling_draws_what_a_standalone_run_draws(stage, lab):
    at = stage(federate__sample_client_num=2, federate__total_round_num=6)
    clients = [Played(ID, at.plus(1)) for ID in (1, 2, 3)]
    at.play(*clients)
    at.ends()
    distributed = [
        {c.ID for c in clients if rnd in seen_by(c)} for rnd in range(6)
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
