"""One client that lies, against a server with all that listens to a run.

The clients are played: the honest ones answer as clients do and train
nothing, and client 3 sends whatever the test says, whenever it says.
"""

import collections
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from federatedscope.core.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs_plugins.errors import RunError
from fs_plugins.experiment.events import LiveRun
from fs_plugins.experiment.progress import Bar
from fs_plugins.experiment.recorder import Recorder
from fs_plugins.experiment.summary import facts_of
from fs_plugins.listeners import Listener
from fs_plugins.wire import decode, encode, spec_of

RESULTS = {"loss": 1.0, "total": 2, "avg_loss": 0.5, "acc": 1.0}
GOOD = {f"{split}_{k}": v for split in ("val", "test") for k, v in
        RESULTS.items()}  # fmt: skip
LIAR = 3


class Watching(Listener):
    """Fails at anything that no honest client sends."""

    def message_passes(self, message, receivers):
        if message.sender:
            samples, payload = message.content
            assert 0 <= samples <= 8 and type(payload) in (bytes, str)

    def client_trained(self, client):
        assert client in (1, 2, LIAR)


class Play:
    """A server in the middle of played clients.

    Args:
        runner: a runner that has not run, whose server is copied.
        lies: by moment, what client 3 sends in its place: ``(kind, state,
            content)``; a state of None stands for the right one.
        clients: how many there are; the last one is the liar.
    """

    def __init__(self, runner, lies, clients=LIAR, **changes):
        cfg = runner.cfg.clone()
        cfg.defrost()
        cfg.federate.client_num = clients
        for key, value in changes.items():
            node = cfg
            *path, name = key.split("__")
            for part in path:
                node = node[part]
            node[name] = value
        self.server = type(runner.server)(
            ID=0,
            config=cfg,
            data=runner.data[0],
            model=runner.server.model,
            client_num=clients,
            total_round_num=2,
            device="cpu",
            shared_comm_queue=collections.deque(),
        )
        self.server.parameters.delta.restore({})  # that of another play
        self.spec = spec_of(self.server.parameters.shared)
        self.cfg, self.lies, self.liar = cfg, lies, clients
        self.sent, self.inbox = collections.deque(), collections.deque()
        manager = self.server.comm_manager
        manager.send = self.sent.append
        manager.receive = self.inbox.popleft
        self.recorder = Recorder(cfg, facts_of(cfg))
        fake = SimpleNamespace(
            cfg=cfg, server=self.server, mode="distributed", client={}
        )
        self.live = LiveRun(
            fake, [self.recorder, Bar("run", 2), Watching()], pauses=False
        )
        self.asked = []

    def run(self):
        self.live.tell("run_begins", self.live)
        try:
            self._lie("before", 0)
            for client in range(1, self.liar + 1):
                self._say(client, "join_in", 0, None)
            while self.sent:
                self._answer(self.sent.popleft())
            self._lie("end", self.server.state)
        finally:
            self.live.tell("run_ends")
        return self

    def _answer(self, message):
        moment = {"model_para": "round", "evaluate": "evaluation"}.get(
            message.msg_type
        )
        if moment is None:
            return
        self.asked.append((moment, message.state, tuple(message.receiver)))
        if self.liar in message.receiver:
            self._lie(moment, message.state)
        for client in message.receiver:
            if client != self.liar:
                self._say(client, *self._honest(client, message))
        awaited = self.server._training | self.server._evaluating
        if self.liar in awaited and not self.sent:
            self.server._give_up({self.liar}, "is gone")

    def _honest(self, client, message):
        if message.msg_type == "evaluate":
            return "metrics", message.state, dict(GOOD)
        values = decode(message.content, self.spec)
        moved = {name: t + client for name, t in values.items()}
        return "model_para", message.state, (8, encode(moved))

    def _lie(self, moment, state):
        for kind, of, content in self.lies.get(moment, ()):
            if callable(content):
                content = content(self)
            self._say(self.liar, kind, state if of is None else of, content)

    def _say(self, sender, kind, state, content):
        self.inbox.append(
            Message(
                msg_type=kind,
                sender=sender,
                receiver=[0],
                state=state,
                content=content,
            )
        )
        self.server._handle(self.server.comm_manager.receive())

    @property
    def moved(self):
        """By how much what is shared has moved, in all places alike."""
        start = self.server.parameters.initial
        shared = self.server.aggregator.shared
        moves = torch.cat(
            [(t - start[n]).flatten() for n, t in shared.items()]
        )
        assert float(moves.max() - moves.min()) < 1e-5
        return float(moves.mean())


@pytest.fixture(scope="module")
def runner(make_lab, tmp_path_factory):
    return make_lab(tmp_path_factory.mktemp("liars")).runner()


def lines_of(play):
    file = Path(play.cfg.outdir) / "metrics.jsonl"
    return [
        json.loads(line, parse_constant=pytest.fail)
        for line in file.read_text().splitlines()
    ]


