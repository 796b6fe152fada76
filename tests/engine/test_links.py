"""What passes between FederatedScope's workers and FLARE."""

import threading

import pytest
from federatedscope.core.message import Message
from helpers import GENERATED, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from fs_plugins.engine.links import (
    FAILED,
    LEFT,
    REFUSED,
    ServerLink,
    SiteLink,
    packed,
    said_of,
    unpacked,
)
from fs_plugins.errors import Interrupted, RunError, UserError

FIELDS = ("msg_type", "state", "timestamp", "content")
SITES = ["north", "south", "east"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
)
names = st.sampled_from([*FIELDS, "sender", "receiver", "strategy", "ID"])
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(names | scalars, inner, max_size=6)
    ),
    max_leaves=12,
)
whole = st.fixed_dictionaries(dict.fromkeys(FIELDS, anything))


def message(kind="model_para", receiver=None, content=b"A", state=3):
    return Message(
        msg_type=kind,
        sender=0,
        receiver=receiver,
        state=state,
        timestamp=1.5,
        content=content,
    )


@settings(**GENERATED)
@given(
    fields=anything
    | whole
    | st.builds(lambda a, b: a | b, whole, st.dictionaries(names, anything)),
    sender=st.integers(0, 9),
)
def test_whatever_arrives_has_flares_sender_or_is_no_message(fields, sender):
    found = unpacked(fields, sender)
    if found is None:
        assert type(fields) is not dict or {*fields} != {*FIELDS}
        return
    assert found.sender == sender and found.receiver == []
    for name in FIELDS:
        assert getattr(found, name) is fields[name]


def test_what_travels_names_nobody():
    fields = packed(message(receiver=[1, 2]))
    assert fields == {
        "msg_type": "model_para",
        "state": 3,
        "timestamp": 1.5,
        "content": b"A",
    }
    again = unpacked(fields, 2)
    assert packed(again) == fields and again.sender == 2


@pytest.mark.parametrize(
    "error, said",
    [
        (None, ""),
        (UserError("line 3 is 'Mabuse'"), REFUSED),
        (RunError("the loss of 'Mabuse' is nan"), FAILED),
        (Interrupted("Mabuse has left", 15), LEFT),
        (ValueError("Mabuse"), FAILED),
    ],
)
def test_an_errors_own_sentence_stays_at_the_site(error, said):
    assert said_of(error, in_full=False) == said
    assert said_of(error, in_full=True) == str(error or "")


class Posts:
    """A server's link, and the tasks that it has given.

    Attributes:
        tasks: the site and the fields of each task.
        gone: the names of sites that FLARE says are gone.

    """

    def __init__(self, needed=3):
        self.tasks, self.gone, self.is_aborted = [], set(), False
        self.link = ServerLink(
            SITES,
            lambda *task: self.tasks.append(task),
            self.gone.__contains__,
            lambda: self.is_aborted,
            needed,
        )

    def join(self):
        for ID in (1, 2, 3):
            self.link.add_neighbors(ID, {"host": "elsewhere"})


@pytest.mark.parametrize(
    "receiver, sites",
    [
        (None, SITES),
        (2, ["south"]),
        ([3, 1], ["east", "north"]),
        ([], []),
    ],
)
def test_a_message_is_a_task_of_each_receiver(receiver, sites):
    at = Posts()
    at.join()
    at.link.send(message(receiver=receiver))
    assert [site for site, _ in at.tasks] == sites
    assert all(f == packed(message()) for _, f in at.tasks)


def test_neighbors_are_the_sites_by_id():
    at = Posts()
    assert at.link.get_neighbors() == {}
    at.join()
    assert at.link.get_neighbors() == dict(enumerate(SITES, 1))
    assert at.link.get_neighbors(2) == "south"
    assert at.link.get_neighbors([1, 3]) == {1: "north", 3: "east"}


@settings(**GENERATED, max_examples=40)
@given(results=st.lists(anything | st.lists(anything | whole), max_size=4))
def test_whatever_a_site_returns_comes_from_its_client(results):
    at = Posts()
    at.link.ask_to_join()
    for messages in results:
        at.link.take("south", messages, "")
    whole_ones = [
        fields
        for messages in results
        for fields in (messages if type(messages) is list else [])
        if type(fields) is dict and {*fields} == {*FIELDS}
    ]
    for fields in whole_ones:
        found = at.link.receive(timeout=0)
        assert found.sender == 2 and found.content is fields["content"]
    at.link._inbox.put("the last one")
    assert at.link.receive() == "the last one"


