"""Predictions and evaluations with the models of a run."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fs_plugins.commands.model_card import note_what_is_missing
from fs_plugins.data.cells import text_in
from fs_plugins.data.columns import texts_of
from fs_plugins.data.examples import Examples
from fs_plugins.data.own_examples import examples_in
from fs_plugins.data.tables import Table, find_table
from fs_plugins.data.tokens import flags_of
from fs_plugins.errors import UserError, shown
from fs_plugins.experiment.runs import Run, load_run
from fs_plugins.experiment.saved_sections import own_section
from fs_plugins.host.configuration import OwnData
from fs_plugins.inference.predictor import Prediction, Predictor, predictor_of
from fs_plugins.inference.shared_base import client_called
from fs_plugins.report.tables import Table as Shown
from fs_plugins.report.tables import show
from fs_plugins.state.files import write_file
from fs_plugins.terms import LABEL_SET_METRICS
from fs_plugins.trainer.metrics import METRICS, f1_of_labels

LABEL, PROBABILITY = "predicted_label", "probability"
# where a text may have several labels
LABELS, PROBABILITIES = "predicted_labels", "probabilities"
F1 = "f1"


def predict(
    folder: Path,
    client: str,
    file: str = "",
    texts: Sequence[str] = (),
    out: Path | None = None,
    as_json: bool = False,
    threshold: float | None = None,
) -> None:
    """Print or write the predictions for new texts.

    Args:
        folder: the run's folder.
        client: the name or the number of a client, or ``global``.
        file: a table of texts, in any form that a run can read.
        texts: a text, or a pair of texts, in place of a file.
        out: the file to write; None for standard output.
        as_json: whether each line is a JSON object; otherwise the rows of
            the file are written as csv, with columns more.
        threshold: as for ``Predictor``.

    Raises:
        UserError: the run, the client or the file cannot be used.

    """
    if bool(file) == bool(texts):
        raise UserError("predict: name a file of texts, or give --text")
    run = load_run(folder)
    if out is not None:
        _check_out(out)
        as_json = as_json or out.suffix.lower() in (".json", ".jsonl")
    predictor = predictor_of(run, client, threshold)
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
    form = _Form(
        predictor, own_section(run.config, "fedsa.data").label_separator or ","
    )
    text = form.as_json(rows, found) if as_json else form.as_csv(rows, found)
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


@dataclass(frozen=True)
class _Form:
    """How predictions are written.

    Attributes:
        predictor: the model that has predicted.
        separator: what stands between two labels of a text.

    """

    predictor: Predictor
    separator: str

    def as_csv(
        self, rows: Sequence[Mapping[str, Any]], found: Sequence[Prediction]
    ) -> str:
        """The rows of a file with the predictions, as csv."""
        stream = io.StringIO()
        added = self._columns()
        columns = (
            [name for name in rows[0] if name not in added] if rows else []
        )
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*columns, *added])
        for row, prediction in zip(rows, found, strict=True):
            values = [row[name] for name in columns]
            writer.writerow([*values, *self._values(prediction)])
        return stream.getvalue()

    def _columns(self) -> list[str]:
        """The columns that are added."""
        classes = self.predictor.classes
        if self.predictor.is_multi_label:
            return [LABELS, *(f"{PROBABILITY}_{name}" for name in classes)]
        return [LABEL, PROBABILITY] if classes else [LABEL]

    def _values(self, prediction: Prediction) -> list[Any]:
        """The values of the added columns."""
        if isinstance(prediction.label, tuple):
            likely = prediction.probabilities.values()
            labels = self._joined(prediction.label)
            return [labels, *(f"{each:.6f}" for each in likely)]
        if prediction.probability is None:
            return [f"{prediction.label:.6g}"]
        return [prediction.label, f"{prediction.probability:.6f}"]

    def _joined(self, labels: Sequence[str]) -> str:
        """Several labels as a text that can be read as labels again."""
        if any(self.separator in name for name in self.predictor.classes):
            return json.dumps(labels, ensure_ascii=False)
        return self.separator.join(labels)

    def as_json(
        self, rows: Sequence[Mapping[str, Any]], found: Sequence[Prediction]
    ) -> str:
        """A JSON object for each row, with the prediction."""
        lines = []
        for row, prediction in zip(rows, found, strict=True):
            line = dict(row)
            if isinstance(prediction.label, tuple):
                line[LABELS] = prediction.label
                line[PROBABILITIES] = prediction.probabilities
            else:
                line[LABEL] = prediction.label
            if prediction.probability is not None:
                line[PROBABILITY] = prediction.probability
            lines.append(json.dumps(line, ensure_ascii=False, default=str))
        return "".join(f"{line}\n" for line in lines)


def evaluate(
    folder: Path,
    client: str,
    file: str,
    as_json: bool = False,
    threshold: float | None = None,
) -> None:
    """Print how well the models of a run do on a table of labelled texts.

    Args:
        folder: the run's folder.
        client: the name or the number of a client, ``global``, or ``all``
            for all clients.
        file: a table of texts with labels.
        as_json: whether the results are printed as a JSON object.
        threshold: as for ``Predictor``.

    Raises:
        UserError: the run, a client or the file cannot be used.

    """
    run = load_run(folder)
    names = (
        [run.name_of(ID) for ID in run.clients]
        if client == "all"
        else [client]
    )
    note_what_is_missing(run, client)
    tables = _tables(file, run)
    results: dict[str, dict[str, float]] = {}
    of_labels: dict[str, dict[str, float]] = {}
    predictor = predictor_of(run, names[0], threshold)
    # All models of a run have the same classes.
    examples = _labelled(tables, run, predictor)
    for name in names:
        predictor.use(client_called(run, name))
        results[name], of_labels[name] = _results(predictor, examples)
    if as_json:
        whole = {
            name: {
                **values,
                **({F1: of_labels[name]} if of_labels[name] else {}),
            }
            for name, values in results.items()
        }
        print(json.dumps(whole, ensure_ascii=False))
        return
    title = f"{folder.name} on {file}"
    show(_by_client(title, results))
    if all(of_labels.values()):
        show(_by_label(f"F1 of each label: {title}", of_labels))


def _by_client(
    title: str, results: Mapping[str, Mapping[str, float]]
) -> Shown:
    """A table with a row for each client, and a column for each metric."""
    metrics = list(next(iter(results.values())))
    return Shown(
        title,
        ("client", *metrics),
        [
            (name, *(f"{values[metric]:.4g}" for metric in metrics))
            for name, values in results.items()
        ],
    )


def _by_label(title: str, results: Mapping[str, Mapping[str, float]]) -> Shown:
    """A table with a row for each label, and a column for each client."""
    return Shown(
        title,
        ("label", *results),
        [
            (label, *(f"{values[label]:.4g}" for values in results.values()))
            for label in next(iter(results.values()))
        ],
    )


def _labelled(
    tables: Sequence[Table], run: Run, predictor: Predictor
) -> Examples:
    """The texts and labels of tables, by the columns that the run has read."""
    options = _options(run, predictor.classes)
    examples = examples_in({"train": tables}, options, "text")["train"]
    if examples.are_multi_label != predictor.is_multi_label:
        raise UserError(
            f"{tables[0].source}: a text has "
            f"{'any number of labels' if examples.are_multi_label else 'one'}"
            f" here, and {'any number' if predictor.is_multi_label else 'one'}"
            " in the run's data"
        )
    return examples


def _results(
    predictor: Predictor, examples: Examples
) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics of a model on labelled texts, and the F1 of each label.

    The latter is empty unless a text may have several labels.
    """
    logits = predictor.logits(examples.texts)
    results: dict[str, float] = {"examples": len(examples)}
    arguments: dict[str, Any]
    if predictor.is_multi_label:
        truth = flags_of(examples.labels, len(predictor.classes))
        loss = binary_cross_entropy_with_logits(
            logits.double(), torch.from_numpy(truth).double()
        )
        results["avg_loss"] = float(loss)
        arguments = {
            "y_true": truth.astype(bool),
            "y_pred": predictor.applies(logits).numpy(),
        }
        each = f1_of_labels(**arguments).tolist()
        results |= {
            name: METRICS[name](**arguments) for name in LABEL_SET_METRICS
        }
        return results, dict(zip(predictor.classes, each, strict=True))
    truth = np.array(examples.labels)
    if predictor.classes:
        best = logits.numpy().argmax(axis=1)
        results["acc"] = float((best == truth).mean())
        arguments = {"y_true": truth, "y_pred": best}
        wanted = ["matthews", *(["binary_f1"] * (logits.shape[1] == 2))]
    else:
        scores = np.array(predictor.scores(logits))
        results["mse"] = float(((scores - truth) ** 2).mean())
        arguments = {"y_true": truth, "y_prob": scores}
        wanted = ["pearson", "spearman"]
    results |= {name: METRICS[name](**arguments) for name in wanted}
    return results, {}


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
    separator = _options(run, ()).separator
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


def _options(run: Run, classes: Sequence[str]) -> OwnData:
    """How the columns of a new table are read: as those of the run's data."""
    options: OwnData = own_section(run.config, "fedsa.data")
    options.classes = list(classes)
    options.client = ""
    options.incomplete = "refuse"
    return options
