"""Data of the user's own: tables in files, and what their columns mean."""

import bz2
import csv
import gzip
import json
import lzma
from pathlib import Path

import pytest

from fs_plugins.commands.export import export
from fs_plugins.config.load import load_config
from fs_plugins.data.federated import three_splits
from fs_plugins.data.registry import FAMILIES
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run

ROWS = [
    {
        "id": f"{i}",
        "subject": f"s{i}, with a comma",
        "body": f'line one\nline "two" {i}',
        "queue": ["sales", "billing"][i % 2],
        "stars": str(i % 5 + 1),
        "score": f"{i / 7:.3f}",
        "region": ["south", "north", "10", "9"][i % 4],
    }
    for i in range(40)
]
BODIES = [(row["body"],) for row in ROWS]
NAMED = {"fedsa.data.text": ["body"], "fedsa.data.label": "queue"}


@pytest.fixture
def load(lab, tmp_path, monkeypatch):
    """A function that loads a file as a run does, before it is split."""
    monkeypatch.chdir(tmp_path)

    def load(name, options=None, family="text"):
        overrides = {"data.type": f"{name}@{family}", **(options or {})}
        cfg = load_config(lab.file(), overrides)
        return FAMILIES[family](name, cfg)

    return load


def write_csv(file, rows, separator=",", encoding="utf-8", end="\n"):
    with open(file, "w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(
            stream, list(rows[0]), delimiter=separator, lineterminator=end
        )
        writer.writeheader()
        writer.writerows(rows)


def as_text(rows, separator=","):
    import io

    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write(kind):
    """Write the rows as a file of a kind; return the file's name."""
    name = f"tickets{kind}"
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    if kind == ".csv":
        write_csv(name, ROWS)
    elif kind == ".tsv":
        write_csv(name, ROWS, "\t")
    elif kind == ".json":
        Path(name).write_text(json.dumps(ROWS))
    elif kind in (".jsonl", ".ndjson"):
        Path(name).write_text(lines)
    elif kind == ".jsonl.gz":
        Path(name).write_bytes(gzip.compress(lines.encode()))
    elif kind == ".jsonl.bz2":
        Path(name).write_bytes(bz2.compress(lines.encode()))
    elif kind == ".csv.xz":
        Path(name).write_bytes(lzma.compress(as_text(ROWS).encode()))
    elif kind == ".bom.csv":
        write_csv(name, ROWS, encoding="utf-8-sig", end="\r\n")
    else:
        import pandas
        import pyarrow

        table = pyarrow.Table.from_pandas(pandas.DataFrame(ROWS))
        if kind == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, name, row_group_size=7)
        elif kind == ".feather":
            import pyarrow.feather

            pyarrow.feather.write_feather(table, name)
        else:
            with (
                pyarrow.OSFile(name, "wb") as sink,
                pyarrow.ipc.new_stream(sink, table.schema) as writer,
            ):
                writer.write_table(table)
    return name


@pytest.mark.parametrize(
    "kind",
    [
        *(".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"),
        *(".arrow", ".feather", ".jsonl.gz", ".jsonl.bz2", ".csv.xz"),
        ".bom.csv",
    ],
)
def test_every_kind_of_file_holds_the_same_examples(load, kind):
    found = load(write(kind), NAMED).train
    assert found.texts == BODIES
    assert found.names == ("billing", "sales")
    assert found.labels == [(i + 1) % 2 for i in range(40)]


def test_a_saved_data_set_and_its_splits(load, tmp_path):
    import datasets

    data = datasets.Dataset.from_list(ROWS)
    both = datasets.DatasetDict(
        {"train": data.select(range(30)), "test": data.select(range(30, 40))}
    )
    both.save_to_disk(str(tmp_path / "both"))
    data.save_to_disk(str(tmp_path / "one"))
    found = load("both", NAMED)
    assert found.train.texts == BODIES[:30] and found.val is None
    assert found.test is not None and found.test.texts == BODIES[30:]
    assert load("one", NAMED).train.texts == BODIES


