"""Multiple-choice questions, as the columns of test sets have them."""

import json
import re
from ast import literal_eval
from pathlib import Path

import datasets
import jinja2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fs_plugins.data.questions import Question, load_questions, question_in
from fs_plugins.errors import UserError

ARC = {
    "id": "x1",
    "question": "What is hot?",
    "choices": {"text": ["ice", "fire", "rain"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
BOOLQ = {"question": "is ice cold", "passage": "Ice is.", "answer": True}
PIQA = {"goal": "Eat", "sol1": "Chew.", "sol2": "Sleep.", "label": 0}
MMLU = {
    "question": "1+1",
    "subject": "high_school_maths",
    "choices": ["1", "2", "3", "4"],
    "answer": 1,
}
MMLU_PROMPT = (
    "The following are multiple choice questions (with answers) about high "
    "school maths.\n\n1+1\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
)
CHOICES = ("ice", "fire", "rain")
HOT = Question("Question: What is hot?\nAnswer:", CHOICES, 1)
COLD = Question("Ice is.\nQuestion: is ice cold?\nAnswer:", ("no", "yes"), 1)
EAT = Question("Question: Eat\nAnswer:", ("Chew.", "Sleep."), 0)
SUM = Question(MMLU_PROMPT, ("A", "B", "C", "D"), 1)


@pytest.mark.parametrize(
    "row, question",
    [
        (ARC, HOT),
        ({**ARC, "choices": json.dumps(ARC["choices"])}, HOT),
        (
            {
                **ARC,
                "choices": {"text": np.array(CHOICES), "label": list("123")},
                "answerKey": "2",
            },
            HOT,
        ),
        ({"question": "What is hot?", "choices": list(CHOICES), "answer": 1},
         HOT),
        ({"question": "What is hot?", "choices": list(CHOICES), "answer": "B"},
         HOT),
        ({"question": "What is hot?", "choices": list(CHOICES),
          "answer": "fire"}, HOT),
        (
            {"question": "What is hot?", "A": "ice", "B": "fire", "C": "rain",
             "answer": "B"},
            HOT,
        ),
        (BOOLQ, COLD),
        ({**BOOLQ, "question": "is ice cold?", "answer": "True"}, COLD),
        ({"question": "is ice cold", "passage": "Ice is.", "label": 1}, COLD),
        ({**BOOLQ, "answer": "yes"}, COLD),
        (PIQA, EAT),
        ({**PIQA, "label": "0"}, EAT),
        (MMLU, SUM),
        ({**MMLU, "answer": "B"}, SUM),
        ({**MMLU, "answer": np.int64(1)}, SUM),
    ],
)  # fmt: skip
def test_the_forms(row, question):
    assert question_in(row, "row 0") == question


@pytest.mark.parametrize(
    "row, words",
    [
        ({"a": 1}, "the columns 'a' are not those of ARC, BoolQ"),
        ({"question": "x", "choices": ["a", "b"]}, "are not those of"),
        ({**ARC, "choices": "a, b"}, "'a, b', not a list in JSON"),
        ({**ARC, "choices": ["a"]}, "not a list of at least two"),
        ({**MMLU, "answer": "1"}, "one of the answers and the number of"),
        ({**ARC, "choices": {"label": ["A"]}}, "None, not a list of at least"),
        ({**ARC, "choices": ["a", " "]}, "one of the 'choices' is empty"),
        ({**ARC, "answerKey": "D"}, "'answerKey' is 'D', which is none of"),
        ({**ARC, "answerKey": None}, "'answerKey' is None"),
        ({**PIQA, "label": -1}, "'label' is -1, which is none of the 2"),
        ({**PIQA, "goal": ""}, "'goal' is empty"),
        ({**MMLU, "answer": 4}, "'answer' is 4"),
        ({**MMLU, "answer": 1.5}, "'answer' is 1.5"),
        ({**BOOLQ, "passage": None}, "the value of 'passage' is missing"),
    ],
)
def test_what_is_no_question_is_named_by_its_row(row, words):
    with pytest.raises(UserError, match=rf"^row 7: .*{words}"):
        question_in(row, "row 7")


def test_the_test_set_is_taken_if_it_has_answers(tmp_path):
    """PIQA's has none, and of MMLU nothing is for training."""
    secret = {**PIQA, "goal": "Secret", "label": -1}
    for name, rows in (
        ("train", [{**PIQA, "goal": "Train"}]),
        ("validation", [PIQA, {**PIQA, "goal": "Drink"}]),
        ("test", [secret]),
    ):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    found = load_questions(str(tmp_path), "")
    assert found[0] == EAT and len(found) == 2
    assert load_questions(str(tmp_path), "", most=1) == [EAT]
    only = load_questions(str(tmp_path / "train.jsonl"), "")
    assert [q.prompt for q in only] == ["Question: Train\nAnswer:"]
    saved = datasets.DatasetDict({"test": datasets.Dataset.from_list([MMLU])})
    saved.save_to_disk(str(tmp_path / "mmlu"))
    assert load_questions("mmlu", str(tmp_path)) == [SUM]


def test_a_mistake_names_the_key(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps(PIQA) + '\n{"goal": 1}\n')
    with pytest.raises(UserError, match=r"x\.jsonl, line 2"):
        load_questions("x.jsonl", str(tmp_path))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(
        UserError, match=r"^fedsa\.eval\.choices\.data: .*no q"
    ):
        load_questions("empty.jsonl", str(tmp_path))
    with pytest.raises(UserError) as error:
        load_questions("y.jsonl", str(tmp_path))
    assert str(error.value).startswith("fedsa.eval.choices.data: there is no")


def test_the_documented_task_asks_the_same():
    """What lm-evaluation-harness makes of its templates, by Jinja alone."""
    page = Path(__file__).parents[2].joinpath("docs/generation.md")
    blocks = re.findall(
        "```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL
    )
    (task,) = [yaml.safe_load(b) for b in blocks if "doc_to_text" in b]
    row = {"question": "What is hot?", "choices": list(CHOICES), "answer": 1}
    question = question_in(row, "row 0")

    def made(name):
        return jinja2.Template(task[name]).render(**row)

    assert made("doc_to_text") == question.prompt
    assert literal_eval(made("doc_to_choice")) == [*question.choices]
    assert row[task["doc_to_target"]] == question.right


values = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.text(max_size=3), max_size=4)
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted({*ARC, *BOOLQ, *PIQA, *MMLU, "A", "B"})), values
    )
)
def test_any_row_is_a_question_or_refused(row):
    try:
        question = question_in(row, "row 0")
    except UserError as error:
        assert str(error).startswith("row 0")
        return
    assert 0 <= question.right < len(question.choices)
    assert all(question.choices)
