"""Predictions and evaluations with the models of a run."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from fs_plugins.commands.model_card import note_what_is_missing
from fs_plugins.data.cells import text_in
from fs_plugins.data.columns import texts_of
from fs_plugins.data.own_examples import examples_in
from fs_plugins.data.tables import Table, find_table
from fs_plugins.errors import UserError, shown
from fs_plugins.experiment.runs import Run, load_run
from fs_plugins.host.configuration import OwnData
from fs_plugins.inference.predictor import Prediction, Predictor, predictor_of
from fs_plugins.report.tables import Table as Shown
from fs_plugins.report.tables import show
from fs_plugins.state.files import write_file
from fs_plugins.trainer.metrics import METRICS

LABEL, PROBABILITY = "predicted_label", "probability"


def predict(
    folder: Path,
    client: str,
    file: str = "",
    texts: Sequence[str] = (),
    out: Path | None = None,
    as_json: bool = False,
) -> None:
    """Print or write the predictions for new texts.

    Args:
        folder: the run's folder.
        client: the name or the number of a client, or ``global``.
        file: a table of texts, in any form that a run can read.
        texts: a text, or a pair of texts, in place of a file.
        out: the file to write; None for standard output.
        as_json: whether each line is a JSON object; otherwise the rows of
            the file are written as csv, with two columns more.

    Raises:
        UserError: the run, the client or the file cannot be used.

    """
    if bool(file) == bool(texts):
        raise UserError("predict: name a file of texts, or give --text")
    run = load_run(folder)
    if out is not None:
        _check_out(out)
        as_json = as_json or out.suffix.lower() in (".json", ".jsonl")
    predictor = predictor_of(run, client)
    rows: list[dict[str, Any]]
    if file:
        table = _table(file, run)
        rows = [dict(row) for _, row in table.rows]
        inputs = _texts(table, run)
    else:
        rows = [dict(zip(("text", "text_pair"), texts, strict=False))]
        inputs = [tuple(texts)]
    note_what_is_missing(run, client)
    found = predictor.predict(inputs)
    text = _as_json(rows, found) if as_json else _as_csv(rows, found)
    if out is None:
        print(text, end="")
    else:
        write_file(out, text.encode(), private=True)


def _check_out(out: Path) -> None:
    """Refuse a file that is there, or of a kind that is not written."""
    if out.exists():
        raise UserError(f"--out: {out} is there already")
    if out.suffix.lower() not in ("", ".csv", ".json", ".jsonl"):
        raise UserError(
            f"--out: {shown(out.suffix)} is not written; take .csv, or "
            ".jsonl for lines of JSON"
        )


def _as_csv(
    rows: Sequence[Mapping[str, Any]], found: Sequence[Prediction]
) -> str:
    """The rows of a file with the predictions, as csv."""
    stream = io.StringIO()
    is_score = bool(found) and found[0].probability is None
    added = [LABEL] if is_score else [LABEL, PROBABILITY]
    columns = [name for name in rows[0] if name not in added] if rows else []
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*columns, *added])
    for row, prediction in zip(rows, found, strict=True):
        values = [row[name] for name in columns]
        writer.writerow([*values, *_values(prediction)])
    return stream.getvalue()


def _values(prediction: Prediction) -> list[Any]:
    if prediction.probability is None:
        return [f"{prediction.label:.6g}"]
    return [prediction.label, f"{prediction.probability:.6f}"]


def _as_json(
    rows: Sequence[Mapping[str, Any]], found: Sequence[Prediction]
) -> str:
    """A JSON object for each row, with the prediction."""
    lines = []
    for row, prediction in zip(rows, found, strict=True):
        line = {**row, LABEL: prediction.label}
        if prediction.probability is not None:
            line[PROBABILITY] = prediction.probability
        lines.append(json.dumps(line, ensure_ascii=False, default=str))
    return "".join(f"{line}\n" for line in lines)


def evaluate(
    folder: Path, client: str, file: str, as_json: bool = False
) -> None:
    """Print how well the models of a run do on a table of labelled texts.

    Args:
        folder: the run's folder.
        client: the name or the number of a client, ``global``, or ``all``
            for all clients.
        file: a table of texts with labels.
        as_json: whether the results are printed as a JSON object.

    Raises:
        UserError: the run, a client or the file cannot be used.

    """
    run = load_run(folder)
    names = [run.name_of(ID) for ID in run.clients] if client == "all" else []
    note_what_is_missing(run, client)
    tables = [
        replace(table, rows=[*table.rows]) for table in _tables(file, run)
    ]
    results: dict[str, dict[str, float]] = {}
    for name in names or [client]:
        results[name] = _results(predictor_of(run, name), tables, run)
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
        return
    metrics = list(next(iter(results.values())))
    show(
        Shown(
            f"{folder.name} on {file}",
            ("client", *metrics),
            [
                (name, *(f"{values[metric]:.4g}" for metric in metrics))
                for name, values in results.items()
            ],
        )
    )


def _results(
    predictor: Predictor, tables: Sequence[Table], run: Run
) -> dict[str, float]:
    """The metrics of a model on labelled texts."""
    options = _options(run, predictor.classes)
    examples = examples_in({"train": tables}, options, "text")["train"]
    logits = predictor.logits(examples.texts).numpy()
    truth = np.array(examples.labels)
    results: dict[str, float] = {"examples": len(examples)}
    if predictor.classes:
        best = logits.argmax(axis=1)
        results["acc"] = float((best == truth).mean())
        arguments = {"y_true": truth, "y_pred": best}
        wanted = ["matthews", *(["binary_f1"] * (logits.shape[1] == 2))]
    else:
        scores = logits[:, 0]
        results["mse"] = float(((scores - truth) ** 2).mean())
        arguments = {"y_true": truth, "y_prob": scores}
        wanted = ["pearson", "spearman"]
    return results | {name: METRICS[name](**arguments) for name in wanted}


def _table(file: str, run: Run) -> Table:
    """The table of a file."""
    tables = _tables(file, run)
    if len(tables) > 1:
        raise UserError(f"{shown(file)}: name one file")
    return tables[0]


def _tables(file: str, run: Run) -> list[Table]:
    """The tables of a file, or of a pattern of files.

    They have the separator of the run's data, or else the usual one.
    """
    separator = _own(run).get("separator") or ""
    tables = find_table("FILE", file, ".", separator)
    if not separator:
        return tables
    _, first = next(iter(tables[0].rows), ("", {}))
    is_other = len(first) == 1 and separator not in next(iter(first))
    return find_table("FILE", file, ".", "") if is_other else tables


def _texts(table: Table, run: Run) -> list[tuple[str, ...]]:
    """The texts of a table, by the columns that the run has read."""
    columns = texts_of(table, _options(run, ()))
    return [
        tuple(
            text_in(row, name, f"{table.source}, {place}") for name in columns
        )
        for place, row in table.rows
    ]


def _own(run: Run) -> Mapping[str, Any]:
    """The section ``fedsa.data`` of a run's configuration."""
    section = run.config.get("fedsa", {}).get("data", {})
    return section if isinstance(section, Mapping) else {}


def _options(run: Run, classes: Sequence[str]) -> OwnData:
    """How the columns of a new table are read: as those of the run's data."""
    own = _own(run)
    return cast(
        OwnData,
        SimpleNamespace(
            **{
                **dict.fromkeys(OwnData.__annotations__, ""),
                **own,
                "classes": list(classes),
                "client": "",
                "incomplete": "refuse",
            }
        ),
    )