def test_a_folder_has_parts_or_files(load, tmp_path):
    (tmp_path / "parts").mkdir()
    for name, rows in (
        ("train", ROWS[:20]),
        ("dev", ROWS[20:30]),
        ("test", ROWS[30:]),
    ):
        write_csv(tmp_path / "parts" / f"{name}.csv", rows)
    (tmp_path / "parts" / "README.md").write_text("# No table\n")
    found = load("parts", NAMED)
    assert [len(x) for x in (found.train, found.val, found.test)] == [
        *(20, 10, 10)
    ]
    (tmp_path / "sites").mkdir()
    write_csv(tmp_path / "sites" / "b.csv", ROWS[:5])
    write_csv(tmp_path / "sites" / "a.csv", ROWS[5:])
    assert load("sites", NAMED).train.texts == BODIES[5:] + BODIES[:5]


def test_more_files_for_validation_and_test(load, tmp_path):
    write_csv(tmp_path / "a.csv", ROWS[:20])
    write_csv(tmp_path / "b.csv", ROWS[20:])
    found = load(
        "a.csv",
        {
            **NAMED,
            "fedsa.data.validation": "b.csv",
            "fedsa.data.test": "b.csv",
        },
    )
    assert found.val.texts == found.test.texts == BODIES[20:]


def test_files_are_found_below_the_data_root(load, tmp_path):
    (tmp_path / "far").mkdir()
    write_csv(tmp_path / "far" / "a.csv", ROWS)
    options = {**NAMED, "data.root": str(tmp_path / "far")}
    assert load("a.csv", options).train.texts == BODIES


def rows_of(*columns):
    return [{c: row[c] for c in columns} for row in ROWS]


@pytest.mark.parametrize(
    "rows, texts",
    [
        ([{"text": r["body"], "label": r["queue"]} for r in ROWS], ["body"]),
        ([{"label": r["queue"], "mail": r["body"]} for r in ROWS], ["body"]),
        (
            [
                {
                    "label": r["queue"],
                    "hypothesis": r["subject"],
                    "premise": r["body"],
                    "genre": "x y",
                }
                for r in ROWS
            ],
            ["body", "subject"],
        ),
        (  # a number is no text
            [
                {"id": r["id"], "label": r["queue"], "mail": r["body"]}
                for r in ROWS
            ],
            ["body"],
        ),
    ],
)
def test_columns_are_found_where_there_is_no_doubt(
    load, tmp_path, caplog, rows, texts
):
    write_csv(tmp_path / "a.csv", rows)
    found = load("a.csv").train
    assert found.texts == [tuple(row[c] for c in texts) for row in ROWS]
    assert "texts are read from" in caplog.text


def test_pairs_are_in_the_order_of_the_option_in_every_part(load, tmp_path):
    """Also where the test set has the columns in another order."""
    write_csv(tmp_path / "a.csv", rows_of("body", "subject", "queue"))
    write_csv(tmp_path / "b.csv", rows_of("queue", "subject", "body"))
    found = load(
        "a.csv",
        {
            "fedsa.data.text": ["subject", "body"],
            "fedsa.data.label": "queue",
            "fedsa.data.test": "b.csv",
        },
    )
    pairs = [(row["subject"], row["body"]) for row in ROWS]
    assert found.train.texts == found.test.texts == pairs


@pytest.mark.parametrize(
    "label, names, first",
    [
        ("stars", ("1", "2", "3", "4", "5"), [0, 1, 2, 3, 4, 0]),
        ("queue", ("billing", "sales"), [1, 0, 1, 0, 1, 0]),
        ("region", ("10", "9", "north", "south"), [3, 2, 0, 1, 3, 2]),
    ],
)
def test_the_order_of_classes(load, tmp_path, label, names, first):
    write_csv(tmp_path / "a.csv", ROWS)
    found = load("a.csv", {**NAMED, "fedsa.data.label": label}).train
    assert found.names == names and found.labels[:6] == first


@pytest.mark.parametrize("words", [True, False])
def test_the_classes_can_be_named(load, tmp_path, words):
    """A table may then call a class by its number."""
    numbers = {"sales": "0", "billing": "1"}
    rows = [
        r | ({} if words else {"queue": numbers[r["queue"]]}) for r in ROWS
    ]
    write_csv(tmp_path / "a.csv", rows)
    classes = {"fedsa.data.classes": ["sales", "billing", "other"]}
    found = load("a.csv", {**NAMED, **classes}).train
    assert found.names == ("sales", "billing", "other")
    assert found.labels == [i % 2 for i in range(40)]


