"""Answers do not depend on what else is in the batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.trainer.generate import (
    Decoding,
    few_shot,
    respond,
    until_next,
)

texts = st.text("ab1+? ", min_size=1, max_size=30)


@pytest.fixture(scope="module")
def llama(toy_llama):
    model = AutoModelForCausalLM.from_pretrained(toy_llama).eval()
    return model, load_tokenizer(str(toy_llama), "")


@settings(max_examples=15, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5), st.integers(1, 4))
def test_a_batch_answers_as_each_alone(llama, prompts, size):
    model, tokenizer = llama
    with torch.no_grad():
        together = respond(model, tokenizer, prompts, Decoding(6, size))
        alone = [
            respond(model, tokenizer, [p], Decoding(6, 1))[0] for p in prompts
        ]
    assert together == alone


def test_a_long_prompt_loses_its_beginning(llama):
    model, tokenizer = llama  # 256 positions
    prompt = "a1b " * 100
    with torch.no_grad():
        found = respond(model, tokenizer, [prompt], Decoding(6, 1))
        tail = respond(model, tokenizer, [prompt[-250:]], Decoding(6, 1))
        none_left = respond(model, tokenizer, [prompt], Decoding(256, 1))
        last = respond(model, tokenizer, [prompt[-1]], Decoding(256, 1))
    assert found == tail
    assert none_left == last


def test_several_drawn_answers_a_prompt(llama):
    model, tokenizer = llama
    torch.manual_seed(0)
    decoding = Decoding(8, 2, temperature=1.0, top_p=0.95, samples=4)
    with torch.no_grad():
        answers = respond(model, tokenizer, ["a", "b", "1"], decoding)
    assert [len(each) for each in answers] == [4, 4, 4]
    assert all(len(set(each)) > 1 for each in answers)


def test_top_p_keeps_the_likeliest(llama):
    """A tiny nucleus holds one token: the greedy one."""
    model, tokenizer = llama
    with torch.no_grad():
        drawn = respond(
            model, tokenizer, ["a1"], Decoding(6, 1, 1.0, top_p=1e-6)
        )
        greedy = respond(model, tokenizer, ["a1"], Decoding(6, 1))
    assert drawn == greedy


def test_worked_examples_come_first():
    assert few_shot("Q3:", [("Q1:", "1"), ("Q2:", "2")]) == (
        "Q1:1\n\nQ2:2\n\nQ3:"
    )


@pytest.mark.parametrize(
    "text, answer",
    [
        ("12 + 60 = 72\n#### 72", "12 + 60 = 72\n#### 72"),
        ("#### 72\n### Instruction:\nNext?", "#### 72\n"),
        ("### Ingredients\n- salt", "### Ingredients\n- salt"),
        ("### Response:\n7", "### Response:\n7"),
        ("### Instruction: none\n7", "### Instruction: none\n7"),
        ("a ### b", "a ### b"),
    ],
)
def test_an_answer_ends_at_the_next_prompt(text, answer):
    assert until_next(text) == answer


@pytest.mark.parametrize(
    "beside",
    [
        {"num_beams": 4},
        {"repetition_penalty": 2.0},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(40, 97))},
        {"bad_words_ids": [[i] for i in range(40, 97)]},
        {"min_new_tokens": 7},
        {"max_length": 3},
        {"do_sample": True, "temperature": 9.0},
        {"eos_token_id": list(range(97))},
        {"forced_eos_token_id": 5},
        {"begin_suppress_tokens": list(range(40, 97))},
        {"renormalize_logits": True, "epsilon_cutoff": 0.5},
        {"num_return_sequences": 2, "do_sample": True},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"use_cache": False},
        {"stop_strings": ["a", "1"]},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_what_lies_beside_the_model_decides_nothing(llama, beside):
    """Neither greedy answers nor drawn ones."""
    model, tokenizer = llama
    prompts = ["a1", "b2+", "1?"]
    drawn = Decoding(8, 2, temperature=1.0, samples=2)

    def answers():
        torch.manual_seed(3)
        with torch.no_grad():
            return [
                respond(model, tokenizer, prompts, decoding)
                for decoding in (Decoding(8, 2), drawn)
            ]

    expected = answers()
    kept = model.generation_config
    try:
        model.generation_config = GenerationConfig(**beside)
        own = model.generation_config
        assert answers() == expected
        assert model.generation_config is own, "it is the model's again"
    finally:
        model.generation_config = kept


def test_an_answer_may_have_headings(llama):
    """Markdown in an answer is no end; the data's next instruction is."""
    _, tokenizer = llama
    written = "### Salt\n- a\n\n### Instruction:\nnext"

    class Writes(torch.nn.Module):
        config = LlamaConfig(max_position_embeddings=256)

        def generate(self, input_ids, **_):
            new = tokenizer(written, return_tensors="pt")["input_ids"]
            return torch.cat([input_ids, new], dim=1)

    (answers,) = respond(Writes(), tokenizer, ["a b: \n"], Decoding(60, 1))
    assert answers == ["### Salt\n- a\n\n"]
