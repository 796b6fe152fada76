"""GLUE, in the official layout and in others."""

import json

import pytest

from fs_plugins.data.glue import TASKS, load_glue, task_of
from fs_plugins.errors import UserError

# One line of each task's official tsv: header (None: it has none), a row,
# and what is to be read from it.
OFFICIAL = {
    "sst2": ("sentence\tlabel", 'a "fine film\t1', ('a "fine film',), 1),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        "0\tWho?\tHe.\tnot_entailment",
        ("Who?", "He."),
        1,
    ),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\t"
        "sentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
        "sentence1\tsentence2\tlabel1\tgold_label",
        "0\t1\t2\tfiction\tp\tq\tr\ts\tIt rains.\tIt is dry.\t"
        "neutral\tcontradiction",
        ("It rains.", "It is dry."),
        2,
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "0\t1\t2\tHow?\tHow so?\t1",
        ("How?", "How so?"),
        1,
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        "0\tIt rains.\tIt is wet.\tentailment",
        ("It rains.", "It is wet."),
        0,
    ),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "1\t7\t8\tHe came.\tHe arrived.",
        ("He came.", "He arrived."),
        1,
    ),
    "cola": (None, "gj04\t0\t*\tHim came.", ("Him came.",), 0),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\t"
        "sentence1\tsentence2\tscore",
        "0\tg\tf\ty\to\ts\tt\tA man.\tA woman.\t2.75",
        ("A man.", "A woman."),
        2.75,
    ),
    "wnli": (
        "index\tsentence1\tsentence2\tlabel",
        "0\tHe sat.\tJohn sat.\t1",
        ("He sat.", "John sat."),
        1,
    ),
}


def write(root, task, header, rows, dev="dev"):
    folder = root / TASKS[task].folder
    folder.mkdir(parents=True)
    lines = [header] if header else []
    for name in ("train", dev):
        (folder / f"{name}.tsv").write_text("\n".join([*lines, *rows]) + "\n")
    return folder


@pytest.mark.parametrize("task", sorted(OFFICIAL))
def test_official_layout(tmp_path, task):
    header, row, texts, label = OFFICIAL[task]
    dev = "dev_matched" if task == "mnli" else "dev"
    write(tmp_path, task, header, [row, row], dev)
    for examples in load_glue(task, str(tmp_path)):
        assert examples.texts == [texts] * 2
        assert examples.labels == [label] * 2


def test_every_task_is_in_the_official_table():
    assert OFFICIAL.keys() | {"mnli-m", "mnli-mm"} == TASKS.keys()


def test_matched_and_mismatched(tmp_path):
    header, row, *_ = OFFICIAL["mnli"]
    folder = write(tmp_path, "mnli", header, [row], "dev_matched")
    other = row.replace("It rains.", "It snows.")
    (folder / "dev_mismatched.tsv").write_text(f"{header}\n{other}\n")
    matched = load_glue("mnli-m", str(tmp_path))[1]
    mismatched = load_glue("MNLI-mm", str(tmp_path))[1]
    assert matched.texts[0][0] == "It rains."
    assert mismatched.texts[0][0] == "It snows."


MNLI = OFFICIAL["mnli"][0]


@pytest.mark.parametrize(
    "labels, gold",
    [
        ("neutral", "entailment"),
        ("neutral\tneutral\tcontradiction\tneutral\tneutral", "neutral"),
        ("neutral\t\t\t\t", "contradiction"),
        ("entailment\t-\tneutral", "neutral"),
        (None, "entailment"),
    ],
)
def test_mnli_with_any_number_of_annotators(tmp_path, labels, gold):
    """The label is the annotators' common one, which comes last."""
    row = "0\t1\t2\tfiction\tp\tq\tr\ts\tIt rains.\tIt is dry."
    fields = [row, gold] if labels is None else [row, labels, gold]
    write(tmp_path, "mnli", MNLI, ["\t".join(fields)], "dev_matched")
    train, _ = load_glue("mnli", str(tmp_path))
    assert train.texts == [("It rains.", "It is dry.")]
    assert [train.names[i] for i in train.labels] == [gold]