def test_numbers_are_those_of_the_names_that_a_data_set_declares(
    load, tmp_path
):
    import datasets

    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["sales", "billing"]),
    )
    datasets.Dataset.from_dict(
        {"text": ["a", "b"], "label": [1, 0]}, features=features
    ).save_to_disk(str(tmp_path / "data"))
    found = load("data").train
    assert found.names == ("sales", "billing") and found.labels == [1, 0]


def test_scores(load, tmp_path):
    write_csv(tmp_path / "a.csv", ROWS)
    options = {"fedsa.data.text": ["body"], "fedsa.data.target": "score"}
    found = load("a.csv", options).train
    assert found.names == ()
    assert found.labels == [float(row["score"]) for row in ROWS]


@pytest.mark.parametrize(
    "columns, prompt",
    [
        (("prompt", "completion"), "body 0"),
        (("instruction", "output"), "### Instruction:\nbody 0\n\n"),
        (("frage", "antwort"), "body 0"),
    ],
)
def test_instructions(load, tmp_path, columns, prompt):
    rows = [
        dict(zip(columns, (f"body {i}", f"answer {i}"), strict=True))
        for i in range(9)
    ]
    write_csv(tmp_path / "a.csv", rows)
    options = {}
    if columns[0] == "frage":
        options = {
            "fedsa.data.prompt": "frage",
            "fedsa.data.completion": "antwort",
        }
    found = load("a.csv", options, "chat").train
    assert found.are_instructions
    assert found.texts[0][0].startswith(prompt)
    assert found.texts[8][1] == "answer 8"


def test_incomplete_rows_can_be_left_out(load, tmp_path, caplog):
    rows = [dict(row) for row in ROWS]
    rows[3]["body"], rows[5]["queue"] = "  ", ""
    write_csv(tmp_path / "a.csv", rows)
    found = load("a.csv", {**NAMED, "fedsa.data.incomplete": "skip"}).train
    assert len(found) == 38
    assert "are left out: 2" in caplog.text


def text_file(text, name="a.csv", encoding="utf-8"):
    return lambda: Path(name).write_bytes(text.encode(encoding))


LABELLED = "fedsa.data.label"


