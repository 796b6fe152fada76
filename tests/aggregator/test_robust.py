"""Median and trimmed mean, against numpy and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from fs_plugins.aggregator import AGGREGATORS

updates = st.lists(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4),
    min_size=1,
    max_size=9,
)


def aggregated(name, values, **options):
    start = {
        "x": torch.zeros(2, 2, dtype=torch.float64),
        "untouched": torch.ones(3),
    }
    aggregator = AGGREGATORS[name](start, options=options)
    for number, value in enumerate(values):
        update = {"x": torch.tensor(value, dtype=torch.float64).view(2, 2)}
        aggregator.add(update, samples=10**number)  # they all weigh the same
    aggregator.finish()
    assert torch.equal(aggregator.shared["untouched"], start["untouched"])
    return aggregator.shared["x"].flatten().numpy()


@given(updates)
def test_median(values):
    expected = np.median(np.array(values, np.float64), axis=0)
    np.testing.assert_allclose(
        aggregated("median", values), expected, rtol=0, atol=1e-11
    )


@given(updates, st.floats(0, 0.49))
def test_trimmed_mean(values, trim):
    expected = trim_mean(np.array(values, np.float64), trim, axis=0)
    np.testing.assert_allclose(
        aggregated("trimmed_mean", values, trim=trim),
        expected,
        rtol=0,
        atol=1e-11,  # of values up to 1000
    )


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_one_liar_in_five_changes_little(name):
    """The average goes where it is told to; these don't."""
    honest = [[1.0] * 4, [1.1] * 4, [0.9] * 4, [1.05] * 4]
    liar = [[1e6] * 4]
    found = aggregated(name, honest + liar, trim=0.2)
    assert (abs(found - 1.0) < 0.15).all()
    assert aggregated("weighted_average", honest + liar).min() > 1e5


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_a_repeated_round_starts_afresh(name):
    aggregator = AGGREGATORS[name]({"x": torch.zeros(2)})
    aggregator.add({"x": torch.full((2,), 100.0)}, 1)
    aggregator.reset()
    aggregator.finish()  # no update, no change
    assert not aggregator.shared["x"].any()
    aggregator.add({"x": torch.ones(2)}, 1)
    aggregator.finish()
    assert torch.equal(aggregator.shared["x"], torch.ones(2))
