"""Which updates of a round are too far away, against numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.aggregator.distances import Distances, are_finite, distance
from fs_plugins.model.delta import Delta

numbers = st.floats(0, 1e6)


def noted(values, max_norm=10.0, size=0.0):
    distances = Distances(max_norm)
    for client, value in enumerate(values, 1):
        distances.add(client, (value, size))
    return distances


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6),
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2),
)
def test_the_distance_is_the_norm_over_all_parameters(a, b):
    start = {"a": torch.ones(2, 3), "b": torch.zeros(2), "more": torch.ones(1)}
    update = {"a": torch.tensor(a).view(2, 3), "b": torch.tensor(b)}
    expected = np.linalg.norm([*(np.float64(a) - 1), *np.float64(b)])
    start_norm = np.sqrt(6)  # of a and b, which the update has
    assert distance(update, start) == pytest.approx((expected, start_norm))


def test_a_client_of_lower_rank_is_compared_with_its_part():
    start = {"a": torch.arange(6.0).view(3, 2), "b": torch.ones(2, 3)}
    update = {"a": start["a"][:2] + 3, "b": start["b"][:, :2] + 4}
    found, size = distance(update, start)
    assert found == pytest.approx(10)  # 4 * 9 + 4 * 16
    assert size == pytest.approx(np.sqrt(0 + 1 + 4 + 9 + 4))


def test_squares_do_not_overflow_in_float32():
    update = {"a": torch.full((2,), 3e38)}
    found, _ = distance(update, {"a": torch.zeros(2)})
    assert found == pytest.approx(3e38 * math.sqrt(2))


@given(st.lists(numbers, min_size=1, max_size=9), st.floats(1, 20))
def test_the_bound_is_a_multiple_of_the_median(values, max_norm):
    limit = max_norm * np.median(values)
    expected = {i for i, v in enumerate(values, 1) if v > limit > 0}
    assert noted(values, max_norm).too_far().keys() == expected


@given(st.lists(numbers, max_size=2))
def test_of_two_none_is_too_far(values):
    assert not noted(values, 2.0).too_far()


@given(st.lists(numbers, max_size=9))
def test_without_a_bound_none_is_too_far(values):
    assert not noted(values, 0.0).too_far()


@given(st.lists(numbers, min_size=1, max_size=9), st.floats(0, 1e3))
def test_small_moves_are_all_alike(values, size):
    """One that moves by less than a tenth of the parameters' norm is fine."""
    limit = max(10 * np.median(values), size / 10)
    expected = {i for i, v in enumerate(values, 1) if v > limit > 0}
    assert noted(values, 10.0, size).too_far().keys() == expected


def test_where_most_stay_one_may_move():
    """In FedSA's first step A does not move, as B is zero."""
    assert not noted([0.0, 0.0, 0.1], size=1.0).too_far()
    assert noted([0.0, 0.0, 0.2], size=1.0).too_far().keys() == {3}
    assert not noted([0.0, 0.0, 1.0]).too_far()


def test_who_is_to_blame_stands_out_from_the_lower_half():
    assert noted([0.1, 1e30], 0.0).to_blame().keys() == {2}
    assert noted([0.1, 0.2, math.inf], 0.0).to_blame().keys() == {3}
    assert not noted([0.1, 0.2, 0.3], 0.0).to_blame()
    assert not noted([math.inf, math.inf], 0.0).to_blame()
    assert not noted([]).to_blame()


def test_a_product_that_overflows_is_not_finite():
    delta = Delta()
    delta.add({"layer": (torch.full((2, 1), 1e30), torch.full((1, 2), 1e30))})
    assert not are_finite({"shared": {}}, delta)
    assert not are_finite({"m": {"a": torch.tensor([math.nan])}}, Delta())
    delta = Delta()
    delta.add({"layer": (torch.ones(2, 1), torch.ones(1, 2))})
    assert are_finite({"base": delta.state()}, delta)
