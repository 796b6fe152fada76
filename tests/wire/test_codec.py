"""The codec: what goes in comes out, and nothing else comes in."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.wire import WireError, decode, encode, spec_of

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@st.composite
def tensors(draw):
    names = draw(
        st.lists(
            st.text("abc.日", min_size=1, max_size=8), unique=True, max_size=4
        )
    )
    found = {}
    for name in names:
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        seed = draw(st.integers(0, 2**31))
        values = torch.randn(
            shape, generator=torch.Generator().manual_seed(seed)
        )
        found[name] = values.to(draw(st.sampled_from(DTYPES)))
    return found


@given(tensors())
def test_round_trip(given_tensors):
    spec = spec_of(given_tensors)
    found = decode(encode(given_tensors), spec)
    assert found.keys() == given_tensors.keys()
    for name, value in given_tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


@given(tensors())
def test_the_same_tensors_have_the_same_bytes(given_tensors):
    backwards = dict(reversed(given_tensors.items()))
    assert encode(given_tensors) == encode(backwards)


SPEC = spec_of({"a": torch.zeros(2, 3), "b": torch.zeros(4)})
GOOD = encode({"a": torch.ones(2, 3), "b": torch.ones(4)})


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(payload):
    with pytest.raises(WireError):
        decode(payload, SPEC)


def test_many_random_bytes_are_refused():
    rng = random.Random(0)
    for _ in range(10_000):
        with pytest.raises(WireError):
            decode(rng.randbytes(rng.randrange(400)), SPEC)


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_changed_byte_is_refused_or_changes_a_value(is_cut):
    """It never gets other names, shapes, types or non-finite values in.

    Each byte is changed into each other, or left out with all after it.
    """
    for where in range(len(GOOD)):
        for byte in range(1 if is_cut else 256):
            payload = GOOD[:where]
            if not is_cut:
                payload += bytes([byte]) + GOOD[where + 1 :]
            try:
                found = decode(payload, SPEC)
            except WireError:
                continue
            assert spec_of(found) == SPEC
            assert all(torch.isfinite(t).all() for t in found.values())


def test_nothing_is_encoded_as_nothing():
    assert encode({}) == b""
    assert decode(b"", {}) == {}
    with pytest.raises(WireError, match="expected none"):
        decode(GOOD, {})


def test_nothing_is_ever_unpickled():
    """A pickle that would leave a trace is refused, without a trace."""
    import pickle

    class Bomb:
        def __reduce__(self):
            return (setattr, (test_nothing_is_ever_unpickled, "trace", 1))

    for payload in (pickle.dumps(Bomb()), Bomb(), "text", None, [1]):
        with pytest.raises(WireError):
            decode(payload, SPEC)
    assert not hasattr(test_nothing_is_ever_unpickled, "trace")


def test_a_huge_header_is_refused_before_it_is_read():
    claim = (2**40).to_bytes(8, "little")
    with pytest.raises(WireError, match="at most"):
        decode(claim + b"{" * 100_000, SPEC)
    with pytest.raises(WireError, match="not safetensors"):
        decode(claim + b"{}", SPEC)