@pytest.mark.parametrize(
    "row",
    [
        "It\trains.\tIt is dry.\tneutral\tneutral",  # a tab in a text
        "It rains.\tIt is dry.\tneutral\tmaybe\tneutral",
        "It rains.\tentailment",
    ],
)
def test_mnli_varies_in_its_annotators_alone(tmp_path, row):
    row = f"0\t1\t2\tfiction\tp\tq\tr\ts\t{row}"
    write(tmp_path, "mnli", MNLI, [row], "dev_matched")
    with pytest.raises(UserError, match=r"line 2: \d+ columns, expected 12"):
        load_glue("mnli", str(tmp_path))


def test_broken_rows_of_qqp_are_left_out_and_named(tmp_path, notes):
    """A line break inside a question has cut some rows in two."""
    header, row, *_ = OFFICIAL["qqp"]
    cut = ["1\t3\t4\tWas he", "\tWas he real?\t0"]
    folder = write(tmp_path, "qqp", header, [row, *cut, row, *cut * 3])
    train, dev = load_glue("qqp", str(tmp_path))
    assert len(train) == len(dev) == 2
    for name in ("train", "dev"):
        words = f"{folder / name}.tsv: rows with too few columns are left out"
        assert f"{words}: 8 (line 3, 4, 6, 7, 8, ...)" in notes
    (folder / "train.csv").write_text("question1,question2,label\nx\n")
    (folder / "train.tsv").unlink()
    with pytest.raises(UserError, match=r"train\.csv, line 2: 1 columns"):
        load_glue("qqp", str(tmp_path))


def test_long_rows_of_qqp_are_refused(tmp_path):
    header, row, *_ = OFFICIAL["qqp"]
    write(tmp_path, "qqp", header, [f"{row}\t1"])
    with pytest.raises(UserError, match="line 2: 7 columns, expected 6"):
        load_glue("qqp", str(tmp_path))


@pytest.mark.parametrize("name", ["sst2", "SST-2", "sst-2", "stsb", "STS-B"])
def test_spellings(name):
    assert task_of(name).folder.replace("-", "").lower() == (
        name.replace("-", "").lower()
    )


