"""Messages between processes: exact, and safe to open."""

import contextlib
import pickle

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.wire import WireError
from fs_plugins.wire.envelope import FIELDS, pack, unpack

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
CONTENT = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(0, 99), inner)
    ),
    max_leaves=20,
)


def message(content, **changes):
    return {
        "msg_type": "model_para",
        "serial": 1,
        "sender": 2,
        "state": 3,
        "timestamp": 0.5,
        "content": content,
    } | changes


@given(CONTENT)
def test_what_arrives_is_what_was_sent(content):
    assert unpack(pack(message(content))) == message(content)


def test_tensors_arrive_exactly():
    tensors = {
        "a": torch.randn(3, 2).T,
        "b": torch.tensor(7),
        "c": torch.randn(4).bfloat16(),
    }
    found = unpack(pack(message((12, tensors))))["content"]
    assert found[0] == 12 and found[1].keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[1][name].dtype == value.dtype
        assert torch.equal(found[1][name], value)


def test_numbers_of_numpy_arrive_as_numbers():
    content = [np.float64(0.1), np.float32(0.5), np.int64(3)]
    assert unpack(pack(message(content)))["content"] == [0.1, 0.5, 3]


def test_bytes_travel_at_their_size():
    payload = bytes(1_000_000)
    assert len(pack(message((5, payload)))) < len(payload) + 100


def test_what_cannot_be_sent_is_refused_by_the_sender():
    with pytest.raises(TypeError, match="object cannot be sent"):
        pack(message(object()))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    with contextlib.suppress(WireError):
        assert unpack(data).keys() == FIELDS.keys()


@given(st.data(), CONTENT)
def test_a_spoilt_message_is_a_message_or_refused(data, content):
    whole = bytearray(pack(message(content)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(
            st.integers(0, 255)
        )
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(WireError):
        assert unpack(bytes(whole[:cut])).keys() == FIELDS.keys()


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "not a message"),
        (pickle.dumps([1]), "not a message"),
        (msgpack.packb([1, 2]), "fields"),
        (msgpack.packb({"msg_type": "finish"}), "fields"),
        (msgpack.packb(message(1, sender="0")), "sender is a str"),
        (msgpack.packb(message(1, state=True)), "state is a bool"),
        (msgpack.packb(message(msgpack.ExtType(1, b"x"))), "broken tensor"),
        (msgpack.packb(message(msgpack.ExtType(9, b"x"))), "extension 9"),
        (b"\xdd\xff\xff\xff\xff", "not a message"),  # 4 billion elements
        (b"\x91" * 100_000, "not a message"),  # lists in lists
    ],
)
def test_rubbish_is_refused_by_its_reason(data, reason):
    with pytest.raises(WireError, match=reason):
        unpack(data)