def update(value, samples=8):
    """The liar's update: all parameters have this value."""

    def made(play):
        shared = play.server.aggregator.shared
        return samples, encode(
            {n: torch.full_like(t, value) for n, t in shared.items()}
        )

    return made


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([torch.zeros(2), torch.tensor(1), 10**400, 8, "val_acc"])
)
contents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(st.just(8), inner)
        | st.dictionaries(
            st.sampled_from([*GOOD, "host", "port", "x"]) | st.integers(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
) | st.fixed_dictionaries(dict.fromkeys(GOOD, st.floats()))
lies = st.dictionaries(
    st.sampled_from(["before", "round", "evaluation", "end"]),
    st.lists(
        st.tuples(
            st.sampled_from(["join_in", "join_in_info", "model_para",
                             "metrics", "evaluate", "finish", "other"]),
            st.none() | st.integers(-2, 3) | st.sampled_from([2**70, "x"]),
            contents,
        ),
        max_size=3,
    ),
)  # fmt: skip


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(lies=lies)
def test_whatever_a_client_sends_the_others_go_on(runner, lies):
    """To the same parameters as without it, with results that are JSON."""
    play = Play(runner, lies).run()
    assert play.server.is_finish
    assert play.moved == pytest.approx(2 * 1.5)
    for line in lines_of(play)[-2:]:
        assert line["clients"].keys() >= {"1", "2"}
        assert all(map(math.isfinite, line["weighted"].values()))
        if "3" not in line["clients"]:
            assert line["weighted"] == pytest.approx(GOOD | {
                k: 2 * GOOD[k] for k in GOOD if k.endswith(("_loss", "total"))
                and "avg" not in k})  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [[8, {"a": "b"}], [8, {1: torch.zeros(1)}], (8, {}), {"a": 1}, None],
    ids=str,
)
@pytest.mark.parametrize("moment", ["before", "round", "evaluation", "end"])
def test_a_message_that_cannot_be_encoded_is_refused(runner, moment, content):
    lie = ("model_para", None, content)
    play = Play(runner, {moment: [lie]}).run()
    assert play.server.is_finish and play.moved == pytest.approx(3)
    assert play.server.rejected_updates == {"end": 0}.get(
        moment, 1 if moment == "before" else 2
    )


@pytest.mark.parametrize(
    "results",
    [
        {"val_total": 1},
        {"val_total": 2, "val_acc": math.nan},
        {"val_total": 2, "val_acc": 1e308},
        GOOD | {"val_total": 10**6},
        GOOD | {"val_f1": 1.0},
    ],
    ids=str,
)
def test_results_of_a_liar_end_nothing(runner, results):
    """There is one honest client only, and the liar answers first."""
    lie = ("metrics", None, results)
    play = Play(runner, {"evaluation": [lie]}, clients=2).run()
    assert play.server.is_finish
    assert [line["weighted"]["val_acc"] for line in lines_of(play)[-2:]] == (
        [1.0, 1.0]
    )


@pytest.mark.parametrize("results", ["none", {"test_total": 1}], ids=str)
def test_without_results_to_average_the_run_goes_on(runner, results, caplog):
    lies = {
        "round": [("model_para", None, update(1.0))],
        "evaluation": [("metrics", None, results)],
    }
    play = Play(runner, lies, clients=1)
    play.server.early_stopper.patience = 1
    play.run()
    assert play.server.is_finish and play.server.best_results == {}
    assert [moment for moment, *_ in play.asked] == ["round", "evaluation"] * 2
    assert play.server.early_stopper.patience == 1
    assert not play.server.early_stopper.early_stopped


def test_results_of_another_round_are_refused(runner):
    """Client 3 sends those of round 1 in round 2; the right ones count."""
    lies = {"evaluation": [("metrics", 0, GOOD)]}
    play = Play(runner, lies).run()
    first, second = lines_of(play)[-2:]
    assert first["clients"].keys() == {"1", "2", "3"}
    assert second["clients"].keys() == {"1", "2"}
    assert play.server.rejected_messages == 1


def test_another_number_of_examples_than_before_is_refused(runner):
    answers = iter([GOOD, GOOD | {"val_total": 3}])
    lies = {"evaluation": [("metrics", None, lambda play: next(answers))]}
    first, second = lines_of(Play(runner, lies).run())[-2:]
    assert "3" in first["clients"] and "3" not in second["clients"]


def test_a_result_that_is_not_finite_is_null_and_left_out(runner):
    odd = GOOD | {"val_acc": math.nan, "test_acc": 0.0}
    lies = {"evaluation": [("metrics", None, odd)]}
    line = lines_of(Play(runner, lies).run())[-1]
    assert line["clients"]["3"]["val_acc"] is None
    assert line["weighted"]["val_acc"] == 1.0
    assert line["weighted"]["test_acc"] == pytest.approx(2 / 3)


# What one update may do.


def test_an_update_that_is_far_away_costs_its_client_the_round(runner):
    """Its client is known from then on: no other round is repeated."""
    lies = {"round": [("model_para", None, update(1e30))]}
    play = Play(runner, lies).run()
    assert play.moved == pytest.approx(3) and play.server.suspects == {3}
    rounds = [state for moment, state, _ in play.asked if moment == "round"]
    assert rounds == [0, 0, 1]
    assert play.server.rejected_updates == 3


