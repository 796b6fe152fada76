"""Predictions of several labels a text, and of standardised scores."""

import csv
import io
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from fs_plugins.commands.data import describe
from fs_plugins.commands.export import export
from fs_plugins.commands.personalise import personalise
from fs_plugins.commands.predict import evaluate, predict
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run
from fs_plugins.inference.predictor import Predictor

WORDS = [f"w{i}" for i in range(60)]
NAMES = ("billing", "sales", "technical")


def rows_of(seed, number=40):
    rng = random.Random(seed)
    rows = []
    for i in range(number):
        labels = [k for k in range(3) if rng.random() < 0.4]
        words = [
            word
            for k in labels
            for word in rng.choices(WORDS[20 * k :][:20], k=3)
        ]
        rows.append(
            {
                "mail": " ".join(words + rng.choices(WORDS, k=2)),
                "topics": "; ".join(NAMES[k] for k in labels),
                "price": repr(250000.0 + 40000 * len(labels) + i),
                "region": ["north", "south"][i % 2],
            }
        )
    return rows


def write(file, rows):
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


TEST = rows_of(2)


def changes_for(data, **more):
    """Changes for a run on the files, whose columns ``data`` names."""
    return {
        "data__type": "train.csv@text",
        "data__splitter": "column",
        "data__splitter_args": [],
        "federate__client_num": 0,
        "federate__total_round_num": 2,
        "train__optimizer": {"type": "AdamW", "lr": 0.02},
        "fedsa__data": {
            "text": ["mail"],
            "client": "region",
            "test": "test.csv",
            **data,
        },
        "eval__metrics": [],
        "eval__best_res_update_round_wise_key": "val_avg_loss",
        **more,
    }


@pytest.fixture
def trained(lab, tmp_path, monkeypatch):
    """A function that trains on files; returns the run's folder."""
    monkeypatch.chdir(tmp_path)
    write("train.csv", rows_of(1))
    write("test.csv", TEST)

    def train(data, **more):
        return Path(lab.run(**changes_for(data, **more))["outdir"])

    return train


TOPICS = {"labels": "topics", "label_separator": ";"}
PRICES = {"target": "price", "standardise": True}


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_labels_are_predicted_and_evaluated(trained, capsys):
    """What is evaluated is what was evaluated in the run, at 0.5."""
    folder = trained(TOPICS)
    own = [row for row in TEST if row["region"] == "south"]
    write("own.csv", own)
    predict(folder, "south", "own.csv")
    rows = table(capsys.readouterr().out)
    likely = np.array(
        [[float(row[f"probability_{n}"]) for n in NAMES] for row in rows]
    )
    found = [row["predicted_labels"] for row in rows]
    assert found == [
        ";".join(n for n, p in zip(NAMES, each, strict=True) if p > 0.5)
        for each in likely
    ]
    assert len({*found}) > 1
    truth = np.array([[n in row["topics"] for n in NAMES] for row in own])
    evaluate(folder, "south", "own.csv", as_json=True)
    told = json.loads(capsys.readouterr().out)["south"]
    results = load_run(folder).client(2).results
    for metric in ("micro_f1", "macro_f1", "subset_acc", "avg_loss"):
        assert told[metric] == pytest.approx(results[f"test_{metric}"])
    right = np.mean([f == r["topics"].replace("; ", ";")
                     for f, r in zip(found, own, strict=True)])  # fmt: skip
    assert told["subset_acc"] == pytest.approx(right)
    loss = -np.log(np.where(truth, likely, 1 - likely)).mean()
    assert told["avg_loss"] == pytest.approx(loss, abs=1e-5)
    for k, name in enumerate(NAMES):
        t, p = truth[:, k], likely[:, k] > 0.5
        assert told["f1"][name] == pytest.approx(
            2 * sum(t & p) / max(1, sum(t) + sum(p))
        )
    predict(folder, "south", "own.csv", as_json=True)
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    for line, row, each in zip(lines, found, likely, strict=True):
        assert line["predicted_labels"] == [n for n in row.split(";") if n]
        assert [*line["probabilities"]] == list(NAMES)
        assert [*line["probabilities"].values()] == pytest.approx(
            each, abs=1e-6
        )
    evaluate(folder, "all", "own.csv")
    shown = capsys.readouterr().out
    assert "F1 of each label" in shown and "technical" in shown


def test_another_threshold_and_wrong_input(trained, capsys):
    folder = trained(TOPICS)
    run = load_run(folder)
    texts = [row["mail"] for row in TEST]
    likely = [
        each.probabilities
        for each in Predictor(run, run.client(1)).predict(texts)
    ]
    for threshold in (0.01, 0.3, 0.9, 1 - 1e-12):
        ours = Predictor(run, run.client(1), threshold=threshold)
        for each, other in zip(ours.predict(texts), likely, strict=True):
            assert each.label == tuple(
                n for n in NAMES if other[n] > threshold
            )
            assert each.probabilities == other
    evaluate(folder, "north", "test.csv", as_json=True, threshold=1 - 1e-12)
    assert json.loads(capsys.readouterr().out)["north"]["micro_f1"] == 0
    for wrong in (0, 1, -1.0, 2, float("nan")):
        with pytest.raises(
            UserError, match=r"--threshold: .* between 0 and 1"
        ):
            predict(folder, "north", "test.csv", threshold=wrong)
    write("other.csv", [{"mail": "w1", "queue": "billing"}])
    with pytest.raises(UserError, match="no column 'topics'"):
        evaluate(folder, "north", "other.csv")
    write("other.csv", [{"mail": "w1", "topics": "billing;spam"}])
    with pytest.raises(UserError, match="line 2: the label 'spam' is none of"):
        evaluate(folder, "north", "other.csv")