@pytest.mark.parametrize(
    "make, options, said",
    [
        (lambda: None, {}, "there is no file 'a.csv'"),
        (
            text_file("text,label\nx,y\n", "b.csv"),
            {},
            r"did you mean 'b.csv'\?",
        ),
        (text_file(""), {}, "holds no examples"),
        (text_file("text,label\n"), {}, "holds no examples"),
        (text_file("a;b\nx;y\n"), {}, "fedsa.data.separator"),
        (text_file("text,queue\nx,y\n"), {}, "name that of the labels"),
        (
            text_file("text,label\nx,y\n"),
            {LABELLED: "labels"},
            "no column 'labels' .did you mean 'label'",
        ),
        (
            text_file("text,label\nx,y\n"),
            {"fedsa.data.client": "region"},
            "fedsa.data.client: a.csv has no column 'region'",
        ),
        (
            text_file("a,b,label\nx,y,0\n"),
            {},
            r"name that of the texts, .*\(fedsa.data.text\)",
        ),
        (text_file("text,label\nx,y\n,z\n"), {}, "line 3: 'text' is empty"),
        (text_file("text,label\nx,y\nx,\n"), {}, "line 3: 'label' is empty"),
        (text_file("text,label\nx,y,z\n"), {}, "line 2: 3 columns"),
        (text_file("text,label\nx\n"), {}, "line 2: 1 columns, expected 2"),
        (text_file("text,text,label\nx,y,z\n"), {}, "2 columns 'text'"),
        (text_file('text,label\n"x,y\n'), {}, "line 2: unexpected end"),
        (
            text_file("text,label\né,y\n", encoding="latin-1"),
            {},
            "line 2.*UTF",
        ),
        (text_file("text,label\nx,y\n", encoding="utf-16"), {}, "UTF-16"),
        (
            text_file("text,label\nx,y\nx,z\n"),
            {"fedsa.data.classes": ["y", "w"]},
            "line 3: the label 'z' is none of the classes 'y', 'w'",
        ),
        (
            text_file("text,label\nx,0.5\nx,1.5\n"),
            {},
            "fedsa.data.target",
        ),
        (
            text_file("text,score\nx,0.5\nx,good\n"),
            {"fedsa.data.target": "score"},
            "line 3: 'good' in 'score' is not a finite number",
        ),
        (
            text_file("text,score\nx,nan\n"),
            {"fedsa.data.target": "score"},
            "is not a finite number",
        ),
        (
            text_file('{"text": null, "label": 1}\n', "a.jsonl"),
            {"data.type": "a.jsonl@text", "fedsa.data.text": ["text"]},
            "line 1: the value of 'text' is missing",
        ),
        (
            text_file('{"text": 5, "label": 1}\n', "a.jsonl"),
            {"data.type": "a.jsonl@text", "fedsa.data.text": ["text"]},
            "line 1: 'text' is 5, not a text",
        ),
        (
            text_file(
                '{"text": "x", "label": [1]}\n{"text": "x", "label": 1}\n',
                "a.jsonl",
            ),
            {"data.type": "a.jsonl@text"},
            r"line 1: the label \[1\] in 'label'",
        ),
        (
            text_file('{"text": "x", "label": 1}\n[]\n', "a.jsonl"),
            {"data.type": "a.jsonl@text"},
            "line 2: not a JSON object",
        ),
        *(
            (
                text_file("text,label\nx,y\n"),
                {"fedsa.data.separator": separator},
                "is not one character",
            )
            for separator in (";;", "\n", '"')
        ),
        (
            text_file("hello", "a.txt"),
            {"data.type": "a.txt@text"},
            "is no table; files of .csv",
        ),
        (
            text_file("x", "a.parquet"),
            {"data.type": "a.parquet@text"},
            "a.parquet cannot be read",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    lab, tmp_path, monkeypatch, make, options, said
):
    monkeypatch.chdir(tmp_path)
    make()
    options = {"data.type": "a.csv@text", **options}
    with pytest.raises(UserError, match=said) as caught:
        lab.runner(**{k.replace(".", "__"): v for k, v in options.items()})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("metrics.jsonl"))


# Clients


def split(lab, **overrides):
    cfg = load_config(lab.file(), overrides)
    name, _, family = cfg.data.type.rpartition("@")
    return cfg, three_splits(cfg, name, family)


OWN = {
    "data.type": "a.csv@text",
    "data.splitter": "column",
    "data.splitter_args": [],
    "federate.client_num": 0,
    "fedsa.data.client": "region",
    **NAMED,
}


def test_each_value_of_a_column_is_a_client(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv("a.csv", ROWS)
    cfg, parts = split(lab, **OWN)
    assert cfg.fedsa.data.clients == ["9", "10", "north", "south"]
    assert cfg.federate.client_num == cfg.federate.sample_client_num == 4
    region = {row["body"]: row["region"] for row in ROWS}
    for part in parts:
        assert [region[text] for (text,) in part.texts] == list(part.clients)
        assert {*part.clients} == {"9", "10", "north", "south"}
    assert sum(map(len, parts)) == 40


def test_each_file_is_a_client(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv("hospital_b.csv", ROWS[:30])
    write_csv("hospital_a.csv", ROWS[30:])
    cfg, parts = split(
        lab,
        **OWN
        | {"data.type": "h*.csv@text", "data.splitter": "files"}
        | {"fedsa.data.client": ""},
    )
    assert cfg.fedsa.data.clients == ["hospital_a", "hospital_b"]
    assert parts[0].clients.count("hospital_b") > 20


@pytest.mark.parametrize(
    "files, names",
    [
        (["a/x.csv", "b/x.csv"], ["a", "b"]),
        (["a/x.csv", "a/y.csv", "b/x.csv"], ["a/x", "a/y", "b/x"]),
    ],
)
def test_files_of_one_name_are_told_apart_by_their_folders(
    lab, tmp_path, monkeypatch, files, names
):
    monkeypatch.chdir(tmp_path)
    for number, file in enumerate(files):
        Path(file).parent.mkdir(exist_ok=True)
        write_csv(file, ROWS[number::3])
    own = OWN | {"data.type": "*/*.csv@text", "data.splitter": "files"}
    cfg, _ = split(lab, **own | {"fedsa.data.client": ""})
    assert cfg.fedsa.data.clients == names


def test_only_the_named_clients_take_part(lab, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    write_csv("a.csv", ROWS)
    cfg, parts = split(lab, **OWN | {"fedsa.data.clients": ["south", "north"]})
    assert cfg.fedsa.data.clients == ["south", "north"]
    assert sum(map(len, parts)) == 20
    assert "20 examples of clients that take no part" in caplog.text


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({"federate.client_num": 3}, "belong to 4 clients .'9', '10', 'no"),
        ({"fedsa.data.clients": ["nort"]}, "did you mean 'north'"),
        ({"fedsa.data.client": ""}, "fedsa.data.client"),
        ({"data.splitter": "files", "fedsa.data.client": ""}, "1 clients"),
        ({"federate.sample_client_num": 5}, "sample_client_num: 5 is more"),
        ({"fedsa.data.min_examples": 9}, "client 9 has 8 examples"),
        (
            {
                "data.splitter": "iid",
                "federate.client_num": 3,
                "fedsa.data.clients": ["a"],
            },
            "1 names are given, and there are 3 clients",
        ),
    ],
)
def test_clients_that_do_not_fit(lab, tmp_path, monkeypatch, overrides, said):
    monkeypatch.chdir(tmp_path)
    write_csv("a.csv", ROWS)
    overrides = OWN | overrides
    if overrides["data.splitter"] == "files":
        overrides |= {"federate.client_num": 2}
    with pytest.raises(UserError, match=said) as caught:
        lab.runner(**{k.replace(".", "__"): v for k, v in overrides.items()})
    assert "\n" not in str(caught.value)


def test_clients_are_called_by_their_names(lab, tmp_path, monkeypatch):
    """In the folders of adapters, in Python, in exports and in tables."""
    monkeypatch.chdir(tmp_path)
    rows = [dict(r) for r in ROWS]
    for row in rows:
        new = {"10": "Köln / Süd", "north": "St. North"}
        row["region"] = new.get(row["region"], row["region"])
    write_csv("a.csv", rows)
    own = {k.replace(".", "__"): v for k, v in OWN.items()}
    folder = Path(lab.run(**own, federate__total_round_num=1)["outdir"])
    found = load_run(folder)
    assert found.names == ["9", "Köln / Süd", "St. North", "south"]
    assert {path.name for path in (folder / "adapters").iterdir()} == {
        *("base", "global", "9", "K%C3%B6ln %2F S%C3%BCd"),
        *("St. North", "south"),
    }
    assert found.client("St. North").ID == found.client(3).ID == 3
    assert found.client("9").ID == 1  # the name, not the number
    assert found.clients == [1, 2, 3, 4]
    with pytest.raises(
        UserError, match=r"known are 9, Köln / Süd, St\. North"
    ):
        found.client("east")
    for client in ("Köln / Süd", "2"):
        out = tmp_path / f"out {client[:1]}"
        export(folder, client, out)
        card = (out / "README.md").read_text(encoding="utf-8")
        assert "this is client Köln / Süd's" in card


@pytest.mark.parametrize("name", ["global", "base", ".hidden", "x" * 250])
def test_names_that_no_folder_can_have(lab, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_csv("a.csv", [r | {"region": name} for r in ROWS[:20]] + ROWS[20:])
    own = {k.replace(".", "__"): v for k, v in OWN.items()}
    with pytest.raises(UserError, match="cannot be the name of a client"):
        lab.runner(**own)


def test_a_client_with_too_few_examples_to_validate(
    lab, tmp_path, monkeypatch
):
    """One example is trained on; of two the second is tested on."""
    monkeypatch.chdir(tmp_path)
    regions = ["one", "two", "two", *["many"] * 37]
    rows = [r | {"region": n} for r, n in zip(ROWS, regions, strict=True)]
    write_csv("a.csv", rows)
    own = {k.replace(".", "__"): v for k, v in OWN.items()}
    found = load_run(lab.run(**own, federate__total_round_num=2)["outdir"])
    assert found.names == ["many", "one", "two"]
    counts = {
        name: [
            sum(found.labels[str(ID)][s].values()) for s in found.labels["1"]
        ]
        for ID, name in enumerate(found.names, 1)
    }
    assert counts["one"] == [1, 0, 0] and counts["two"] == [1, 0, 1]
    assert found.client("one").results == {}
    assert found.client("two").results["test_total"] == 1
    assert "val_acc" in found.client("many").results
    assert found.is_finished and found.client("one").adapter.is_dir()


def test_nothing_is_trained_on_that_is_tested_on(load, tmp_path):
    """A pattern, or a folder, may match the file of the test set, too."""
    (tmp_path / "d").mkdir()
    write_csv(tmp_path / "d" / "north.csv", ROWS[:15])
    write_csv(tmp_path / "d" / "south.csv", ROWS[15:30])
    write_csv(tmp_path / "d" / "other.csv", ROWS[30:])
    options = {**NAMED, "fedsa.data.test": "d/other.csv"}
    for name in ("d/*.csv", "d"):
        found = load(name, options)
        assert found.train.texts == BODIES[:30]
        assert found.test.texts == BODIES[30:]
    with pytest.raises(UserError, match="no file to train on beside"):
        load("d/other.csv", options)


def test_the_training_examples_say_which_classes_there_are(load, tmp_path):
    """Not those of another part, which may come first by its name."""
    (tmp_path / "d").mkdir()
    few = [row for row in ROWS if row["stars"] in "12"]
    write_csv(tmp_path / "d" / "train.csv", ROWS)
    write_csv(tmp_path / "d" / "test.csv", few)
    write_csv(tmp_path / "d" / "dev.csv", few)
    found = load("d", {**NAMED, "fedsa.data.label": "stars"})
    assert found.train.names == found.test.names == ("1", "2", "3", "4", "5")
    assert {*found.test.labels} == {0, 1}


def test_test_files_belong_to_the_clients_of_their_folders(
    lab, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for number, site in enumerate(("a", "b")):
        Path(site).mkdir()
        write_csv(f"{site}/train.csv", ROWS[number:30:2])
        write_csv(f"{site}/test.csv", ROWS[30 + number :: 2])
    own = OWN | {
        "data.type": "*/train.csv@text",
        "data.splitter": "files",
        "fedsa.data.client": "",
        "fedsa.data.test": "*/test.csv",
        "fedsa.data.label": "stars",
    }
    cfg, (_, _, test) = split(lab, **own)
    assert cfg.fedsa.data.clients == ["a", "b"]
    assert list(test.clients) == ["a"] * 5 + ["b"] * 5


def test_two_spellings_of_a_client_are_told(
    lab, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    spelt = {"north": "Café", "9": "cafe\u0301"}
    write_csv(
        "a.csv",
        [r | {"region": spelt.get(r["region"], r["region"])} for r in ROWS],
    )
    split(lab, **OWN)
    assert "are two clients; is it one" in caplog.text


def test_a_client_is_part_of_a_complete_row(load, tmp_path, caplog):
    rows = [dict(row) for row in ROWS]
    rows[4]["region"] = ""
    write_csv(tmp_path / "a.csv", rows)
    options = {**NAMED, "fedsa.data.client": "region"}
    with pytest.raises(UserError, match="'region' is empty"):
        load("a.csv", options)
    found = load("a.csv", {**options, "fedsa.data.incomplete": "skip"})
    assert len(found.train) == 39


def test_another_separator_is_thought_of(load, tmp_path):
    write_csv(tmp_path / "a.csv", ROWS, ";")
    with pytest.raises(UserError, match=r"fedsa\.data\.separator"):
        load("a.csv", NAMED)
    found = load("a.csv", {**NAMED, "fedsa.data.separator": ";"})
    assert found.train.texts == BODIES