def test_a_suspect_that_behaves_takes_part(runner):
    """Its update counts as that of any other."""

    def later(play):
        if len([1 for moment, *_ in play.asked if moment == "round"]) == 1:
            return update(1e30)(play)
        shared = play.server.aggregator.shared
        return 8, encode({n: t + 3 for n, t in shared.items()})

    play = Play(runner, {"round": [("model_para", None, later)]}).run()
    assert play.server.suspects == {3} and play.server.rejected_updates == 1
    assert play.moved == pytest.approx(2 * 2)


@pytest.mark.parametrize("clients", [1, 2])
def test_of_one_or_two_updates_none_is_too_far(runner, clients):
    """It cannot be told which of the two is wrong."""
    lies = {"round": [("model_para", None, update(1e4))]}
    play = Play(runner, lies, clients=clients).run()
    assert play.server.is_finish and play.server.rejected_updates == 0


def test_without_a_bound_nothing_is_too_far(runner):
    lies = {"round": [("model_para", None, update(1e4))]}
    play = Play(runner, lies, fedsa__max_norm=0.0).run()
    assert play.server.rejected_updates == 0
    assert float(min(t.min() for t in play.server.aggregator.shared.values()
                     )) > 1e3  # fmt: skip


@pytest.fixture(scope="module")
def of_pairs(make_lab, tmp_path_factory):
    """Runners whose clients share A and B, by aggregator."""
    lab, made = make_lab(tmp_path_factory.mktemp("pairs")), {}

    def call(aggregator):
        if aggregator not in made:
            made[aggregator] = lab.runner(
                federate__method="fedit",
                fedsa__aggregator=aggregator,
                fedsa__aggregator_args={"trim": 0.34},
            )
        return made[aggregator]

    return call


class PlayOfPairs(Play):
    """The honest clients add to what they hold, in any aggregator."""

    def _honest(self, client, message):
        if message.msg_type == "evaluate":
            return "metrics", message.state, dict(GOOD)
        server = self.server
        rnd = message.state + 1
        values = {
            **server.aggregator.shared,
            **server.parameters.drawn_in(rnd),
        }
        moved = {n: t + 0.1 * client for n, t in values.items()}
        return "model_para", message.state, (8, encode(moved))


@pytest.mark.parametrize("max_norm", [0.0, 10.0])
@pytest.mark.parametrize(
    "aggregator",
    ["weighted_average", "fedavgm", "fedadam", "flora", "fedex", "flexlora",
     "hetlora", "median", "trimmed_mean"],
)  # fmt: skip
def test_no_finite_value_ruins_what_is_shared(of_pairs, aggregator, max_norm):
    """The round begins again from the old values, without the liar."""
    runner = of_pairs(aggregator)
    lies = {"round": [("model_para", None, update(3e38))]}
    plays = [
        PlayOfPairs(runner, each, fedsa__max_norm=max_norm).run()
        for each in (lies, {})
    ]
    for play in plays:
        assert play.server.is_finish
        for tensors in play.server.aggregator.state().values():
            assert all(t.isfinite().all() for t in tensors.values())
    found, expected = (play.server.aggregator for play in plays)
    is_refused = plays[0].server.rejected_updates > 0
    assert is_refused or aggregator not in ("flora", "fedex", "flexlora")
    if max_norm:
        assert is_refused
        for name, value in expected.shared.items():
            assert torch.equal(found.shared[name], value), name
        assert found.delta.rounds == expected.delta.rounds


def test_where_nobody_is_to_blame_the_run_stops_with_a_sentence(
    runner, monkeypatch
):
    """The server's own arithmetic fails: no client is refused for it."""
    play = Play(runner, {})
    finish = play.server.aggregator.finish

    def broken():
        finish()
        for tensor in play.server.aggregator.shared.values():
            tensor.fill_(math.inf)

    before = dict(play.server.aggregator.shared)
    monkeypatch.setattr(play.server.aggregator, "finish", broken)
    with pytest.raises(RunError, match="repeated 10 times"):
        play.run()
    assert play.server.rejected_updates == 0
    for name, value in play.server.aggregator.shared.items():
        assert torch.equal(value, before[name])


def test_an_error_of_our_own_is_not_taken_for_the_clients(runner, monkeypatch):
    play = Play(runner, {})

    def broken(update, samples):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(play.server.aggregator, "add", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        play.run()


def test_the_log_stays_short(runner, caplog):
    """Whatever is sent, and however often."""
    noise = [("model_para", None, (8, b"x" * 10**6))] * 30
    noise += [("model_para", None, (0, "\u0663.\u0665" * 10**5))] * 30
    noise += [("other" * 10**5, None, {"\u0663" * 10**5: 1})] * 30
    with caplog.at_level("WARNING", "federatedscope.fs_plugins"):
        Play(runner, {"round": noise}).run()
    lines = [
        r.getMessage() for r in caplog.records if "refused" in r.getMessage()
    ]
    assert len(lines) <= 2 * 21 and max(map(len, lines)) < 400
    assert all(map(str.isascii, lines))
