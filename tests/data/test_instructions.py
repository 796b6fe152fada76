"""Instruction data from local files."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fs_plugins.data.batches import Collator
from fs_plugins.data.examples import Examples
from fs_plugins.data.human_eval import Problem, load_problems
from fs_plugins.data.instructions import load_instructions, prompt_of
from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.data.tokens import tokenise
from fs_plugins.errors import UserError


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_gsm8k_has_a_test_set_of_its_own(tmp_path):
    rows = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(5)]
    for names in (
        ("gsm8k_train.jsonl", "gsm8k_test.jsonl"),
        ("train.jsonl", "test.jsonl"),
    ):
        for name, part in zip(names, (rows[:3], rows[3:]), strict=True):
            (tmp_path / name).write_text(lines(part))
        train, test = load_instructions("gsm8k", str(tmp_path))
        assert [r for _, r in train.texts] == ["#### 0", "#### 1", "#### 2"]
        assert [r for _, r in test.texts] == ["#### 3", "#### 4"]
        for name in names:
            (tmp_path / name).unlink()


def test_dolly(tmp_path):
    row = {
        "instruction": "Who?",
        "context": "She.",
        "response": "Her.",
        "category": "closed_qa",
    }
    other = {**row, "context": "", "category": "brainstorming"}
    file = tmp_path / "databricks-dolly-15k.jsonl"
    file.write_text(lines([row, other]))
    whole, test = load_instructions("dolly-15k", str(tmp_path))
    assert test is None
    assert whole.names == ("brainstorming", "closed_qa")
    assert whole.labels == [1, 0]
    (with_input, response), (without, _) = whole.texts
    assert "Who?" in with_input and "She." in with_input
    assert response == "Her." and "Input" not in without


@pytest.mark.parametrize("name", ["alpaca", "alpaca_cleaned"])
def test_alpaca_is_one_list(tmp_path, name):
    row = {"instruction": "Do.", "input": "", "output": "Done."}
    suffix = "_cleaned" if "cleaned" in name else ""
    (tmp_path / f"alpaca_data{suffix}.json").write_text(json.dumps([row]))
    whole, _ = load_instructions(name, str(tmp_path))
    assert whole.texts == [(prompt_of(row), "Done.")]


def test_code_search_net_is_many_zipped_files(tmp_path):
    for language, number in (("go", 0), ("python", 0), ("python", 1)):
        folder = tmp_path / language / "final" / "jsonl" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{language}_train_{number}.jsonl.gz"
        row = {"docstring": "d", "code": f"c{number}", "language": language}
        with gzip.open(file, "wt") as stream:
            stream.write(lines([row]))
    whole, _ = load_instructions("code_search_net", str(tmp_path))
    assert whole.names == ("go", "python")
    assert sorted(whole.labels) == [0, 1, 1]


@pytest.mark.parametrize(
    "name, words",
    [
        ("gsm8k", ["gsm8k_train.jsonl", "github.com/openai"]),
        ("dolly-15k", ["databricks-dolly-15k.jsonl", "huggingface.co"]),
        ("code_search_net", ["final/jsonl/train", "CodeSearchNet"]),
        ("mine.jsonl", ["mine.jsonl", "data.root"]),
        ("gsm9k", ["did you mean 'gsm8k@llm'"]),
    ],
)
def test_a_missing_file_is_named_with_its_source(tmp_path, name, words):
    with pytest.raises(UserError) as error:
        load_instructions(name, str(tmp_path))
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    "content, words",
    [
        ("[1]", "not a list of JSON objects"),
        ("[{", "not JSON"),
        ("[]", "holds no examples"),
        ('[{"instruction": "a"}]', "record 1: 'output' is not a text"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, words):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=words):
        load_instructions("x.json", str(tmp_path))


def loaded(folder, rows):
    (folder / "x.json").write_text(json.dumps(rows))
    return load_instructions("x.json", str(folder))[0]


def test_categories_are_what_they_are(tmp_path):
    """0 and False are categories; null and '' are the lack of one."""
    values = ["b", 0, False, "", None, "a", "0", float("nan"), 1.5]
    rows = [{"category": v, "instruction": "x", "output": ""} for v in values]
    rows.append({"instruction": "x", "output": "y"})
    whole = loaded(tmp_path, rows)
    assert whole.names == ("0", "1.5", "False", "a", "b", "(none)")
    assert [whole.names[number] for number in whole.labels] == [
        *("b", "0", "False", "(none)", "(none)", "a", "0", "(none)", "1.5"),
        "(none)",
    ]
    for nothing in ([{}], [{"category": ""}, {"category": None}, {}]):
        whole = loaded(tmp_path, [rows[-1] | row for row in nothing])
        assert whole.names == ("all",)
        assert whole.labels == [0] * len(nothing)


@pytest.mark.parametrize(
    "value, shown",
    [("x", "x"), (0, "0"), (False, "False"), (0.5, "0.5"), ("", None),
     (None, None), (float("nan"), None)],
)  # fmt: skip
def test_the_input_is_what_it_is(tmp_path, value, shown):
    row = {"instruction": "do", "input": value, "output": ""}
    ((prompt, response),) = loaded(tmp_path, [row]).texts
    without = {"instruction": "do"}
    expected = without if shown is None else {**without, "input": shown}
    assert prompt == prompt_of(expected) and response == ""
    assert ("### Input:" in prompt) == (shown is not None)


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("input", ["x"], "record 2: 'input' is not a text"),
        ("input", {}, "record 2: 'input' is not a text"),
        ("category", ["x"], "record 2: 'category' is not a text"),
        ("instruction", None, "record 2: 'instruction' is not a text"),
        ("output", 3, "record 2: 'output' is not a text"),
        *(
            (field, "\ud83d", f"record 2: '{field}' is not valid Unicode")
            for field in ("instruction", "input", "output", "category")
        ),
    ],
)
def test_a_field_that_is_no_text_is_named(tmp_path, field, value, words):
    row = {"instruction": "a", "output": "b"}
    with pytest.raises(UserError, match=rf"x\.json, {words}"):
        loaded(tmp_path, [row, {**row, field: value}])


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"instruction": "a", "output": "b"}\n{')
    with pytest.raises(UserError, match="line 2: not JSON"):
        load_instructions("x.jsonl", str(tmp_path))
    folder = tmp_path / "go" / "final" / "jsonl" / "train"
    folder.mkdir(parents=True)
    cut = gzip.compress(b'{"docstring": "d"}')[:20]
    (folder / "go_train_0.jsonl.gz").write_bytes(cut)
    with pytest.raises(UserError, match=r"go_train_0\.jsonl\.gz, line 1"):
        load_instructions("code_search_net", str(tmp_path))


def test_human_eval(tmp_path):
    file = tmp_path / "HumanEval.jsonl"
    row = {"prompt": "def f():\n", "test": "def check(c): c()"}
    file.write_text(lines([{**row, "entry_point": "f", "task_id": "0"}]))
    (problem,) = load_problems(str(file))
    assert problem == Problem(row["prompt"], row["test"], "f")
    file.write_text(lines([row]))
    with pytest.raises(UserError, match="line 1: no 'entry_point'"):
        load_problems(str(file))
    row["entry_point"] = "f"
    for name, value, words in (
        ("prompt", 3, "'prompt' is not a text"),
        ("test", None, "'test' is not a text"),
        ("prompt", "\ud83d", "'prompt' is not valid Unicode"),
    ):
        file.write_text(lines([row, {**row, name: value}]))
        with pytest.raises(UserError, match=f"line 2: {words}"):
            load_problems(str(file))
    file.write_text("")
    with pytest.raises(UserError, match="no problems"):
        load_problems(str(file))
    with pytest.raises(UserError, match=r"github\.com/openai/human-eval"):
        load_problems(str(tmp_path / "none"))


pairs = st.lists(
    st.tuples(
        st.text("ab 1?", min_size=1, max_size=12),
        st.text("cd 2", min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(pairs, st.integers(8, 30))
def test_prompt_and_padding_carry_no_loss(
    toy_llama, tmp_path_factory, pairs, most
):
    """Every other token is its own label; what is too long is cut."""
    tokenizer = load_tokenizer(str(toy_llama), "")
    examples = Examples(pairs, [0] * len(pairs), ("all",), True)
    cache = str(tmp_path_factory.mktemp("cache"))
    fit = [pair for pair in pairs if len(pair[0]) < most]
    if not fit:
        with pytest.raises(UserError, match=r"llm\.tok_len"):
            tokenise(examples, tokenizer, most, cache)
        return
    for _ in range(2):  # made, then read from the cache
        tokens = tokenise(examples, tokenizer, most, cache)
        assert tokens.texts == fit
    batch = Collator(tokens, tokenizer.pad_token_id)(list(range(len(fit))))
    assert batch["input_ids"].shape[1] == max(
        min(most, len(p) + len(r) + 1) for p, r in fit
    )
    for row, (prompt, response) in enumerate(fit):
        size = int(batch["attention_mask"][row].sum())
        ids = batch["input_ids"][row, :size].numpy()
        text = (prompt + response)[:most]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        labels = batch["labels"][row].numpy()
        assert (labels[: len(prompt)] == -100).all()
        assert np.array_equal(labels[len(prompt) : size], ids[len(prompt) :])
        assert (labels[size:] == -100).all()
        if len(prompt) + len(response) < most:
            assert ids[-1] == tokenizer.eos_token_id
