"""Multiple-choice questions are answered by likelihood."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fs_plugins.data.questions import Question
from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.trainer.choices import choice_scores

MOST = 256  # positions of the model


@pytest.fixture(scope="module")
def llama(toy_llama):
    model = AutoModelForCausalLM.from_pretrained(toy_llama).double().eval()
    return model, load_tokenizer(str(toy_llama), "")


def log_likelihood(model, tokenizer, prompt, answer):
    """Letter by letter, without a batch."""
    ids = tokenizer(f"{prompt} {answer}")["input_ids"][-MOST:]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    logs = torch.log_softmax(logits, dim=-1)
    first = len(ids) - len(f" {answer}")
    return math.fsum(
        float(logs[i - 1, ids[i]]) for i in range(max(1, first), len(ids))
    )


def expected_scores(model, tokenizer, questions):
    right = normed = 0
    for question in questions:
        sums = [
            log_likelihood(model, tokenizer, question.prompt, choice)
            for choice in question.choices
        ]
        means = [
            value / len(choice)
            for value, choice in zip(sums, question.choices, strict=True)
        ]
        right += sums.index(max(sums)) == question.right
        normed += means.index(max(means)) == question.right
    number = len(questions)
    return {"choice_acc": right / number, "choice_acc_norm": normed / number}


words = st.text("ab1? ", min_size=1, max_size=9).filter(str.strip)
questions = st.builds(
    lambda prompt, choices, right: Question(
        prompt, tuple(choices), right % len(choices)
    ),
    words,
    st.lists(words.map(str.strip), min_size=2, max_size=4, unique=True),
    st.integers(0, 3),
)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(questions, min_size=1, max_size=6),
    st.integers(1, 5),
    st.sampled_from(["left", "right"]),
)
def test_the_likeliest_answer_counts(llama, questions, size, side):
    """In batches of any size, padded on either side."""
    model, tokenizer = llama
    tokenizer.padding_side = side
    with torch.no_grad():
        found = choice_scores(
            lambda batch: (
                model(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    position_ids=(batch["attention_mask"].cumsum(1) - 1).clamp(
                        0
                    ),
                ).logits
            ),
            tokenizer,
            questions,
            size,
            MOST,
        )
    assert found == expected_scores(model, tokenizer, questions)


def test_the_sum_prefers_short_answers_and_the_mean_does_not():
    """Each token has the likelihood 1/2 but 'b', which has 1/8."""

    def logits_of(batch):
        ids = batch["input_ids"]
        logits = torch.full((*ids.shape, 4), math.log(1 / 8))
        logits[..., 1] = math.log(5 / 8)
        return logits

    class Letters:
        bos_token_id = None
        eos_token_id = 0
        padding_side = "right"

        def __call__(self, texts, add_special_tokens=True):
            return {
                "input_ids": [["ab ".index(c) + 1 for c in t] for t in texts]
            }

        def pad(self, encoding, return_tensors):
            rows = encoding["input_ids"]
            size = max(map(len, rows))
            return {
                "input_ids": torch.tensor(
                    [row + [0] * (size - len(row)) for row in rows]
                ),
                "attention_mask": torch.tensor(
                    [[1] * len(row) + [0] * (size - len(row)) for row in rows]
                ),
            }

    # Of ' aaaaaaaaaaa' the sum is lower than of ' b', its mean is higher.
    question = Question("a", ("b", "aaaaaaaaaaa"), 1)
    assert choice_scores(logits_of, Letters(), [question], 2, 99) == {
        "choice_acc": 0.0,
        "choice_acc_norm": 1.0,
    }


def test_a_long_prompt_loses_its_beginning(llama):
    model, tokenizer = llama
    tokenizer.padding_side = "right"
    question = Question("a1b " * 90, ("a", "b?"), 0)
    with torch.no_grad():
        found = choice_scores(
            lambda batch: model(input_ids=batch["input_ids"]).logits,
            tokenizer,
            [question],
            1,
            MOST,
        )
    assert found == expected_scores(model, tokenizer, [question])


def test_each_client_answers_with_its_own_model(
    language_lab, toy_llama, tmp_path
):
    """As PEFT loads it from the run's folder; alone or beside generation."""
    rows = [
        {"question": f"{a}+{b}", "choices": [a + b, a, b, "#"], "answer": 0}
        for a in range(1, 4)
        for b in range(5, 9)
    ]
    for row in rows:
        row["choices"] = [f"#### {choice}" for choice in row["choices"]]
    file = tmp_path / "sums_test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {
        "fedsa__eval": {
            "choices": {"data": str(file), "examples": 10},
            "generate": {"every": 2},
        },
        "train__optimizer__lr": 2.0,
        "eval__best_res_update_round_wise_key": "test_avg_loss",
    }
    summary = language_lab.run(**changes)
    folder = Path(summary["outdir"])
    lines = map(
        json.loads, (folder / "metrics.jsonl").read_text().splitlines()
    )
    assert ["test_choice_acc" in line["weighted"] for line in lines] == [
        *(False, True, True)
    ]
    assert not (folder / "generations.jsonl").exists()
    tokenizer = AutoTokenizer.from_pretrained(toy_llama)
    questions = [
        Question(
            f"Question: {row['question']}\nAnswer:", tuple(row["choices"]), 0
        )
        for row in rows[:10]
    ]
    for client, found in summary["results"]["last"]["clients"].items():
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(toy_llama),
            folder / "adapters" / f"client_{client}",
        ).eval()
        for name, value in expected_scores(
            model, tokenizer, questions
        ).items():
            assert found[f"test_{name}"] == value


def test_questions_need_a_language_model(fedsa, lab):
    file = lab.file(fedsa__eval={"choices": {"data": "x.jsonl"}})
    found = fedsa("run", "--cfg", file)
    assert found.returncode == 2
    assert "fedsa.eval.choices.data: 'x.jsonl' needs trainer.type" in (
        found.stderr
    )
