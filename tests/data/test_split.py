"""Splits among clients."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fs_plugins.data.split import split_like, split_train
from fs_plugins.errors import UserError


def config(
    splitter="iid", clients=3, batch=1, drop_last=False, least=1, **args
):
    return SimpleNamespace(
        federate=SimpleNamespace(client_num=clients),
        data=SimpleNamespace(
            splitter=splitter, splitter_args=[args] if args else []
        ),
        dataloader=SimpleNamespace(batch_size=batch, drop_last=drop_last),
        fedsa=SimpleNamespace(
            data=SimpleNamespace(min_examples=least, clients=[])
        ),
    )


labels_of = st.lists(st.integers(0, 4), min_size=30, max_size=120)


def is_partition(parts, total):
    return sorted(i for part in parts for i in part) == list(range(total))


@settings(deadline=None)
@given(labels_of, st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_every_example_goes_to_one_client(labels, clients, seed):
    np.random.seed(seed)
    parts = split_train(labels, config(clients=clients))
    assert is_partition(parts, len(labels))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(deadline=None)
@given(labels_of, st.integers(0, 2**32 - 1), st.floats(0.3, 100))
def test_dirichlet_too(labels, seed, alpha):
    np.random.seed(seed)
    parts = split_train(labels, config("lda", alpha=alpha))
    assert is_partition(parts, len(labels))
    assert min(map(len, parts)) >= 1


@settings(deadline=None)
@given(labels_of, st.integers(0, 2**32 - 1))
def test_by_category_a_category_goes_to_one_client(labels, seed):
    import random

    random.seed(seed)
    labels = [*labels, 0, 1, 2]  # as many as there are clients, at least
    parts = split_train(labels, config("meta"))
    assert len(parts) == 3 and is_partition(parts, len(labels))
    owners = [{labels[i] for i in part} for part in parts]
    assert sum(map(len, owners)) == len(set(labels))


def test_a_small_alpha_is_skewed_and_a_large_one_is_not():
    labels = [0, 1] * 2000

    def skew(alpha):
        np.random.seed(0)
        parts = split_train(labels, config("lda", clients=10, alpha=alpha))
        shares = [np.mean([labels[i] for i in part]) for part in parts]
        return np.std(shares)

    assert skew(0.3) > 0.2 and skew(1000) < 0.05


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 3), min_size=1, max_size=30),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.integers(0, 3), min_size=6, max_size=80),
    st.integers(0, 1000),
)
def test_following_is_a_partition_with_something_for_everyone(
    train, labels, seed
):
    rng = np.random.default_rng(seed)
    parts = split_like(labels, train, rng, "test")
    assert is_partition(parts, len(labels))
    assert min(map(len, parts)) >= 1


def test_following_follows():
    """Shares of each class within one example of the training shares."""
    rng = np.random.default_rng(0)
    train = [[0] * 60 + [1] * 10, [0] * 20 + [1] * 90, [1] * 100 + [0] * 20]
    labels = [0] * 50 + [1] * 40
    parts = split_like(labels, train, rng, "test")
    for label, total in ((0, 50), (1, 40)):
        whole = sum(t.count(label) for t in train)
        for part, t in zip(parts, train, strict=True):
            got = sum(labels[i] == label for i in part)
            assert abs(got - total * t.count(label) / whole) <= 1


def test_a_client_never_gets_a_class_that_it_has_not_trained_on():
    rng = np.random.default_rng(0)
    train = [[0] * 50, [1] * 50, [0, 1] * 25]
    labels = [0, 1] * 100
    parts = split_like(labels, train, rng, "test")
    assert {labels[i] for i in parts[0]} == {0}
    assert {labels[i] for i in parts[1]} == {1}


@pytest.mark.parametrize(
    "labels, cfg, words",
    [
        ([0, 1], config(clients=3), "more than the 2 training examples"),
        ([0] * 9, config("lda", alpha=0), "alpha is 0"),
        ([0] * 9, config("lda", alpha=-0.5), "alpha is -0.5"),
        ([0] * 9, config("lda", alpha="big"), "alpha is 'big'"),
        ([0] * 9, config("lda", alfa=1.0), "alfa"),
        ([0] * 9, config("ldaa"), "ldaa"),
        ([0] * 9, config(batch=4, drop_last=True), "less than one batch"),
    ],
)
def test_bad_splits_are_refused(labels, cfg, words):
    np.random.seed(0)
    with pytest.raises(UserError, match=words):
        split_train(labels, cfg)


def test_too_few_examples_to_follow():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="3 clients are more than the 2 test"):
        split_like([0, 1], [[0], [1], [0]], rng, "test")
