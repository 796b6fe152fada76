"""Conversations from tables: what is read, and what is refused."""

import json

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fs_plugins.config.load import load_config
from fs_plugins.data.chat import Message, chat_in
from fs_plugins.data.registry import FAMILIES
from fs_plugins.errors import UserError

ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "a?"},
    {"role": "assistant", "content": "A."},
    {"role": "user", "content": "b?"},
    {"role": "assistant", "content": "B."},
]
READ = tuple(Message(**message) for message in ASKED)
SHAREGPT = [
    {"from": name, "value": message["content"]}
    for name, message in zip(
        ("system", "human", "gpt", "human", "gpt"), ASKED, strict=True
    )
]


def loaded(lab, folder, family="chat", name="rows.jsonl", **options):
    """The training examples of a table in a folder."""
    cfg = load_config(
        lab.file(
            data__root=str(folder),
            data__type=f"{name}@{family}",
            **{f"fedsa__data__{key}": value for key, value in options.items()},
        )
    )
    return FAMILIES[family](name, cfg).train


def table(folder, rows, name="rows.jsonl"):
    folder.joinpath(name).write_text(
        "".join(json.dumps(r) + "\n" for r in rows)
    )


@pytest.mark.parametrize(
    "row, options",
    [
        ({"messages": ASKED}, {}),
        ({"conversations": SHAREGPT}, {}),
        ({"turns": ASKED, "id": 3}, {"messages": "turns"}),
        ({"messages": json.dumps(ASKED)}, {}),
        ({"messages": [*ASKED, {"role": "user", "content": "c?"}]}, {}),
        ({"messages": ASKED, "prompt": "a?", "prompt_id": "0"}, {}),
        (
            {"turns": ASKED, "prompt": "x", "completion": "y"},
            {"messages": "turns"},
        ),
    ],
)
def test_a_column_of_messages(language_lab, tmp_path, row, options):
    """Under any name, in both forms; what nobody answers is left out."""
    table(tmp_path, [row])
    examples = loaded(language_lab, tmp_path, **options)
    assert examples.chats == [READ]
    assert examples.texts == [("b?", "B.")]
    assert examples.are_instructions and examples.template == "auto"


def test_other_files_hold_the_same_messages(language_lab, tmp_path):
    """As a cell of csv, and as lists of parquet and of datasets."""
    cell = json.dumps(ASKED).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'messages\n"{cell}"\n')
    whole = datasets.Dataset.from_list([{"messages": ASKED}])
    whole.to_parquet(str(tmp_path / "b.parquet"))
    whole.save_to_disk(str(tmp_path / "c"))
    for name in ("a.csv", "b.parquet", "c"):
        examples = loaded(language_lab, tmp_path, name=name)
        assert examples.chats == [READ], name


def test_lists_by_key_and_arrays_are_lists_of_messages():
    columns = {
        key: [message[key] for message in ASKED] for key in ("role", "content")
    }
    assert chat_in(columns, "messages", "row 0") == READ
    assert chat_in(np.array(ASKED), "messages", "row 0") == READ
    # Arrow gives every message the keys of all.
    mixed = [{**m, "role": None, "content": None} for m in SHAREGPT]
    assert chat_in(mixed, "messages", "row 0") == READ


def message(role, content):
    return {"role": role, "content": content}


USER, ANSWER = ASKED[1], ASKED[2]


