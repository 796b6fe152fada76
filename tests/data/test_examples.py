"""Tokenising, its cache, and batches."""

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from fs_plugins.data.batches import Collator
from fs_plugins.data.client_data import TextDataset
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


def changed_end(tokenizer):
    tokenizer.eos_token = "w1"


def changed_side(tokenizer):
    tokenizer.truncation_side = "left"


def changed_inputs(tokenizer):
    tokenizer.model_input_names = ["input_ids", "token_type_ids"]


def changed_rules(tokenizer):
    tokenizer.backend_tokenizer.post_processor = None


@pytest.mark.parametrize(
    "change", [changed_end, changed_side, changed_inputs, changed_rules]
)
@pytest.mark.parametrize("are_instructions", [True, False])
def test_the_cache_depends_on_all_that_decides_tokens(
    toy_model, tmp_path, change, are_instructions
):
    """One cache, two tokenizers: each has the tokens of an empty cache."""
    texts = [("w9", "w3 w4"), ("w1 w2", "w5 w6 w7 w8")]
    names = ("all",) if are_instructions else ("no", "yes")
    examples = Examples(texts, [0, 0], names, are_instructions)
    found = []
    for folders in (["shared", "shared"], ["first", "second"]):
        for folder, is_changed in zip(folders, (False, True), strict=True):
            tokenizer = load_tokenizer(str(toy_model), "")
            tokenizer.eos_token = "[SEP]"
            if is_changed:
                change(tokenizer)
            cache = str(tmp_path / folder)
            tokens = tokenise(examples, tokenizer, 5, cache)
            found.append([tokens.ids.tolist(), tokens.types.tolist()])
    assert found[:2] == found[2:]
    decides = {
        changed_end: are_instructions,
        changed_side: not are_instructions,
        changed_inputs: not are_instructions,
        changed_rules: True,
    }
    assert (found[0] != found[1]) == decides[change]


def test_tokenizers_of_ones_own_are_not_cached(tokenizer, tmp_path):
    """What a class written in Python does can't be read."""

    class Own(type(tokenizer)):
        pass

    own = Own(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
    examples = Examples(TEXTS, [0, 1, 1], ("no", "yes"))
    first = tokenise(examples, own, 6, str(tmp_path))
    assert np.array_equal(
        first.ids, tokenise(examples, tokenizer, 6, str(tmp_path)).ids
    )
    assert len(list(tmp_path.iterdir())) == 1  # of the stock one


@pytest.mark.parametrize(
    "segments, expected", [(0, 0), (1, 0), (2, 11), (4, 11)]
)
def test_segments_are_what_the_model_has(
    tokenizer, tmp_path, segments, expected
):
    tokenizer.model_input_names = ["input_ids", "token_type_ids"]
    pairs = [("w1 w2", "w3"), ("w4", "w5")]
    examples = Examples(pairs, [0, 1], ("no", "yes"))
    for _ in range(2):
        cache = str(tmp_path)
        tokens = tokenise(examples, tokenizer, 9, cache, segments)
        assert tokens.types.size == expected


def test_more_segments_than_the_model_has_are_refused(tokenizer, tmp_path):
    tokenizer.model_input_names = ["input_ids", "token_type_ids"]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A", pair="$A:1 $B:2", special_tokens=[]
    )
    examples = Examples([("w1 w2", "w3")], [0], ("no", "yes"))
    with pytest.raises(UserError, match="segments up to 2"):
        tokenise(examples, tokenizer, 9, str(tmp_path), 2)


WRONG = {
    "no examples": ([], [], "holds no examples"),
    "fewer labels": ([("a",), ("b",)], [0], "2 texts and 1 labels"),
    "a bare text": (["a", "b"], [0, 1], "not a tuple"),
    "three texts": ([("a", "b", "c")], [0], "not a tuple"),
    "one, then two": ([("a",), ("b", "c")], [0, 1], "has 2 texts"),
    "no text": ([(None,)], [0], "None is not a text"),
    "a surrogate": ([("a\ud83d",)], [0], "not valid Unicode"),
    "a label from 1": ([("a",), ("b",)], [1, 2], "the label is 2"),
    "a label below": ([("a",)], [-1], "the label is -1"),
    "a word": ([("a",)], ["no"], "the label is 'no'"),
    "NaN": ([("a",)], [float("nan")], "the label is nan"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_set_of_examples_is_refused(case):
    texts, labels, words = WRONG[case]
    examples = Examples(texts, labels, ("no", "yes"))
    with pytest.raises(UserError, match=words):
        examples.check("data.type: x@own")


def test_one_class_is_refused():
    with pytest.raises(UserError, match="one class only, 'no'"):
        Examples([("a",)], [0], ("no",)).check("x")


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
