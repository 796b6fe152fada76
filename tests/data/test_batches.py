"""Batches: what is packed, and what is left of it."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.data.batches import (
    NO_LOSS,
    Collator,
    PackingCollator,
    examples_in,
    rows_of,
)
from fs_plugins.data.tokens import Tokens

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=20)


def tokens_of(lengths, prompts=None, seed=0):
    """Texts of these lengths; a prompt has one token unless it is told."""
    rng = np.random.default_rng(seed)
    return Tokens(
        ids=rng.integers(4, 60, sum(lengths)).astype(np.int32),
        types=np.empty(0, np.int8),
        ends=np.cumsum(lengths, dtype=np.int64),
        prompts=np.array(prompts or [1] * len(lengths), np.int64),
        labels=np.zeros(len(lengths), np.int64),
    )


@given(LENGTHS)
def test_rows_hold_each_text_once(lengths):
    rows = rows_of(lengths)
    assert sorted(place for row in rows for place in row) == [
        *range(len(lengths))
    ]
    assert all(rows) and len(rows) <= len(lengths)
    most = max(lengths)
    filled = [sum(lengths[place] for place in row) for row in rows]
    assert max(filled) == most, "a row is as long as the longest text"
    assert sum(n <= most // 2 for n in filled) <= 1, "two would fit into one"


@given(LENGTHS, st.integers(0, 5))
def test_a_packed_batch_says_what_the_padded_one_does(lengths, seed):
    """The same tokens are learned, after the same tokens."""
    rng = np.random.default_rng(seed)
    prompts = [int(rng.integers(0, n + 1)) for n in lengths]
    tokens = tokens_of(lengths, prompts, seed)
    tokens.learned = rng.random(len(tokens.ids)) < 0.7
    numbers = rng.permutation(len(lengths)).tolist()
    padded = Collator(tokens, pad=0)(numbers)
    packed = PackingCollator(tokens, pad=0)(numbers)
    assert packed.keys() == {"input_ids", "position_ids", "labels"}
    assert packed["input_ids"].numel() <= padded["input_ids"].numel()
    assert examples_in(packed) == examples_in(padded) == len(lengths)

    def learned(ids, labels):
        """(the text up to a token, the token) of each that is learned."""
        pairs = zip(labels[1:], range(1, len(labels)), strict=True)
        return [(*ids[:i], n) for n, i in pairs if n != NO_LOSS]

    wanted, found = [], []
    for ids, labels, mask in zip(
        padded["input_ids"].tolist(),
        padded["labels"].tolist(),
        padded["attention_mask"].sum(1).tolist(),
        strict=True,
    ):
        wanted += learned(ids[:mask], labels[:mask])
    for ids, labels, positions in zip(
        packed["input_ids"].tolist(),
        packed["labels"].tolist(),
        packed["position_ids"].tolist(),
        strict=True,
    ):
        begins = [i for i, place in enumerate(positions) if place == 0]
        for begin, end in zip(begins, [*begins[1:], None], strict=True):
            assert labels[begin] == NO_LOSS
            found += learned(ids[begin:end], labels[begin:end])
    assert sorted(found) == sorted(wanted)


def test_the_rest_of_a_row_is_no_text():
    batch = PackingCollator(tokens_of([6, 3, 2]), pad=0)([0, 1, 2])
    assert batch["position_ids"].tolist() == [
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 0, 1, 1],
    ]
    assert batch["input_ids"][1, 5] == 0
    assert batch["labels"][1].tolist()[0::3] == [NO_LOSS, NO_LOSS]
    assert batch["labels"][1, 5] == NO_LOSS
    assert all(value.dtype == torch.int64 for value in batch.values())
