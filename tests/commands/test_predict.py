"""Predictions with a run's models are those of the run."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from tickets import TEST, write

from fs_plugins.commands.predict import evaluate, predict
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run
from fs_plugins.inference.predictor import Predictor


@pytest.fixture
def trained(train_tickets, trained_tickets):
    """The folder of a run: that of all tests, or one with changes."""

    def call(**changes):
        return train_tickets(**changes) if changes else trained_tickets

    return call


def test_a_client_has_the_results_of_the_run(trained, capsys):
    """On its own test examples, through files, batches and commands."""
    folder = trained()
    run = load_run(folder)
    for ID, name in enumerate(("north", "south", "west"), 1):
        own = [row for row in TEST if row["region"] == name]
        write("own.csv", own)
        evaluate(folder, name, "own.csv", as_json=True)
        found = json.loads(capsys.readouterr().out)[name]
        expected = run.client(ID).results
        assert found["examples"] == expected["test_total"] == len(own)
        assert found["acc"] == pytest.approx(expected["test_acc"])
        predict(folder, name, "own.csv")
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        right = [r["predicted_label"] == r["queue"] for r in rows]
        assert sum(right) / len(right) == pytest.approx(found["acc"])
        assert [r["mail"] for r in rows] == [r["mail"] for r in own]
        loss = -torch.tensor(
            [
                float(r["probability"])
                if is_right
                else 1 - float(r["probability"])
                for r, is_right in zip(rows, right, strict=True)
            ]
        ).log()
        assert loss.mean() == pytest.approx(
            expected["test_avg_loss"], abs=1e-4
        )


def test_a_regression(trained, capsys):
    folder = trained(
        fedsa__data__label="",
        fedsa__data__target="score",
        eval__metrics=["mse"],
        eval__best_res_update_round_wise_key="val_mse",
    )
    run = load_run(folder)
    write("own.csv", [row for row in TEST if row["region"] == "south"])
    evaluate(folder, "2", "own.csv", as_json=True)
    found = json.loads(capsys.readouterr().out)["2"]
    assert found["mse"] == pytest.approx(run.client(2).results["test_mse"])
    predict(folder, "south", "own.csv", as_json=True)
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert isinstance(first["predicted_label"], float)
    assert "probability" not in first


def test_texts_in_place_of_a_file_and_a_file_without_labels(
    trained, capsys, tmp_path
):
    folder = trained()
    write("new.csv", [{"mail": row["mail"]} for row in TEST[:3]])
    predict(folder, "west", "new.csv", out=tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8") as stream:
        written = list(csv.DictReader(stream))
    for row, text in zip(written, TEST, strict=False):
        predict(folder, "west", texts=[text["mail"]], as_json=True)
        line = json.loads(capsys.readouterr().out)
        assert line["predicted_label"] == row["predicted_label"]
        assert line["probability"] == pytest.approx(
            float(row["probability"]), abs=1e-5
        )
    assert not capsys.readouterr().out


def test_nothing_is_kept_of_the_texts(trained, tmp_path):
    folder = trained(fedsa__token_cache="none")
    files = {p for p in tmp_path.rglob("*") if p.suffix == ".npz"}
    assert not files
    run = load_run(folder)
    before = {*tmp_path.rglob("*")}
    Predictor(run, run.client("north")).predict(["w1 w2", "w3"])
    assert {*tmp_path.rglob("*")} == before


def test_what_cannot_be_predicted_is_one_sentence(trained, tmp_path):
    folder = trained()
    write("bare.csv", [{"region": "north"}])
    (tmp_path / "empty.csv").write_text("mail\n")
    (tmp_path / "gap.csv").write_text("mail,x\na,b\n,c\n")
    (tmp_path / "other.csv").write_text("mail,queue\nw1,sales\nw2,spam\n")
    for call, said in (
        ({}, "name a file of texts, or give --text"),
        ({"file": "test.csv", "texts": ["a"]}, "name a file of texts, or"),
        ({"file": "tests.csv"}, "FILE: there is no file .* 'test.csv'"),
        ({"file": "test.csv", "client": "norht"}, "known are north, south"),
        ({"file": "bare.csv"}, "no column 'mail'"),
        ({"file": "empty.csv"}, "holds no examples"),
        ({"file": "gap.csv"}, "line 3: 'mail' is empty"),
        ({"texts": ["a", "b", "c"]}, "is no text and no pair of texts"),
        ({"texts": ["a", "b"]}, "was trained on one text each"),
        ({"texts": [" "]}, "or is empty"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            predict(folder, **{"client": "north", **call})
        assert "\n" not in str(caught.value)
    for out, said in (
        (tmp_path, "is there already"),
        (tmp_path / "test.csv", "is there already"),
        (tmp_path / "x.parquet", "'.parquet' is not written"),
    ):
        with pytest.raises(UserError, match=said):
            predict(folder, "north", "test.csv", out=out)
    run = load_run(folder)
    ours = Predictor(run, run.client("north"))
    for texts in ("a text", [1, 2], [None], [("a", "b")], [""], {"a": 1}):
        with pytest.raises(UserError, match=r"^predict: "):
            ours.predict(texts)
    with pytest.raises(UserError, match="line 3: the label 'spam' is none"):
        evaluate(folder, "all", "other.csv")


def test_a_language_model_has_no_classes(language_lab):
    folder = language_lab.run(federate__total_round_num=1)["outdir"]
    with pytest.raises(UserError, match="has no classes to predict"):
        predict(Path(folder), "1", texts=["a"])


def test_the_servers_model_is_told_for_what_it_is(trained, capsys, caplog):
    predict(trained(), "global", texts=["w1"])
    assert "it has B at zero" in caplog.text
    assert "name a client" in caplog.text


def test_a_file_may_have_another_separator_than_the_data(trained, capsys):
    text = Path("train.csv").read_text().replace(",", ";")
    Path("semicolons.csv").write_text(text)
    folder = trained(
        data__type="semicolons.csv@text",
        fedsa__data__separator=";",
        fedsa__data__test="",
    )
    evaluate(folder, "north", "test.csv", as_json=True)
    assert json.loads(capsys.readouterr().out)["north"]["examples"] == 60


def test_a_pattern_of_files_is_evaluated(trained, capsys):
    folder = trained()
    write("part_1.csv", TEST[:10])
    write("part_2.csv", TEST[10:25])
    evaluate(folder, "north", "part_*.csv", as_json=True)
    assert json.loads(capsys.readouterr().out)["north"]["examples"] == 25
