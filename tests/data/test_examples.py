"""Tokenising, its cache, and batches."""

import numpy as np
import pytest
import torch

from fs_plugins.data.client_data import Collator, TextDataset
from fs_plugins.data.examples import Examples
from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.data.tokens import tokenise
from fs_plugins.errors import UserError

TEXTS = [("w1 w2 w3",), ("w4",), ("w5 w6 w7 w8 w9 w10 w11",)]


@pytest.fixture
def tokenizer(toy_model):
    return load_tokenizer(str(toy_model), "")


def test_tokens_are_the_tokenizers(tokenizer, tmp_path):
    tokens = tokenise(
        Examples(TEXTS, [0, 1, 1], ("no", "yes")), tokenizer, 6, str(tmp_path)
    )
    start = 0
    for (text,), end in zip(TEXTS, tokens.ends, strict=True):
        expected = tokenizer(text, truncation=True, max_length=6)["input_ids"]
        assert tokens.ids[start:end].tolist() == expected
        start = end


def test_the_cache_is_used_and_gives_the_same(
    tokenizer, tmp_path, monkeypatch
):
    examples = Examples(TEXTS, [0, 1, 1], ("no", "yes"))
    first = tokenise(examples, tokenizer, 6, str(tmp_path))

    def broken(*args, **kwargs):
        raise AssertionError("tokenised again")

    monkeypatch.setattr("fs_plugins.data.tokens.encoded", broken)
    second = tokenise(examples, tokenizer, 6, str(tmp_path))
    assert np.array_equal(first.ids, second.ids)
    assert np.array_equal(first.ends, second.ends)
    for changed in (
        (Examples([("w1",), *TEXTS[1:]], [0, 1, 1], ("no", "yes")), 6),
        (examples, 5),
    ):
        with pytest.raises(AssertionError, match="again"):
            tokenise(changed[0], tokenizer, changed[1], str(tmp_path))


def test_a_broken_cache_is_made_anew(tokenizer, tmp_path):
    examples = Examples(TEXTS, [0, 1, 1], ("no", "yes"))
    first = tokenise(examples, tokenizer, 6, str(tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    second = tokenise(examples, tokenizer, 6, str(tmp_path))
    assert np.array_equal(first.ids, second.ids)


def test_a_cache_that_cannot_be_written_stops_nothing(tokenizer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    examples = Examples(TEXTS, [0, 1, 1], ("no", "yes"))
    tokens = tokenise(examples, tokenizer, 6, str(tmp_path / "file" / "x"))
    assert len(tokens) == 3


def test_labels_are_numbers_of_classes_or_scores(tokenizer, tmp_path):
    classes = tokenise(
        Examples(TEXTS, [0, 1, 1], ("no", "yes")), tokenizer, 6, str(tmp_path)
    )
    scores = tokenise(
        Examples(TEXTS, [0.5, 1, 2]), tokenizer, 6, str(tmp_path)
    )
    assert classes.labels.dtype == np.int64
    assert scores.labels.dtype == np.float32
    assert scores.labels.tolist() == [0.5, 1, 2]


def test_a_batch_is_what_the_tokenizer_would_pad(tokenizer, tmp_path):
    """Padded to the longest of the batch, in any order."""
    pairs = [("w1 w2", "w3"), ("w4", "w5 w6 w7"), ("w8 w8 w8", "w9 w9")]
    tokens = tokenise(
        Examples(pairs, [0, 1, 0], ("no", "yes")), tokenizer, 16, str(tmp_path)
    )
    batch = Collator(tokens, tokenizer.pad_token_id)([1, 0])
    expected = tokenizer(
        ["w4", "w1 w2"], ["w5 w6 w7", "w3"], padding=True, return_tensors="pt"
    )
    assert batch.keys() - {"labels"} <= expected.keys()
    for name in batch.keys() - {"labels"}:
        assert torch.equal(batch[name], expected[name])
    assert batch["labels"].tolist() == [1, 0]


def test_an_item_is_the_number_of_a_text(tokenizer, tmp_path):
    tokens = tokenise(
        Examples(TEXTS, [0, 1, 1], ("no", "yes")), tokenizer, 6, str(tmp_path)
    )
    data = TextDataset(tokens, [2, 0])
    assert [data[i] for i in range(len(data))] == [2, 0]


def test_a_missing_tokenizer(tmp_path):
    with pytest.raises(UserError, match=r"model\.type: the tokenizer of"):
        load_tokenizer(str(tmp_path / "nothing"), "")