def test_a_threshold_of_one_class_is_refused(trained):
    folder = trained({"label": "region", "client": ""}, data__splitter="iid",
                     federate__client_num=2)  # fmt: skip
    with pytest.raises(UserError, match="this run's have one class"):
        predict(folder, "1", "test.csv", threshold=0.4)


def test_what_was_predicted_can_be_read(trained, capsys, tmp_path):
    """Also names with the separator in them, which need lists."""
    rows = [
        {"mail": r["mail"], "topics": [t.replace("s", ",") for t in
         r["topics"].split("; ") if t], "region": r["region"]}
        for r in rows_of(1)
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(text)
    folder = trained(
        {"labels": "topics", "test": ""}, data__type="a.jsonl@text"
    )
    predict(folder, "north", "a.jsonl", out=tmp_path / "out.csv")
    found = table((tmp_path / "out.csv").read_text())
    write("again.csv", [
        {"mail": row["mail"], "topics": row["predicted_labels"]}
        for row in found
    ])  # fmt: skip
    evaluate(folder, "north", "again.csv", as_json=True)
    assert json.loads(capsys.readouterr().out)["north"]["subset_acc"] == 1


def test_columns_of_flags(trained, capsys):
    """The classes are the columns, in training and in evaluation."""
    for file, seed in (("train.csv", 1), ("test.csv", 2)):
        write(file, [
            {**row, **{n: int(n in row["topics"]) for n in NAMES}}
            for row in rows_of(seed)
        ])  # fmt: skip
    folder = trained({"labels": ["technical", "billing", "sales"]})
    assert load_run(folder).config["model"]["adapter"]["classes"] == [
        "technical", "billing", "sales",
    ]  # fmt: skip
    evaluate(folder, "north", "test.csv", as_json=True)
    assert json.loads(capsys.readouterr().out)["north"]["examples"] == 40


def test_a_new_client(trained, tmp_path, capsys):
    folder = trained(TOPICS)
    write(
        "own.csv", [{"mail": r["mail"], "topics": r["topics"]} for r in TEST]
    )
    out = personalise(folder, "own.csv", tmp_path / "out", "east", quiet=True)
    evaluate(Path(out), "east", "own.csv", as_json=True)
    assert "micro_f1" in json.loads(capsys.readouterr().out)["east"]


def test_the_data_are_shown(trained, lab, capsys, tmp_path):
    trained(TOPICS)
    file = lab.file(
        data__type="train.csv@text",
        data__splitter="iid",
        data__splitter_args=[],
        fedsa__data={"text": ["mail"], **TOPICS},
        eval__metrics=[],
        eval__best_res_update_round_wise_key="val_avg_loss",
    )
    describe(str(file), ())
    shown = capsys.readouterr().out
    (line,) = (x for x in shown.splitlines() if x.startswith("│ technical  "))
    numbers = [int(cell) for cell in line.split("│")[2:5]]
    assert sum(numbers) == sum("technical" in r["topics"] for r in rows_of(1))


def test_scores_are_told_in_their_unit(trained, capsys, tmp_path):
    folder = trained(PRICES, eval__metrics=["mse"])
    run = load_run(folder)
    own = [row for row in TEST if row["region"] == "north"]
    write("own.csv", own)
    predict(folder, "north", "own.csv", as_json=True)
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    found = np.array([line["predicted_label"] for line in lines])
    truth = np.array([float(row["price"]) for row in own])
    assert abs(found.mean() - truth.mean()) < 100000 < truth.min()
    mse = ((found - truth) ** 2).mean()
    assert run.client(1).results["test_mse"] == pytest.approx(mse, rel=1e-4)
    evaluate(folder, "north", "own.csv", as_json=True)
    told = json.loads(capsys.readouterr().out)["north"]
    assert told["mse"] == pytest.approx(mse, rel=1e-4)
    mean, deviation = run.config["fedsa"]["data"]["standardise"]
    export(folder, "north", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"times {deviation:.17g} plus {mean:.17g}" in card


def test_a_new_client_has_the_scale_of_the_run(trained, tmp_path):
    """The head it begins with was trained on scores of this scale."""
    folder = trained(PRICES, eval__metrics=["mse"])
    write(
        "own.csv",
        [{"mail": r["mail"], "price": i} for i, r in enumerate(TEST)],
    )
    out = personalise(folder, "own.csv", tmp_path / "out", "east", quiet=True)
    old, new = (
        load_run(f).config["fedsa"]["data"]["standardise"]
        for f in (folder, Path(out))
    )
    assert old == new and old[0] > 200000
    file = folder / "config.yaml"
    text = re.sub(
        r"standardise:\n( +)- .*\n +- .*\n",
        r"standardise: true\n",
        file.read_text(),
    )
    file.write_text(text)
    with pytest.raises(UserError, match="has not the mean and the standard"):
        predict(folder, "north", "own.csv")


def test_a_start_from_scores_in_another_unit_is_told(trained, lab, caplog):
    """The head of the adapter would be off at first."""
    scores = {**PRICES, "standardise": [250000, 50000]}
    more = {"eval__metrics": ["mse"], "federate__total_round_num": 1}
    start = trained(scores, **more) / "adapters" / "north"
    begun = {"federate__restore_from": str(start), **more}
    lab.runner(**changes_for(scores, **begun))
    assert "predicts scores with" not in caplog.text
    lab.runner(**changes_for(PRICES, **begun))
    assert "standardise [250000.0, 50000.0], and this run's" in caplog.text
