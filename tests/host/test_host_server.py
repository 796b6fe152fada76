"""FederatedScope's own server in distributed mode, and what it is sent."""

import collections
import math
from pathlib import Path

import pytest
import torch
from federatedscope.core.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs_plugins.engine.links import ServerLink
from fs_plugins.host.host_server import HostServerGuard, guard

RESULTS = {"val_loss": 1.0, "val_total": 2, "val_avg_loss": 0.5, "val_acc": 1}


def message(kind, content, sender=3, state=0, timestamp=0):
    return Message(
        msg_type=kind,
        sender=sender,
        receiver=[0],
        state=state,
        timestamp=timestamp,
        content=content,
    )


@pytest.fixture(scope="module")
def runner(make_lab, tmp_path_factory):
    lab = make_lab(tmp_path_factory.mktemp("host_server"))
    return lab.runner(federate__method="FedAvg")


@pytest.fixture
def guarded(runner):
    """A server all of whose clients have joined, and its inbox."""

    def call(has_begun=True):
        inbox = collections.deque()
        server = type(runner.server)(
            ID=0,
            config=runner.cfg,
            data=runner.data[0],
            model=runner.server.model,
            client_num=3,
            total_round_num=3,
            device="cpu",
            shared_comm_queue=collections.deque(),
        )
        server.comm_manager.receive = lambda: (
            inbox.popleft() if inbox else None
        )
        if has_begun:
            server.comm_manager.neighbors.update({1: 1, 2: 2, 3: 3})
            server.join_in_client_num = 3
        guard(server)
        return server, inbox

    return call


def good(runner):
    model = runner.server.model
    return 8, {n: t.detach().clone() for n, t in model.state_dict().items()}


def passed(server, inbox, *messages):
    """Those of the messages that reach the server's handlers."""
    inbox.extend(messages)
    found = []
    while (one := server.comm_manager.receive()) is not None:
        found.append(one)
    return found


def test_what_clients_send_is_passed_on(guarded, runner):
    server, inbox = guarded(has_begun=False)
    content = {"settings": {}}
    joining = [message("join_in", content, sender=i) for i in (-1, 2, 3)]
    assert passed(server, inbox, *joining) == joining
    server, inbox = guarded()
    answers = [
        message("model_para", good(runner)),
        message("metrics", RESULTS),
        message("model_para", list(good(runner)), state=1),
    ]
    assert passed(server, inbox, *answers) == answers


@pytest.mark.parametrize(
    "spoil",
    [
        lambda n, t: None,
        lambda n, t: (n, t, t),
        lambda n, t: (n, {}),
        lambda n, t: (n, b"A"),
        lambda n, t: (0, t),
        lambda n, t: (True, t),
        lambda n, t: (10**400, t),
        lambda n, t: ("8", t),
        lambda n, t: (n, t | {"more": torch.zeros(1)}),
        lambda n, t: (n, t | {1: torch.zeros(1)}),
        lambda n, t: (n, dict(list(t.items())[1:])),
        lambda n, t: (n, {k: v.tolist() for k, v in t.items()}),
        lambda n, t: (n, {k: v.double() for k, v in t.items()}),
        lambda n, t: (n, {k: v * math.nan for k, v in t.items()}),
        lambda n, t: (n, {k: v[None] for k, v in t.items()}),
    ],
)
def test_an_update_that_would_end_it_is_refused(guarded, runner, spoil):
    server, inbox = guarded()
    assert not passed(
        server, inbox, message("model_para", spoil(*good(runner)))
    )


@pytest.mark.parametrize(
    "bad",
    [
        message("gossip", None),
        message(None, None),
        message("finish", b""),
        message("join_in", {"settings": {}}, sender=-1),
        message("join_in", {"settings": {}}, sender=2),
        message("join_in_info", {"num_sample": 8}),
        message("metrics", {"val_\u0663.\u0665": 1.0, "val_total": 2}),
        message("metrics", {"val_acc": "high", "val_total": 2}),
        message("metrics", {"val_acc": 1e308, "val_total": 2}),
        message("metrics", RESULTS, sender=4),
        message("metrics", RESULTS, sender="3"),
        message("metrics", RESULTS, state=99),
        message("metrics", RESULTS, state="0"),
        message("metrics", RESULTS, timestamp=-1),
        message("metrics", RESULTS, timestamp=math.nan),
    ],
    ids=lambda bad: f"{bad.msg_type} {bad.content!r}"[:60],
)
def test_a_message_that_would_end_it_is_refused(guarded, bad):
    server, inbox = guarded()
    assert not passed(server, inbox, bad)


def test_nothing_counts_twice(guarded):
    server, inbox = guarded()
    once = message("metrics", RESULTS)
    assert passed(server, inbox, once, message("metrics", RESULTS)) == [once]


def test_a_result_that_is_not_finite_is_left_out(guarded):
    server, inbox = guarded()
    odd = message("metrics", RESULTS | {"val_loss": math.nan})
    (found,) = passed(server, inbox, odd)
    assert found.content == {
        k: v for k, v in RESULTS.items() if k != "val_loss"
    }


@pytest.mark.parametrize("method", ["FedAvg", "fedsa"])
def test_a_distributed_run_of_the_hosts_own_server_is_guarded(lab, method):
    """The plugins' own server checks for itself."""
    sites = ["site-1", "site-2", "site-3"]
    link = ServerLink(sites, lambda *task: None, bool, lambda: False, 3)
    server = lab.part(0, link, federate__method=method).server
    owner = getattr(server.comm_manager.receive, "__self__", None)
    assert isinstance(owner, HostServerGuard) == (method == "FedAvg")


contents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.just(torch.zeros(2)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(st.just(8), inner)
        | st.dictionaries(
            st.sampled_from([*RESULTS, "settings"]) | st.integers(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(
        ["join_in", "join_in_info", "model_para", "metrics", "other"]
    ),
    content=contents,
    has_begun=st.booleans(),
)
def test_what_is_passed_on_is_handled(
    guarded, kind, content, has_begun, monkeypatch
):
    """Whatever arrives: nothing that the guard lets through raises."""
    server, inbox = guarded(has_begun)
    monkeypatch.chdir(Path(server._cfg.outdir))
    for one in passed(server, inbox, message(kind, content)):
        server.msg_handlers[one.msg_type](one)
