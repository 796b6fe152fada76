"""Texts with several labels, and labels that are spelt in several ways."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.config.load import load_config
from fs_plugins.data.examples import Examples
from fs_plugins.data.given import load_given
from fs_plugins.data.registry import FAMILIES
from fs_plugins.data.spelling import alike
from fs_plugins.errors import UserError
from fs_plugins.scope import RunScope, building

NAMES = ("billing", "sales", "technical")
SETS = [(0, 2), (), (1,), (0, 1, 2), (2,), (0,)]
LABELS = "fedsa.data.labels"


@pytest.fixture
def load(lab, tmp_path, monkeypatch):
    """A function that loads a file as a run does, before it is split."""
    monkeypatch.chdir(tmp_path)

    def load(name, **options):
        overrides = {f"fedsa.data.{key}": v for key, v in options.items()}
        cfg = load_config(
            lab.file(), {"data.type": f"{name}@text", **overrides}
        )
        return FAMILIES["text"](name, cfg)

    return load


def write_csv(name, rows):
    with open(name, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_lines(name, rows):
    lines = (json.dumps(row) + "\n" for row in rows)
    Path(name).write_text("".join(lines), encoding="utf-8")


def words(numbers):
    return [NAMES[number] for number in numbers]


def as_csv(cell):
    """A function that writes a csv file with a text for each set."""
    return lambda: write_csv(
        "a.csv",
        [
            {"text": f"t{i}", "topics": cell(words(numbers))}
            for i, numbers in enumerate(SETS)
        ],
    )


def as_columns(yes, no):
    """A function that writes a csv file with a column for each label."""
    return lambda: write_csv(
        "a.csv",
        [
            {
                "text": f"t{i}",
                **{n: yes if n in words(numbers) else no for n in NAMES},
            }
            for i, numbers in enumerate(SETS)
        ],
    )


@pytest.mark.parametrize(
    "make, options",
    [
        (as_csv(",".join), {"labels": "topics"}),
        (as_csv(", ".join), {"labels": ["topics"]}),
        (as_csv(" ; ".join), {"labels": "topics", "label_separator": ";"}),
        (as_csv(" || ".join), {"labels": "topics", "label_separator": "||"}),
        (as_csv(json.dumps), {"labels": "topics"}),
        (as_csv(repr), {"labels": "topics"}),
        (as_columns("1", "0"), {"labels": list(NAMES)}),
        (as_columns("1.0", "0.0"), {"labels": list(NAMES)}),
        (as_columns("True", "False"), {"labels": list(NAMES)}),
    ],
)
def test_every_form_has_the_same_labels(load, make, options):
    make()
    found = load("a.csv", **options).train
    assert found.names == NAMES
    assert found.labels == SETS
    assert found.are_multi_label
    reversed_names = list(reversed(NAMES))
    found = load("a.csv", classes=reversed_names, **options).train
    assert found.labels == [tuple(sorted(2 - n for n in s)) for s in SETS]


@pytest.mark.parametrize("column", ["label", "labels"])
def test_lists_are_found_without_a_name(load, column, caplog):
    """Only if every row has a list: nothing else can be meant."""
    rows = [{"text": f"t{i}", column: words(s)} for i, s in enumerate(SETS)]
    write_lines("a.jsonl", rows)
    assert load("a.jsonl").train.labels == SETS
    assert f"several labels of a text are in '{column}'" in caplog.text
    write_lines("a.jsonl", [*rows, {"text": "t", column: "sales"}])
    with pytest.raises(UserError, match=f"{LABELS}"):
        load("a.jsonl")


def test_numbers_and_declared_names(load, tmp_path):
    """A data set of `datasets` declares the names of its numbers."""
    import datasets

    rows = {"text": [f"t{i}" for i in range(6)], "labels": [*map(list, SETS)]}
    inner = datasets.ClassLabel(names=["a", "b", "c"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(inner)}
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(
        str(tmp_path / "declared")
    )
    found = load("declared").train
    assert found.names == ("a", "b", "c") and found.labels == SETS
    datasets.Dataset.from_dict(rows).to_parquet("a.parquet")
    found = load("a.parquet").train
    assert found.names == ("0", "1", "2") and found.labels == SETS
    found = load("a.parquet", classes=["a", "b", "c"]).train
    assert found.names == ("a", "b", "c") and found.labels == SETS


def test_examples_of_python_code(lab):
    """Frames with lists or with arrays, and examples of a plugin."""
    pandas = pytest.importorskip("pandas")
    texts = [f"t{i}" for i in range(6)]
    forms = (
        [*map(words, SETS)],
        [np.array(words(numbers), object) for numbers in SETS],
        [tuple(words(numbers)) for numbers in SETS],
    )
    for form in forms:
        cfg = load_config(lab.file(), {"data.type": "x@given"})
        frame = pandas.DataFrame({"text": texts, "labels": form})
        with building(RunScope(data=frame)):
            found = load_given("x", cfg).train
        assert found.labels == SETS and found.names == NAMES
        assert cfg.fedsa.data.labels == ["labels"]


def lines(*rows):
    return lambda: write_lines(
        "a.jsonl", [{"text": "x", "topics": row} for row in rows]
    )


def cells(*rows):
    return lambda: write_csv(
        "a.csv", [{"text": "x", "topics": row} for row in rows]
    )


def flags(*rows):
    return lambda: write_csv(
        "a.csv", [{"text": "x", "a": a, "b": b} for a, b in rows]
    )


@pytest.mark.parametrize(
    "make, options, said",
    [
        (
            lines(["a"], ["b", "c"]),
            {"classes": ["a", "b"]},
            "line 2: the label 'c' is none of the classes 'a', 'b'",
        ),
        (
            cells("a,b", "B"),
            {"classes": ["a", "b"]},
            r"line 3: the label 'B' is none .*did you mean 'b'\?",
        ),
        (
            cells("a;b", "b"),
            {"classes": ["a", "b"]},
            "line 2: the label 'a;b' is none of the classes",
        ),
        (cells("a,b", "b, a,b"), {}, "line 3: the label 'b' is there twice"),
        (lines(["a", "b"], ["a", "a"]), {}, "line 2: .* 'a' is there twice"),
        (
            lines([0, 1], ["a", 0]),
            {"classes": ["a", "b"]},
            "line 2: the label 0 is there twice in 'topics'",
        ),
        (cells("a,,b"), {}, "line 2: 'a,,b' in 'topics' has no label before"),
        (cells("a,b,"), {}, "line 2: 'a,b,' in 'topics' has no label before"),
        (
            cells("a,b", "c"),
            {"classes": ["a,b", "c"]},
            "line 2: the class 'a,b' contains ','.*label_separator",
        ),
        (cells("['a' 'b']"), {}, "line 2: .* cannot be read as a list"),
        (cells("[1 2]"), {}, "line 2: .* cannot be read as a list"),
        (lines(["a"], None), {}, "line 2: the value of 'topics' is missing"),
        (lines(["a"], ["b", None]), {}, "line 2: a label in 'topics' is miss"),
        (lines(["a"], ["b", ["c"]]), {}, r"line 2: the label \['c'\]"),
        (lines(["a"], [" "]), {}, "line 2: 'topics' is empty"),
        (lines(["a"], [{"b": 1}]), {}, "line 2: the label {'b': 1}"),
        (lines(["a"], [0.5]), {}, "line 2: 0.5 in 'topics' is neither"),
        (lines([1, 0, 0], [0, 1, 1]), {}, "a 0 or a 1 for each class"),
        (lines([0.0, 1.0]), {}, "a 0 or a 1 for each class"),
        (lines([0, 1], [1, 0]), {}, "all rows have the same labels, '0', '1'"),
        (lines([], []), {}, "no row has a label"),
        (lines(["a"], []), {}, "has one class only, 'a'"),
        (lines(["a"], [1]), {}, "some labels are words"),
        (cells("a"), {"label": "topics"}, "labels: fedsa.data.label is given"),
        (cells("a"), {"target": "topics"}, "labels: fedsa.data.target is giv"),
        (cells("a"), {"labels": "topic"}, "did you mean 'topics'"),
        (cells("a"), {"labels": ["topics"] * 2}, "a column is named twice"),
        (flags((1, 0), (2, 1)), {"labels": ["a", "b"]}, "line 3: '2' in 'a'"),
        (flags((1, 0), ("", 1)), {"labels": ["a", "b"]}, "line 3: '' in 'a'"),
        (
            flags((1, 0), (0, 1)),
            {"labels": ["a", "b"], "classes": ["a", "c"]},
            "classes: they are not the columns of fedsa.data.labels",
        ),
        (
            flags((0, 0), (0, 0)),
            {"labels": ["a", "b"], "data.splitter": "lda"},
            "data.splitter: 'lda' goes by the class of a text",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    lab, tmp_path, monkeypatch, make, options, said
):
    monkeypatch.chdir(tmp_path)
    make()
    (file,) = (
        f.name for f in (*tmp_path.glob("a.csv"), *tmp_path.glob("a.j*"))
    )
    options = {"labels": "topics", **options}
    options = {
        (k if "." in k else f"fedsa.data.{k}").replace(".", "__"): v
        for k, v in options.items()
    }
    options = {"data__splitter": "iid", "data__splitter_args": []} | options
    with pytest.raises(UserError, match=said) as caught:
        lab.runner(data__type=f"{file}@text", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_incomplete_rows_are_left_out_and_empty_sets_are_not(load, caplog):
    write_lines(
        "a.jsonl",
        [
            {"text": "x", "topics": ["a", "b"]},
            {"text": "x", "topics": None},
            {"text": "x", "topics": []},
        ],
    )
    found = load("a.jsonl", labels="topics", incomplete="skip").train
    assert found.labels == [(0, 1), ()]
    assert "are left out: 1" in caplog.text


def test_no_row_with_several_labels_is_told(load, caplog):
    """The separator may be another one."""
    write_csv("a.csv", [{"text": "x", "t": t} for t in ("a;b", "b", "a;b")])
    assert load("a.csv", labels="t").train.names == ("a;b", "b")
    assert "no row has more than one label" in caplog.text
    assert "label_separator" in caplog.text
    caplog.clear()
    write_lines("a.jsonl", [{"text": "x", "t": [t]} for t in "aba"])
    load("a.jsonl", labels="t")
    assert "label_separator" not in caplog.text


def test_examples_of_a_plugin_are_checked():
    def examples(labels, names=("a", "b")):
        texts = [(f"t{i}",) for i in range(len(labels))]
        return Examples(texts, labels, names, are_multi_label=True)

    examples([(0, 1), ()]).check("x")
    for wrong in ((0, 0), (2,), (-1,), [0], 0, (0.5,), ("a",)):
        with pytest.raises(UserError, match=r"x, example 2: the label is"):
            examples([(0,), wrong]).check("x")
    with pytest.raises(UserError, match="no names of classes"):
        examples([()], ()).check("x")
    swapped = examples([(0,), (0, 1), ()]).with_names(("b", "a"), "x")
    assert swapped.labels == [(1,), (0, 1), ()]


@given(st.lists(st.sets(st.integers(0, 3)), min_size=2, max_size=20))
def test_counts_are_of_examples(sets):
    """Each example is counted once, whatever labels it has."""
    from types import SimpleNamespace

    from fs_plugins.data.federated import label_counts

    flags = np.zeros((len(sets), 4), np.float32)
    for row, numbers in zip(flags, sets, strict=True):
        row[list(numbers)] = 1
    tokens = SimpleNamespace(labels=flags)
    half = len(sets) // 2
    parts = [range(half), range(half, len(sets))]
    counts = label_counts([tokens] * 3, [parts] * 3, ["a", "b", "c", "a + b"])
    for client, part in zip(("1", "2"), parts, strict=True):
        for split in ("train", "val", "test"):
            assert sum(counts[client][split].values()) == len(part)


# Spellings

ALIKE = [
    ("Billing", "billing", "BILLING"),
    ("Straße", "STRASSE"),
    ("café", "cafe\u0301"),
    ("a b", "a  b", "a\u00a0b"),
    ("ab", "a\u200bb"),
    ("\ufb01le", "file"),
]


@pytest.mark.parametrize("names", ALIKE)
@pytest.mark.parametrize("as_list", [False, True])
def test_labels_that_are_spelt_alike_are_told(load, caplog, names, as_list):
    labels = [*names, "other", names[0]]
    rows = [
        {"text": "x", "l": [each, "more"] if as_list else each}
        for each in labels
    ]
    write_lines("a.jsonl", rows)
    found = load("a.jsonl", **{"labels" if as_list else "label": "l"}).train
    assert {*found.names} == {*names, "other"} | (
        {"more"} if as_list else {*()}
    )
    (told,) = (m for m in caplog.messages if "spelt in several ways" in m)
    assert f"are {len(names)} classes" in told
    assert "(2 rows)" in told and "(1 row)" in told
    shown = told.partition(" are ")[0].split(" and ")
    assert len({each.partition(" (")[0] for each in shown}) == len(names)


def test_what_is_told_apart_by_more_is_not_told(load, caplog):
    names = ("C", "C++", "e", "é", "1", "11", "a-b", "a b")
    write_lines("a.jsonl", [{"text": "x", "l": name} for name in names])
    load("a.jsonl", label="l")
    assert "spelt" not in caplog.text
    assert alike(["a", "a", "b"]) == []


def test_white_space_around_a_label_is_told(load, caplog):
    """It has never counted; a label that is there in both forms is told."""
    write_lines(
        "a.jsonl",
        [{"text": "x", "l": each} for each in (" a", " b", "b", "c ", "c ")],
    )
    assert load("a.jsonl", label="l").train.names == ("a", "b", "c")
    (told,) = (m for m in caplog.messages if "white space" in m)
    assert "' b' is read as 'b';" in told
    assert "' a'" not in told and "'c '" not in told


def test_many_groups_are_told_in_few_notes(load, caplog):
    names = [f"{word}{i}" for i in range(9) for word in ("a", "A")]
    write_lines("a.jsonl", [{"text": "x", "l": name} for name in names])
    load("a.jsonl", label="l")
    told = [m for m in caplog.messages if m.startswith("labels: ")]
    assert len(told) == 6 and "4 more groups" in told[-1]
