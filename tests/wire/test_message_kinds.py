"""What travels is what is read from it; anything else is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.wire import WireError
from fs_plugins.wire.messages import (
    Admission,
    GlobalParameters,
    Joining,
    Known,
    Metrics,
    NoUpdate,
    Update,
    answer_from,
    round_of,
    state_of,
)

MOST = 64
KNOWN = Known(["val", "test"], ["acc", "loss", "total"], {"test": 50})
values = st.floats(-1e100, 1e100) | st.integers(0, 2**40)
metrics = st.builds(
    lambda by_name, totals: Metrics(by_name | totals),
    st.dictionaries(
        st.sampled_from(["val_acc", "val_loss", "test_acc"]), values
    ),
    st.fixed_dictionaries(
        {f"{split}_total": st.integers(1, 50) for split in KNOWN.splits}
    ),
)
# the kind, how it is read, and its message with a content that is good
READ = {
    "joining": Joining.from_content,
    "admission": Admission.from_content,
    "parameters": GlobalParameters.from_content,
    "answer": lambda content: answer_from(content, MOST),
    "metrics": lambda content: Metrics.from_content(content, KNOWN),
}
MESSAGES = {
    "joining": st.builds(
        Joining,
        st.dictionaries(
            st.sampled_from(["seed", "fedsa.ranks"]),
            st.text("abc 123[]", max_size=80),
        ),
    ),
    "admission": st.builds(
        Admission, st.text("0123456789abcdef", min_size=16, max_size=16)
    ),
    "parameters": st.builds(GlobalParameters, st.binary()),
    "answer": st.builds(Update, st.integers(1, MOST), st.binary())
    | st.builds(NoUpdate, st.text(max_size=300)),
    "metrics": metrics,
}


@pytest.mark.parametrize("kind", READ)
@given(data=st.data())
def test_what_is_sent_arrives(kind, data):
    message = data.draw(MESSAGES[kind])
    assert READ[kind](message.to_content()) == message


@pytest.mark.parametrize(
    "message, content",
    [
        (Joining(), {"settings": {}}),
        (Joining({"seed": "1"}), {"settings": {"seed": "1"}}),
        (Admission("0" * 16), {"run": "0" * 16}),
        (Admission("", "seed differs"), {"refusal": "seed differs"}),
        (GlobalParameters(b"A"), b"A"),
        (Update(8, b"A"), (8, b"A")),
        (NoUpdate("its loss is not finite"), (0, "its loss is not finite")),
        (NoUpdate("a" * 301), (0, "a" * 300)),
        (Metrics({"val_total": 2}), {"val_total": 2}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_this_is_what_travels(message, content):
    """Participants of different versions understand each other."""
    assert message.to_content() == content
    assert type(message.to_content()) is type(content)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from([torch.zeros(2), torch.tensor(0), 10**400])
)
NAMES = ["run", "settings", "refusal", "val_acc", "val_total"]
anything = st.recursive(
    scalars | st.sampled_from(NAMES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from(NAMES) | st.integers(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", READ)
@given(content=anything)
def test_whatever_arrives_is_well_formed_or_refused(kind, content):
    try:
        message = READ[kind](content)
    except WireError as error:
        assert len(str(error)) < 300
        return
    assert is_well_formed(message)


def is_well_formed(message):
    match message:
        case Joining(settings):
            texts = [*settings, *settings.values()]
            return all(map(str.isascii, texts))
        case Admission("", refusal):
            return 0 < len(refusal) <= 300 and refusal.isascii()
        case Admission(run):
            return len(run) == 16 and set(run) <= set("0123456789abcdef")
        case GlobalParameters(payload):
            return type(payload) is bytes
        case Update(samples, payload):
            is_number = type(samples) is int and 0 < samples <= MOST
            return is_number and type(payload) is bytes
        case NoUpdate(reason):
            return type(reason) is str and len(reason) <= 300
        case Metrics(results):
            totals = [v for k, v in results.items() if k.endswith("_total")]
            return all(0 < t < 2**31 for t in totals) and all(
                math.isnan(value) or abs(value) <= 1e100
                for value in results.values()
            )
    return False


@pytest.mark.parametrize(
    "kind, content, words",
    [
        ("joining", "127.0.0.1:5000", "does not hold settings by name"),
        ("joining", None, "does not hold settings by name"),
        ("joining", [{"seed": "1"}], "does not hold settings by name"),
        ("joining", {"settings": 5}, "settings are not texts by key"),
        ("joining", {"settings": {"seed": 1}}, "not texts by key"),
        ("joining", {"settings": {"a b": "1"}}, "not texts by key"),
        ("joining", {"settings": {"seed": "1" * 81}}, "not texts by key"),
        ("admission", {"run": "../../etc"}, "'../../etc' has no valid name"),
        ("admission", {"run": "0" * 16 + "\n"}, "no valid name"),
        ("admission", "0" * 16, "no valid name"),
        ("parameters", {"A": [1]}, "it is a dict, not bytes"),
        ("parameters", None, "it is a NoneType, not bytes"),
        ("answer", b"A", "not a pair of samples and payload"),
        ("answer", (1, b"A", b""), "not a pair of samples and payload"),
        ("answer", (0, b"A"), "it claims 0 samples; from 1 to 64"),
        ("answer", (65, b"A"), "it claims 65 samples; from 1 to 64"),
        ("answer", (True, b"A"), "it claims True samples"),
        ("answer", (False, "no"), "it claims False samples"),
        ("answer", (torch.zeros(2), "no"), "it claims tensor"),
        ("answer", (10**400, b"A"), "it claims 1000"),
        ("answer", (8, "A"), "it is a str, not bytes"),
        ("answer", (0, "a" * 301), "its reason has 301 characters"),
        ("metrics", "fine", "they are a str"),
        ("metrics", {"f1_val": 1.0}, "'f1_val' is no result"),
        ("metrics", {1: 1.0}, "1 is no result"),
        ("metrics", {"val_acc": "high"}, "val_acc is 'high'"),
        ("metrics", {"val_acc": True}, "val_acc is True"),
        ("metrics", {"val_acc": 10**400}, "val_acc is 1000"),
        ("metrics", {"val_acc": 1e101}, r"val_acc is 1e\+101"),
        ("metrics", {"val_f1": 1.0}, "'val_f1' is no result"),
        ("metrics", {"val_\u0663.\u0665": 1.0}, r"u0663.* is no result"),
        ("metrics", {"test_total": 51}, "is 51; from 1 to 50 are possible"),
        ("metrics", {"val_total": 2.5}, "val_total is 2.5"),
        ("metrics", {f"val_{i}": 1.0 for i in range(300)}, "300, too many"),
        ("metrics", {"val_acc": 1.0}, "val_total is 0"),
        ("metrics", {"val_total": float("nan")}, "val_total is nan"),
        ("metrics", {"val_total": float("inf")}, "val_total is inf"),
    ],
)
def test_the_reason_is_given(kind, content, words):
    with pytest.raises(WireError, match=words):
        READ[kind](content)


def test_a_result_that_is_not_finite_is_one_that_the_client_lacks():
    """A correlation of constant values has none; the others are as good."""
    for value in (math.nan, math.inf, -math.inf):
        found = READ["metrics"](
            {"val_total": 2, "val_acc": value, "val_loss": 0.5}
        )
        assert found.undefined == ["val_acc"]
        assert found.defined == {"val_total": 2, "val_loss": 0.5}


@given(st.integers(1, 10**6))
def test_rounds_count_from_1_and_the_hosts_states_from_0(rnd):
    assert round_of(state_of(rnd)) == rnd and state_of(rnd) >= 0
    assert state_of(1) == 0