def test_it_ends_with_the_reasons_of_those_that_it_lacks():
    at = Posts(needed=2)
    at.link.ask_to_join()
    at.link.take("south", [], "its disk is full")
    at.link.take("south", [], "and something else")
    assert at.link.receive(timeout=0) is None
    assert at.link.lost == {2} and not at.link.has_lost
    at.gone.add("east")
    with pytest.raises(RunError) as error:
        at.link.receive(timeout=0)
    assert str(error.value) == (
        "south: its disk is full; east: it is disconnected"
    )
    assert at.link.has_lost
    with pytest.raises(RunError):
        _ = at.link.lost  # so that nobody ends the round without them


def test_a_site_that_was_refused_is_lost():
    at = Posts(needed=2)
    at.join()
    content = {"run": "", "refusal": "seed is 2 and not 1"}
    at.link.send(message("assign_client_id", [1], content))
    at.link.send(message("assign_client_id", [2], {"run": "0" * 16}))
    assert at.link.problems == {1: "seed is 2 and not 1"}


def test_the_server_ends_with_the_job():
    at = Posts()
    at.is_aborted = True
    with pytest.raises(Interrupted, match="the job was ended"):
        at.link.receive()
    at.link.close()


@pytest.mark.parametrize("how", ["answers", "is gone", "hangs"])
def test_the_last_messages_are_handled_before_the_server_leaves(how):
    at = Posts(needed=1)
    at.link.ask_to_join()
    for site in SITES[:2]:  # the third has not joined
        at.link.take(site, [], "")
        at.link.add_neighbors(SITES.index(site) + 1, None)
    at.link.patience = 0.3 if how == "hangs" else 60.0
    at.link.send(message("finish"))
    at.link.take("north", [], "")
    closing = threading.Thread(target=at.link.close, daemon=True)
    closing.start()
    if how == "answers":
        assert closing.is_alive()
        at.link.take("south", [], "")
    elif how == "is gone":
        at.gone.add("south")
    closing.join(10)
    assert not closing.is_alive()


# A site's link.


def echoing(link):
    """A client that sends back what it gets, and joins at first."""

    def work():
        link.send(message("join_in"))
        while (got := link.receive()).msg_type != "finish":
            for _ in range(got.state):
                link.send(got)
        link.send(message("bye"))

    return work


def never():
    return False


def test_a_result_has_all_that_the_client_sends_meanwhile():
    link = SiteLink()
    link.start(echoing(link))
    kinds = []
    for number in (None, 0, 1, 3, 0):
        if number is not None:
            link.hand(message("model_para", state=number))
        sent, error = link.answers(never)
        assert error is None
        kinds.append([fields["msg_type"] for fields in sent])
    link.hand(message("finish"))
    sent, error = link.answers(never)
    assert error is None and [f["msg_type"] for f in sent] == ["bye"]
    many = ["model_para"]
    assert kinds == [["join_in"], [], many, many * 3, []]
    link.hand(message("model_para"))  # it is over; nobody waits
    assert link.answers(never) == ([], None)


def test_several_messages_of_one_task_are_one_result():
    link = SiteLink()
    link.start(echoing(link))
    for number in (1, 2):
        link.hand(message(state=number))
    sent, _ = link.answers(never)
    assert [fields["state"] for fields in sent] == [3, 1, 2, 2]


def test_an_error_of_the_client_ends_the_waiting():
    link = SiteLink()

    def work():
        link.receive()
        return UserError("no data")

    link.start(work)
    assert link.answers(never) == ([], None)
    link.hand(message())
    sent, error = link.answers(never)
    assert sent == [] and str(error) == "no data"


def test_a_client_whose_job_is_ended_is_interrupted():
    link, seen = SiteLink(), []

    def work():
        try:
            link.receive(timeout=0.01)  # nothing comes
            link.receive()
        except Interrupted as error:
            seen.append(error)

    link.start(work)
    link.answers(never)
    link.hand(None)
    wait_for(lambda: seen)


def test_nobody_waits_for_a_client_that_computes_in_an_ended_job():
    link, go_on = SiteLink(), threading.Event()
    link.start(lambda: go_on.wait(20) and None)
    assert link.answers(lambda: True) == ([], None)
    go_on.set()
