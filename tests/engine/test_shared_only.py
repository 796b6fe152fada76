"""What a site's own filter lets out."""

import math

import pytest
import safetensors.torch
import torch
from helpers import GENERATED, record
from hypothesis import given, settings
from hypothesis import strategies as st
from nvflare.apis.filter import ContentBlockedException
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import make_reply

from fs_plugins.engine import SharedOnly
from fs_plugins.engine.links import FAILED, LEFT, REFUSED, SiteLink, packed
from fs_plugins.errors import UserError
from fs_plugins.wire import encode
from fs_plugins.wire.messages import DIVERGED, Joining, Metrics

LAYER = "base_model.model.bert.encoder.layer.0.attention.self.query"
HEAD = "base_model.model.classifier.modules_to_save.default"
NAMES = {
    "A": f"{LAYER}.lora_A.default.weight",
    "B": f"{LAYER}.lora_B.default.weight",
    "HEAD": f"{HEAD}.weight",
    "OTHER": f"{LAYER}.lora_magnitude_vector.default.weight",
    "PRIVATE": f"{LAYER}.lora_A.private.weight",
}
# names that have two roles, and names that have none
OF_TWO = {
    f"{HEAD}.lora_B.default.weight": {"HEAD", "B"},
    f"{LAYER}.lora_B.lora_A.default.weight": {"A", "B"},
    f"{LAYER}.lora_B.private.weight": {"B", "PRIVATE"},
    f"{LAYER}.lora_A.private.weight": {"A", "PRIVATE"},
}
OF_NONE = ["", "weight", f"{LAYER}.base_layer.weight", "lora_A", "Mabuse"]


def message(kind, content, **changes):
    fields = {"msg_type": kind, "state": 1, "timestamp": 0}
    return fields | {"content": content} | changes


def update(*names, samples=8, dtype=torch.float32):
    tensors = {name: torch.ones(2, 3, dtype=dtype) for name in names}
    return message("model_para", (samples, encode(tensors)))


def result(*messages, **more):
    reply = make_reply(ReturnCode.OK)
    reply["messages"], reply["problem"] = [*messages], ""
    for key, value in more.items():
        reply[key] = value
    return reply


def passes(reply, *share):
    """Whether the filter lets a result out; it is not changed."""
    own = SharedOnly(share) if share else SharedOnly()
    try:
        assert own.process(reply, FLContext()) is reply
    except ContentBlockedException:
        return False
    return True


@pytest.mark.parametrize("share", [*NAMES, "A B", "A HEAD", "A B HEAD OTHER"])
@pytest.mark.parametrize("role", NAMES)
def test_only_roles_that_are_shared_leave(role, share):
    reply = result(update(NAMES[role]))
    roles = OF_TWO.get(NAMES[role], {role})
    assert passes(reply, *share.split()) == (roles <= {*share.split()})


def test_only_a_leaves_by_default():
    assert passes(result(update(NAMES["A"])))
    for role in ("B", "HEAD", "OTHER", "PRIVATE"):
        assert not passes(result(update(NAMES[role])))
        assert not passes(result(update(NAMES["A"], NAMES[role])))
        assert not passes(result(update(NAMES["A"]), update(NAMES[role])))


@pytest.mark.parametrize("name, roles", OF_TWO.items())
def test_a_name_of_two_roles_needs_both(name, roles):
    """So B does not leave under the head's name."""
    for role in roles:
        assert not passes(result(update(name)), role)
    assert passes(result(update(name)), *roles)


@pytest.mark.parametrize("name", OF_NONE)
def test_a_name_of_no_role_never_leaves(name):
    assert not passes(result(update(name)), *NAMES)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_each_type_of_numbers_is_looked_into(dtype):
    kwargs = {"dtype": getattr(torch, dtype)}
    assert passes(result(update(NAMES["A"], **kwargs)))
    assert not passes(result(update(NAMES["B"], **kwargs)))


numbers = st.floats(-1e9, 1e9) | st.just(math.nan)
splits = ["train", "val", "test"]
honest = (
    st.builds(
        lambda s: message("join_in", Joining(s).to_content()),
        st.dictionaries(
            st.sampled_from(["seed", "fedsa.ranks"]),
            st.text("a1[", max_size=9),
        ),
    )
    | st.builds(
        lambda acc, split: message(
            "metrics",
            Metrics({f"{split}_acc": acc, f"{split}_total": 2}).to_content(),
        ),
        numbers,
        st.sampled_from(splits),
    )
    | st.builds(
        lambda samples, dtype: update(
            NAMES["A"], samples=samples, dtype=dtype
        ),
        st.integers(1, 10**6),
        st.sampled_from([torch.float32, torch.bfloat16]),
    )
    | st.sampled_from(
        [
            update(),
            message("join_in", {"settings": {}, "host": "", "port": 0}),
            message("model_para", (8, b"")),
            message("model_para", [8, b""], timestamp=0.5),
            *(message("model_para", (0, why)) for why in DIVERGED),
        ]
    )
)  # fmt: skip


