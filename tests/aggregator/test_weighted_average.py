"""The weighted average, against numpy."""

import gc

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.aggregator import AGGREGATORS

Average = AGGREGATORS["weighted_average"]
updates = st.lists(
    st.tuples(
        st.integers(1, 10**6),
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@given(updates, st.booleans())
def test_it_is_the_weighted_mean(given_updates, ignore):
    start = {"x": torch.zeros(3, dtype=torch.float64)}
    aggregator = Average(start, ignore_weight=ignore)
    for samples, values in given_updates:
        update = {"x": torch.tensor(values, dtype=torch.float64)}
        aggregator.add(update, samples)
    aggregator.finish()
    values = np.array([v for _, v in given_updates], dtype=np.float64)
    weights = [1 if ignore else n for n, _ in given_updates]
    expected = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(
        aggregator.shared["x"].numpy(),
        expected,
        rtol=0,
        atol=1e-13 * np.abs(values).max(),
    )


@given(updates)
def test_order_does_not_matter(given_updates):
    results = []
    for order in (given_updates, given_updates[::-1]):
        aggregator = Average({"x": torch.zeros(3, dtype=torch.float64)})
        for samples, values in order:
            update = {"x": torch.tensor(values, dtype=torch.float64)}
            aggregator.add(update, samples)
        aggregator.finish()
        results.append(aggregator.shared["x"])
    scale = max(abs(v) for _, values in given_updates for v in values)
    torch.testing.assert_close(*results, rtol=0, atol=1e-13 * scale)


def test_equal_updates_average_to_themselves_exactly():
    value = torch.tensor([0.1, -3.3, 1e-8])
    aggregator = Average({"x": torch.zeros(3)})
    for samples in (3, 7, 11):
        aggregator.add({"x": value}, samples)
    aggregator.finish()
    assert torch.equal(aggregator.shared["x"], value)


def test_a_half_precision_wire_is_summed_in_more():
    """In float16, 2000 + 1 + 1 + ... would stay at 2048."""
    aggregator = Average({"x": torch.zeros(1, dtype=torch.float16)})
    for i in range(4001):
        value = 2000.0 if i == 0 else 1.0
        aggregator.add({"x": torch.tensor([value]).half()}, 1)
    aggregator.finish()
    assert aggregator.shared["x"].dtype == torch.float16
    expected = torch.tensor([6000 / 4001]).half()
    assert torch.equal(aggregator.shared["x"], expected)


def test_without_updates_nothing_changes():
    aggregator = Average({"x": torch.ones(3)})
    aggregator.finish()
    assert torch.equal(aggregator.shared["x"], torch.ones(3))


def test_a_round_starts_from_nothing():
    aggregator = Average({"x": torch.zeros(1)})
    for value in (5.0, 7.0):
        aggregator.add({"x": torch.tensor([value])}, 1)
        aggregator.finish()
        assert aggregator.shared["x"].item() == value


def test_memory_does_not_grow_with_clients():
    """One running sum, whatever the number of updates."""
    aggregator = Average({"x": torch.zeros(1000)})

    def tensors_of_size_1000():
        gc.collect()
        return sum(
            type(o) is torch.Tensor and o.numel() == 1000
            for o in gc.get_objects()
        )

    aggregator.add({"x": torch.ones(1000)}, 1)
    before = tensors_of_size_1000()
    for _ in range(50):
        aggregator.add({"x": torch.ones(1000)}, 1)
    assert tensors_of_size_1000() == before
