"""FLoRA, FedEx-LoRA, FlexLoRA and HetLoRA, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.aggregator import AGGREGATORS

OUT, IN, RANK = 5, 6, 4
PAIRS = {"layer": ("layer.A", "layer.B")}
ONE_RANK = st.just(RANK)


@st.composite
def clients(draw, ranks=ONE_RANK):
    """(A, B, head, samples) of each client."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = []
    for _ in range(draw(st.integers(1, 5))):
        rank = draw(ranks)
        found.append(
            (
                rng.normal(size=(rank, IN)),
                rng.normal(size=(OUT, rank)),
                rng.normal(size=3),
                draw(st.integers(1, 50)),
            )
        )
    return found


def aggregated(name, given_clients, rounds=1, rank=RANK):
    rng = np.random.default_rng(0)
    start = {
        "layer.A": torch.tensor(rng.normal(size=(rank, IN))),
        "layer.B": torch.zeros(OUT, rank, dtype=torch.float64),
        "head": torch.zeros(3, dtype=torch.float64),
    }
    aggregator = AGGREGATORS[name](start, pairs=PAIRS)
    for _ in range(rounds):
        for a, b, head, samples in given_clients:
            update = {"layer.A": a, "layer.B": b, "head": head}
            aggregator.add(
                {n: torch.from_numpy(v) for n, v in update.items()}, samples
            )
        aggregator.finish()
    heads = [head for _, _, head, _ in given_clients]
    np.testing.assert_allclose(
        aggregator.shared["head"], mean(given_clients, heads), atol=1e-11
    )
    return aggregator


def mean(given_clients, values):
    samples = [float(n) for *_, n in given_clients]
    return np.average(np.stack(values), axis=0, weights=samples)


def mean_product(given_clients):
    """What the clients have on average changed the weights by."""
    return mean(given_clients, [b @ a for a, b, *_ in given_clients])


def added(aggregator):
    if not aggregator.delta.pairs:
        return np.zeros((OUT, IN))
    left, right = aggregator.delta.pairs["layer"]
    return (left @ right).numpy()


def product(aggregator):
    a, b = aggregator.shared["layer.A"], aggregator.shared["layer.B"]
    return (b @ a).numpy()


any_rank = st.integers(1, RANK)


@given(clients())
def test_fedex_is_exact(given_clients):
    """A and B are FedIT's; with the remainder it is the mean product."""
    found = aggregated("fedex", given_clients)
    np.testing.assert_allclose(
        product(found) + added(found), mean_product(given_clients), atol=1e-11
    )
    for place, name in enumerate(("layer.A", "layer.B")):
        values = [each[place] for each in given_clients]
        np.testing.assert_allclose(
            found.shared[name], mean(given_clients, values), atol=1e-11
        )


@given(clients())
def test_fedex_sends_no_more_than_it_must(given_clients):
    """The remainder of n clients has rank (n - 1) r, or the layer's."""
    found = aggregated("fedex", given_clients)
    rank = (len(given_clients) - 1) * RANK
    if rank:
        left, right = found.delta.pairs["layer"]
        assert left.shape == (OUT, min(rank, OUT))
        assert right.shape == (min(rank, OUT), IN)
    else:
        assert not found.delta.pairs


@given(clients(any_rank), st.integers(1, 3))
def test_flora_is_exact_and_adds_up(given_clients, rounds):
    """Each round adds the mean product, whatever the clients' ranks."""
    found = aggregated("flora", given_clients, rounds)
    expected = rounds * mean_product(given_clients)
    np.testing.assert_allclose(added(found), expected, atol=1e-11)
    assert not found.shared["layer.B"].any()


@given(clients(st.integers(1, 2)))
def test_flexlora_of_full_rank_is_exact(given_clients):
    found = aggregated("flexlora", given_clients, rank=OUT)
    np.testing.assert_allclose(
        product(found), mean_product(given_clients), atol=1e-11
    )


@given(clients(any_rank), st.integers(1, RANK))
def test_flexlora_hands_out_the_best_of_each_rank(given_clients, rank):
    """Eckart and Young: what is cut off are the smallest singular values."""
    found = aggregated("flexlora", given_clients)
    a, b = found.shared["layer.A"][:rank], found.shared["layer.B"][:, :rank]
    expected = mean_product(given_clients)
    lost = np.linalg.svd(expected, compute_uv=False)[rank:]
    error = np.linalg.norm(expected - (b @ a).numpy())
    np.testing.assert_allclose(error, np.linalg.norm(lost), atol=1e-11)


@given(clients(st.just(1)))
def test_flexlora_leaves_no_row_of_a_at_zero(given_clients):
    """Such a component has no gradient, in no client, for ever."""
    found = aggregated("flexlora", given_clients)
    a = found.shared["layer.A"]
    torch.testing.assert_close(
        a @ a.T, torch.eye(RANK, dtype=a.dtype), atol=1e-11, rtol=0
    )


@given(clients(any_rank))
def test_hetlora_pads_and_weighs_by_the_norm(given_clients):
    found = aggregated("hetlora", given_clients)
    norms = [np.linalg.norm(b @ a) for a, b, *_ in given_clients]
    padded = [
        (
            np.pad(a, ((0, RANK - len(a)), (0, 0))),
            np.pad(b, ((0, 0), (0, RANK - len(a)))),
        )
        for a, b, *_ in given_clients
    ]
    for place, name in enumerate(("layer.A", "layer.B")):
        expected = np.average(
            np.stack([each[place] for each in padded]), axis=0, weights=norms
        )
        np.testing.assert_allclose(found.shared[name], expected, atol=1e-11)


@given(clients(any_rank))
def test_the_average_of_different_ranks_is_over_those_that_have_it(
    given_clients,
):
    found = aggregated("weighted_average", given_clients)
    start = aggregated("weighted_average", given_clients[:1], rank=RANK)
    for row in range(RANK):
        having = [each for each in given_clients if len(each[0]) > row]
        if having:
            expected_a = mean(having, [a[row] for a, *_ in having])
            expected_b = mean(having, [b[:, row] for _, b, *_ in having])
        else:
            first = len(given_clients[0][0])
            assert first <= row
            expected_a = start.shared["layer.A"][row]
            expected_b = np.zeros(OUT)
        np.testing.assert_allclose(
            found.shared["layer.A"][row], expected_a, atol=1e-11
        )
        np.testing.assert_allclose(
            found.shared["layer.B"][:, row], expected_b, atol=1e-11
        )


@pytest.mark.parametrize("name", ["flora", "fedex", "flexlora", "hetlora"])
def test_a_round_without_updates_changes_nothing(name):
    start = {
        "layer.A": torch.rand(RANK, IN),
        "layer.B": torch.rand(OUT, RANK),
        "head": torch.rand(3),
    }
    aggregator = AGGREGATORS[name](start, pairs=PAIRS)
    aggregator.add({n: t + 1 for n, t in start.items()}, 3)
    aggregator.reset()
    aggregator.finish()
    assert not aggregator.delta.pairs
    for n, value in start.items():
        assert torch.equal(aggregator.shared[n], value)


def test_hetlora_of_clients_that_have_not_moved():
    """With B at zero nobody weighs anything."""
    start = {"layer.A": torch.rand(2, IN), "layer.B": torch.zeros(OUT, 2)}
    aggregator = AGGREGATORS["hetlora"](start, pairs=PAIRS)
    aggregator.add(start, 3)
    aggregator.finish()
    assert torch.equal(aggregator.shared["layer.A"], start["layer.A"])
    assert not aggregator.shared["layer.B"].any()