@pytest.mark.parametrize(
    "value, words",
    [
        (None, "the value of 'messages' is missing"),
        ("", "'messages' is empty"),
        ("Hello", "'Hello', not a list of messages in JSON"),
        ("{}", "'messages' is {}, not a list of messages|has no messages"),
        (3, "'messages' is 3, not a list of messages"),
        ([], "'messages' has no messages"),
        (["a"], "message 1 in 'messages' is 'a', not a role and a text"),
        ([{"text": "a"}], "no key 'role' or 'from', but 'text'"),
        (
            [USER, message("assistent", "A.")],
            r"message 2 in 'messages' has the role 'assistent' \(did you mean "
            r"'assistant'\?\)",
        ),
        ([USER, message("tool", "A.")], "the role 'tool'; roles are system"),
        ([USER, message(["user"], "A.")], "has the role"),
        ([message("user", ""), ANSWER], "message 1 in 'messages' is empty"),
        ([USER, message("assistant", " \n")], "message 2 in 'messages' is em"),
        ([USER, message("assistant", None)], "message 2 .* has no 'content'"),
        (
            [USER, message("assistant", [1])],
            "message 2 .*'content' is no text",
        ),
        ([USER, message("assistant", "\ud83d")], "not valid Unicode"),
        ([USER], "no message of the assistant"),
        ([ANSWER, USER], "the assistant speaks before the user"),
        ([ASKED[0], ANSWER, USER, ANSWER], "speaks before the user"),
        ([USER, ASKED[0], ANSWER], "message 2 in 'messages' is the system's"),
    ],
)
def test_what_is_no_conversation_is_named_by_its_row(
    language_lab, tmp_path, value, words
):
    table(tmp_path, [{"messages": ASKED}, {"messages": value}])
    with pytest.raises(UserError, match=rf"rows\.jsonl, line 2.*({words})"):
        loaded(language_lab, tmp_path)


def test_incomplete_conversations_can_be_left_out(
    language_lab, tmp_path, notes
):
    lacking = [None, "", [], [USER], [USER, message("assistant", "")]]
    rows = [{"messages": value} for value in (ASKED, *lacking)]
    table(tmp_path, rows)
    examples = loaded(language_lab, tmp_path, incomplete="skip")
    assert examples.chats == [READ]
    assert any("are left out: 5" in sentence for sentence in notes)
    table(tmp_path, [*rows, {"messages": [ANSWER, USER]}])
    with pytest.raises(UserError, match="line 7"):
        loaded(language_lab, tmp_path, incomplete="skip")


def test_an_empty_system_prompt_is_one():
    """It keeps a template from putting its own default there."""
    chat = chat_in([message("system", ""), USER, ANSWER], "messages", "row 0")
    assert chat[0] == ("system", "", "")


def test_conversations_have_categories(language_lab, tmp_path):
    table(
        tmp_path,
        [{"messages": ASKED, "category": name} for name in ("b", "a", "b")],
    )
    examples = loaded(language_lab, tmp_path)
    assert examples.names == ("a", "b") and examples.labels == [1, 0, 1]


@pytest.mark.parametrize(
    "family, row, template, chat",
    [
        ("chat", {"prompt": "a?", "completion": "A."}, "auto", READ[1:3]),
        ("llm", {"prompt": "a?", "completion": "A."}, "none", READ[1:3]),
        ("chat", {"instruction": "a?", "output": "A."}, "auto", READ[1:3]),
        ("llm", {"instruction": "a?", "output": "A."}, "alpaca", READ[1:3]),
        ("llm", {"messages": ASKED}, "auto", READ),
        (
            "chat",
            {"instruction": "a?", "input": "i", "output": "A."},
            "auto",
            (Message("user", "a?", "i"), READ[2]),
        ),
    ],
)
def test_each_form_is_a_conversation(
    language_lab, tmp_path, family, row, template, chat
):
    table(tmp_path, [row])
    examples = loaded(language_lab, tmp_path, family)
    assert examples.chats == [chat] and examples.template == template


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "x"]),
            inner | st.sampled_from(["user", "assistant", "human", "gpt"]),
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_any_value_is_a_conversation_or_refused(value):
    """A conversation has an answer at its end, after a question."""
    try:
        chat = chat_in(value, "messages", "row 0")
    except UserError as error:
        assert str(error).startswith("row 0")
        return
    roles = [message.role for message in chat]
    assert roles[-1] == "assistant"
    assert "user" in roles[: roles.index("assistant")]