@settings(**GENERATED)
@given(
    messages=st.lists(honest, max_size=4),
    problem=st.sampled_from(["", REFUSED, FAILED, LEFT]),
)
def test_what_honest_clients_say_leaves(messages, problem):
    assert passes(result(*messages, problem=problem))


@pytest.mark.parametrize(
    "method, share", [("fedsa", "A"), ("ffa", "B"), ("fedit", "A B")]
)
def test_what_the_clients_of_a_run_say_leaves(lab, method, share):
    """Of the plugins' own methods, whatever they share."""
    runner = lab.runner(federate__method=method, federate__total_round_num=1)
    sent = record(runner)
    runner.run()
    kinds = ("model_para", "metrics")
    said = [each for each in sent if each.sender and each.msg_type in kinds]
    assert {each.msg_type for each in said} == {*kinds}
    link = SiteLink()
    lab.part(1, link).client.join_in()
    for fields in (*link._sent, *map(packed, said)):
        assert passes(result(fields), *share.split()), fields["msg_type"]


WORDS = "Dr Mabuse has the flu"


@pytest.mark.parametrize(
    "reply",
    [
        result(problem=WORDS),
        result(problem=None),
        result(more=WORDS),
        result(messages=WORDS),
        result(messages={"a": WORDS}),
        result(messages=None),
        result(WORDS),
        result(None),
        result(message("gossip", WORDS)),
        result(message("model_para", WORDS)),
        result(message("model_para", (0, WORDS))),
        result(message("model_para", (8, WORDS))),
        result(message("model_para", (8, WORDS.encode()))),
        result(message("model_para", (8, encode({}), WORDS))),
        result(message("model_para", (WORDS, encode({})))),
        result(message("model_para", (True, encode({})))),
        result(message("model_para", (2**31, encode({})))),
        result(message("model_para", (8, encode({}) + WORDS.encode()))),
        result(message("join_in", WORDS)),
        result(message("join_in", {"settings": {WORDS: "1"}})),
        result(message("join_in", {"settings": {}, "more": WORDS})),
        result(message("join_in", {"settings": {}, "host": WORDS})),
        result(message("join_in", {"settings": {}, "host": "", "port": 9})),
        result(message("metrics", {"val_acc": WORDS, "val_total": 2})),
        result(message("metrics", {WORDS: 1.0, "val_total": 2})),
        result(message("metrics", {"val_acc": True, "val_total": 2})),
        result(message("metrics", WORDS)),
        result(message("join_in", {"settings": {}}, state=WORDS)),
        result(message("join_in", {"settings": {}}, state=True)),
        result(message("join_in", {"settings": {}}, timestamp=WORDS)),
        result(message("join_in", {"settings": {}}, sender=1)),
        result(update(NAMES["A"]), message("finish", None)),
    ],
)
def test_words_do_not_leave(reply):
    assert not passes(reply, *NAMES)


def test_nor_do_words_in_the_header_of_tensors():
    tensors = {NAMES["A"]: torch.ones(2)}
    payload = safetensors.torch.save(tensors, metadata={"a": WORDS})
    assert not passes(result(message("model_para", (8, payload))), *NAMES)


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([torch.ones(2), b"\xff" * 9, encode({}), 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from([*message("", None), "settings", "val_acc"]),
            inner,
            max_size=3,
        )
        | st.builds(
            message,
            st.sampled_from(["join_in", "metrics", "model_para"]) | inner,
            inner,
        )
    ),
    max_leaves=6,
)


@settings(**GENERATED)
@given(messages=st.lists(junk, max_size=2) | junk, key=st.text(max_size=9))
def test_junk_is_let_out_or_refused_and_nothing_else(messages, key):
    passes(result(messages=messages))
    assert not passes(result(**{f"{key}!": messages}))


def test_a_wrong_share_is_said_at_once():
    with pytest.raises(UserError, match="SharedOnly: share: there is no 'a'"):
        SharedOnly(["a"])


EMBEDDING = "base_model.model.bert.embeddings.word_embeddings"


def test_what_tells_which_tokens_occur_stays():
    """The A of an embedding moves in the columns of the site's tokens."""
    reply = result(update(f"{EMBEDDING}.lora_embedding_A.default"))
    with pytest.raises(ContentBlockedException):
        SharedOnly(["A"]).process(reply, FLContext())
    SharedOnly(["A"], embeddings=True).process(reply, FLContext())


def test_what_is_refused_is_told_to_nobody_but_the_sites_log(monkeypatch):
    """FLARE lets the server read exceptions, and events of errors."""
    fired = []
    monkeypatch.setattr(
        SharedOnly, "fire_event", lambda *args: fired.append(args)
    )
    reply = result(update(NAMES["B"]), words="the patient is ill")
    with pytest.raises(ContentBlockedException) as blocked:
        SharedOnly(["A"]).process(reply, FLContext())
    assert str(blocked.value) == "SharedOnly has refused a result"
    assert not fired
