"""What is added to the base model: the sum, whatever the way."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.model.delta import DELTA, Delta, check_delta, most_bytes
from fs_plugins.wire import WireError, decode, encode

SHAPES = {"a": (5, 7), "b": (6, 3)}  # out, in
LAYERS = {
    name: (
        torch.zeros(out, 2, dtype=torch.float64),
        torch.zeros(2, into, dtype=torch.float64),
    )
    for name, (out, into) in SHAPES.items()
}
some_ranks = st.lists(st.integers(1, 4), max_size=9)


def change(rank, seed):
    rng = np.random.default_rng(seed)
    found = {}
    for name, (out, into) in SHAPES.items():
        k = min(rank, out, into)
        factors = rng.normal(size=(out, k)), rng.normal(size=(k, into))
        found[name] = tuple(torch.tensor(f) for f in factors)
    return found


def dense(pairs):
    return {
        name: (left @ right).numpy() for name, (left, right) in pairs.items()
    }


def assert_is_sum(delta, changes):
    found = dense(delta.pairs)
    assert found.keys() == (SHAPES.keys() if changes else set())
    for name, value in found.items():
        expected = sum(dense(each)[name] for each in changes)
        np.testing.assert_allclose(value, expected, atol=1e-12)
        left, right = delta.pairs[name]
        assert left.shape[1] == right.shape[0] <= min(SHAPES[name])


@given(some_ranks, st.lists(st.integers(0, 9), max_size=5), st.booleans())
def test_whoever_comes_when_has_the_same(ranks, visits, starts_again):
    """A worker asks now and then, and once more at the end."""
    server, worker = Delta(), Delta()
    changes, known = [], 0
    for number, rank in enumerate(ranks):
        if number in visits:
            worker.take(checked(server.since(known)))
            known = number
        if starts_again and number == 4:
            worker, known = Delta(), 0
        changes.append(change(rank, number))
        server.add(changes[-1])
    worker.take(checked(server.since(known)))
    assert worker.rounds == server.rounds == len(ranks)
    assert_is_sum(server, changes)
    assert_is_sum(worker, changes)


def checked(tensors):
    """As they arrive."""
    found = decode(encode(tensors), {}, DELTA, most_bytes(LAYERS))
    check_delta(found, LAYERS)
    return found


@given(some_ranks, st.integers(0, 9))
def test_a_checkpoint_goes_on(ranks, visit):
    """With what a worker lacks, to the byte."""
    server = Delta()
    for number, rank in enumerate(ranks):
        server.add(change(rank, number))
    again = Delta()
    again.restore(dict(decode(encode(server.state()), {}, DELTA, 1 << 20)))
    known = min(visit, len(ranks))
    assert encode(again.since(known)) == encode(server.since(known))
    for each in (server, again):
        each.add(change(2, 99))
    assert encode(again.since(known)) == encode(server.since(known))


def test_nothing_is_restored_from_nothing():
    delta = Delta()
    delta.add(change(1, 0))
    delta.restore({})
    assert delta.rounds == 0 and not delta.pairs


def test_memory_stays_within_the_layers_own():
    """However many rounds: an addition is forgotten when all is less."""
    delta = Delta()
    for number in range(50):
        delta.add(change(2, number))
    size = sum(t.numel() for t in delta.state().values())
    layers = sum(
        min(out, into) * (out + into) for out, into in SHAPES.values()
    )
    assert size < 2 * layers + 10


def test_what_does_not_follow_is_refused():
    server, worker = Delta(), Delta()
    for number in range(3):
        server.add(change(1, number))
    with pytest.raises(WireError, match="follow on round 2"):
        worker.take(server.since(2))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda t: t.pop(f"{DELTA}rounds"), "rounds is missing"),
        (lambda t: t.update({f"{DELTA}rounds": torch.ones(2)}), "two numbers"),
        (lambda t: t.pop(f"{DELTA}right.a"), "left.a' does not belong"),
        (lambda t: t.pop(f"{DELTA}left.a"), "right.a' does not belong"),
        (
            lambda t: t.update({f"{DELTA}left.c": torch.ones(5, 1)}),
            "left.c' does not belong",
        ),
        (
            lambda t: t.update({f"{DELTA}left.a": torch.ones(5, 2)}),
            "has shape",
        ),
        (
            lambda t: t.update({f"{DELTA}left.a": torch.tensor(1.0)}),
            "has shape",
        ),
        (
            lambda t: t.update(
                {
                    f"{DELTA}left.b": torch.ones(6, 4),
                    f"{DELTA}right.b": torch.ones(4, 3),
                }
            ),
            "k at most 3",
        ),
        (
            lambda t: t[f"{DELTA}left.a"].fill_(float("nan")),
            "not finite",
        ),
        (
            lambda t: t.update(
                {f"{DELTA}left.a": t[f"{DELTA}left.a"].float()}
            ),
            "not torch.float64",
        ),
    ],
)
def test_what_cannot_be_is_refused(spoil, words):
    delta = Delta()
    delta.add(change(1, 0))
    tensors = delta.since(0)
    check_delta(tensors, LAYERS)
    spoil(tensors)
    with pytest.raises(WireError, match=words):
        check_delta(tensors, LAYERS)


def test_a_message_cannot_be_larger_than_all_of_it():
    delta = Delta()
    for number in range(20):
        delta.add(change(4, number))
    assert len(encode(delta.since(0))) <= most_bytes(LAYERS)
    with pytest.raises(WireError, match="at most"):
        decode(encode({f"{DELTA}x": torch.zeros(10**5)}), {}, DELTA, 1000)
