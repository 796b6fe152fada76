"""The plugins' own splitters, as FederatedScope finds and calls them."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from federatedscope.core.auxiliaries.splitter_builder import get_splitter
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.data.split import split_train
from fs_plugins.data.splitters import SPLITTERS
from fs_plugins.errors import UserError


def config(splitter, clients, least=1, **args):
    return SimpleNamespace(
        federate=SimpleNamespace(client_num=clients),
        data=SimpleNamespace(
            splitter=splitter, splitter_args=[args] if args else []
        ),
        dataloader=SimpleNamespace(batch_size=1, drop_last=False),
        fedsa=SimpleNamespace(
            data=SimpleNamespace(min_examples=least, clients=[])
        ),
    )


values_of = st.lists(st.integers(0, 4), min_size=40, max_size=120)
names = st.sampled_from(["length", "pathological", "shards", "power_law"])


@given(values_of, names, st.integers(3, 6))
def test_every_example_goes_to_one_client(values, name, clients):
    parts = get_splitter(config(name, clients))(list(enumerate(values)))
    assert len(parts) == clients
    got = sorted(i for part in parts for i, _ in part)
    assert got == list(range(len(values)))


@given(values_of, names)
def test_a_split_is_the_same_whatever_was_drawn_before(values, name):
    splits = []
    for seed in (1, 2):
        np.random.seed(seed)
        splits.append(split_train(values, config(name, 4, least=2)))
    assert splits[0] == splits[1]


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_client_has_so_many_classes(classes):
    labels = np.repeat(range(6), 50).tolist()
    parts = split_train(labels, config("pathological", 6, classes=classes))
    for part in parts:
        assert len({labels[i] for i in part}) == classes
        assert abs(len(part) - 50) <= 3  # 50 are not 3 times a number
    held = Counter(labels[i] for part in parts for i in part)
    assert held == Counter(labels)


def test_a_client_has_so_many_shards():
    """Each shard has one class, if shards divide the classes."""
    labels = np.repeat(range(4), 30).tolist()
    parts = split_train(labels, config("shards", 6, shards=2))
    assert [len(part) for part in parts] == [20] * 6
    assert all(len({labels[i] for i in part}) <= 2 for part in parts)


@pytest.mark.parametrize("exponent", [0, 0.5, 2])
def test_sizes_follow_a_power_law(exponent):
    parts = split_train(
        [0, 1] * 500, config("power_law", 4, exponent=exponent)
    )
    shares = np.arange(1, 5) ** -float(exponent)
    expected = shares / shares.sum() * 1000
    assert np.abs([len(part) for part in parts] - expected).max() <= 1


def test_texts_are_sorted_by_length():
    lengths = [5, 1, 9, 3, 7, 2]
    assert split_train(lengths, config("length", 3)) == [
        [1, 5],
        [3, 0],
        [4, 2],
    ]


@given(st.integers(1, 8), st.sampled_from(["power_law", "lda"]))
def test_a_client_has_a_least_number_of_examples(least, name):
    np.random.seed(3)
    args = {"exponent": 3} if name == "power_law" else {"alpha": 0.1}
    if least == 1 and name == "power_law":
        least = 2  # With 1 a client may be left without, which is refused.
    labels = [i % 3 for i in range(60)]
    parts = split_train(labels, config(name, 6, least=least, **args))
    assert min(map(len, parts)) >= least
    assert sorted(i for part in parts for i in part) == list(range(60))


@pytest.mark.parametrize(
    "splitter, args, least, said",
    [
        ("pathological", {"classes": 4}, 1, "classes is 4, and there are 3"),
        ("pathological", {"classes": 0}, 1, "classes is 0"),
        ("shards", {"shards": True}, 1, "shards is True"),
        ("power_law", {"exponent": -1}, 1, "exponent is -1"),
        ("power_law", {"exponents": 1}, 1, "exponents"),
        ("power_law", {}, 16, "more than the 60"),
        ("power_law", {"exponent": 9}, 1, "less than one batch"),
    ],
)
def test_what_cannot_be_split_is_one_sentence(splitter, args, least, said):
    with pytest.raises(UserError, match=said) as caught:
        split_train([0, 1, 2] * 20, config(splitter, 4, least, **args))
    assert "\n" not in str(caught.value)


def test_too_few_clients_for_the_classes():
    with pytest.raises(UserError, match="leave some of the 3 classes"):
        split_train([0, 1, 2] * 9, config("pathological", 2, classes=1))


def test_the_hosts_splitters_stay_what_they_are():
    assert not {"iid", "lda", "meta"} & {*SPLITTERS}


def test_only_training_examples_have_a_least_number(lab):
    """There are fewer to validate and to test on."""
    runner = lab.runner(
        data__splitter="length",
        data__splitter_args=[],
        fedsa__data__min_examples=15,
    )
    sizes = [len(runner.data[ID].train_data) for ID in (1, 2, 3)]
    assert min(sizes) >= 15
    assert len(runner.data[1].val_data) < 15


def test_a_page_shows_each_splitter():
    page = (Path(__file__).parents[2] / "docs" / "splits.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .*`splitter: (\w+)`", page, re.M)
    assert all(title == name for title, name in rows)
    assert {name for name, _ in rows} == {"iid", "lda", "meta", *SPLITTERS}