ROWS = [
    {"sentence1": "It rains, now.", "sentence2": 'A "b".', "label": 0},
    {"sentence1": "No.", "sentence2": "Yes.", "label": 1},
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_other_formats(tmp_path, kind):
    folder = tmp_path / "RTE"
    folder.mkdir()
    for name in ("train", "validation"):
        file = folder / f"{name}.{kind}"
        if kind == "parquet":
            import pyarrow
            import pyarrow.parquet

            table = pyarrow.Table.from_pylist(ROWS)
            pyarrow.parquet.write_table(table, file)
        elif kind == "jsonl":
            file.write_text("\n".join(json.dumps(row) for row in ROWS))
        else:
            import csv

            with open(file, "w", newline="") as stream:
                writer = csv.DictWriter(stream, list(ROWS[0]))
                writer.writeheader()
                writer.writerows(ROWS)
    train, dev = load_glue("rte", str(tmp_path))
    assert train.texts == dev.texts
    assert train.texts[0] == ("It rains, now.", 'A "b".')
    assert train.labels == [0, 1]


@pytest.mark.parametrize(
    "rows, words",
    [
        (["0\tx\ty\tentailment", "1\tonly two"], "line 3: 2 columns"),
        (["0\tx\ty\tmaybe"], "line 2: the label is 'maybe'; allowed: entail"),
        (["0\tx\ty\t2"], r"'2'; .*\(labels count from 0, to 1\)"),
        (["0\tx\ty\t3"], "the label is '3'; allowed: .*not_entailment$"),
        (["0\tx\ty\t-1"], "the label is '-1'"),
        (["0\tx\ty\t entailment"], "the label is ' entailment'"),
        (["0\tx\ty\tEntailment"], "the label is 'Entailment'"),
        (["0\tx\ty\tinf"], "the label is 'inf'"),
        ([], "holds no examples"),
    ],
)
def test_broken_lines_are_named(tmp_path, rows, words):
    write(tmp_path, "rte", OFFICIAL["rte"][0], rows)
    with pytest.raises(UserError, match=words):
        load_glue("rte", str(tmp_path))


def test_a_missing_column_is_named(tmp_path):
    write(tmp_path, "rte", "index\tsentence1\tlabel", ["0\tx\tentailment"])
    with pytest.raises(UserError, match=r"no column 'sentence2'.*'sentence1'"):
        load_glue("rte", str(tmp_path))


@pytest.mark.parametrize("label", [1, 1.0, True, "1", "1.0", "positive"])
def test_ways_to_write_a_label(tmp_path, label):
    folder = tmp_path / "SST-2"
    folder.mkdir()
    row = json.dumps({"sentence": 0.5, "label": label})
    for name in ("train", "dev"):
        (folder / f"{name}.jsonl").write_text(row)
    train, _ = load_glue("sst2", str(tmp_path))
    assert train.texts == [("0.5",)] and train.labels == [1]


@pytest.mark.parametrize(
    "row, words",
    [
        ({"sentence": None, "label": 1}, "line 2: the value of 'sentence' is"),
        ({"sentence": "x", "label": None}, "line 2: the value of 'label' is"),
        ({"sentence": "x"}, "line 2: there is no column 'label'"),
        ({"sentence": "x\ud83d", "label": 1}, "line 2: 'sentence' is not val"),
        ({"sentence": ["x"], "label": 1}, "line 2: 'sentence' is not a text"),
        ({"sentence": "x", "label": "\ud83d"}, "line 2: the label is"),
        ({"sentence": "x", "label": [1]}, "line 2: the label is"),
        ({"sentence": "x", "label": 10**400}, "line 2: the label is"),
        ({"sentence": "x", "label": float("inf")}, "line 2: the label is inf"),
    ],
)
def test_a_row_without_a_text_or_a_label(tmp_path, row, words):
    folder = tmp_path / "SST-2"
    folder.mkdir()
    good = json.dumps({"sentence": "", "label": 1})
    for name in ("train", "dev"):
        file = folder / f"{name}.jsonl"
        file.write_text(f"{good}\n{json.dumps(row)}\n")
    with pytest.raises(UserError, match=words) as caught:
        load_glue("sst2", str(tmp_path))
    assert str(caught.value).isascii()


@pytest.mark.parametrize("column", ["sentence", "label"])
def test_a_missing_value_in_a_parquet(tmp_path, column):
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "SST-2"
    folder.mkdir()
    for missing in (None, float("nan")):
        values = [1.0, missing]
        columns = {"sentence": [0.0, 1.0], "label": [0.0, 1.0]}
        table = pyarrow.table(columns | {column: values})
        for name in ("train", "dev"):
            pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
        with pytest.raises(UserError, match=f"row 2: the value of '{column}'"):
            load_glue("sst2", str(tmp_path))


def test_a_broken_json_line_is_named(tmp_path):
    (tmp_path / "RTE").mkdir()
    for name in ("train", "dev"):
        file = tmp_path / "RTE" / f"{name}.jsonl"
        file.write_text(json.dumps(ROWS[0]) + "\n{broken\n")
    with pytest.raises(UserError, match="line 2: not JSON"):
        load_glue("rte", str(tmp_path))


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "RTE").mkdir()
    with pytest.raises(UserError, match=r"no file train\.tsv"):
        load_glue("rte", str(tmp_path))


def test_unknown_task():
    with pytest.raises(UserError, match="did you mean 'sst2@glue'"):
        load_glue("sst3", "nowhere")


def test_without_files_and_without_the_hub(tmp_path, monkeypatch):
    import datasets

    def refuse(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"RTE does not exist.*no network"):
        load_glue("rte", str(tmp_path))


def test_the_hub_is_the_second_choice(tmp_path, monkeypatch):
    import datasets

    asked = []
    rows = [{"premise": "a", "hypothesis": "b", "label": 2}]
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda path, name: (
            asked.append((path, name))
            or {"train": rows, "validation_matched": rows}
        ),
    )
    train, dev = load_glue("mnli", str(tmp_path))
    assert asked == [("nyu-mll/glue", "mnli")]
    assert train.texts == dev.texts == [("a", "b")]
    assert train.labels == [2]
