"""The GLUE benchmark (Wang et al., ICLR 2019)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fs_plugins.data.examples import Examples
from fs_plugins.data.sources import (
    Row,
    Varying,
    find_file,
    is_missing,
    read_rows,
    text_of,
)
from fs_plugins.errors import UserError, first_line, unknown
from fs_plugins.notes import note


@dataclass(frozen=True)
class Task:
    """A task of GLUE.

    Attributes:
        folder: the task's folder in the official layout.
        texts: for each text of an example, the possible names of its column.
        label: the possible names of the column of labels.
        classes: the names of the classes, in the order of their numbers;
            empty for regression.
        metrics: the task's metrics, of which the first is the leading one.
        dev: the possible names, without suffix, of the file with the
            evaluation data.
        header: the columns of the task's tsv files, if these have no header.
        annotators: the columns of the task's tsv files that hold the labels
            of single annotators.  Some rows have more or fewer of them.
        has_broken_rows: whether the official tsv files have rows that a line
            break in a question has cut in two.  Such rows are left out.
        hub: the task's configuration in the hub's ``nyu-mll/glue``.
        hub_dev: the hub's split with the evaluation data.

    """

    folder: str
    texts: tuple[tuple[str, ...], ...]
    label: tuple[str, ...]
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    hub: str
    dev: tuple[str, ...] = ("dev", "validation")
    header: tuple[str, ...] | None = None
    annotators: tuple[str, ...] = ()
    has_broken_rows: bool = False
    hub_dev: str = "validation"


_ONE = (("sentence", "content"),)
_TWO = (("sentence1", "#1 String"), ("sentence2", "#2 String"))
_ENTAILS = ("entailment", "not_entailment")


def _mnli(kind: str) -> Task:
    return Task(
        "MNLI",
        (("sentence1", "premise"), ("sentence2", "hypothesis")),
        ("gold_label", "label"),
        ("entailment", "neutral", "contradiction"),
        ("acc",),
        "mnli",
        dev=(f"dev_{kind}", f"validation_{kind}"),
        annotators=("label1", "label2", "label3", "label4", "label5"),
        hub_dev=f"validation_{kind}",
    )


# The tasks, by the name before '@glue' in ``data.type``.
TASKS: dict[str, Task] = {
    "sst2": Task(
        "SST-2", _ONE, ("label",), ("negative", "positive"), ("acc",), "sst2"
    ),
    "qnli": Task(
        "QNLI",
        (("question",), ("sentence",)),
        ("label",),
        _ENTAILS,
        ("acc",),
        "qnli",
    ),
    "mnli": _mnli("matched"),
    "mnli-m": _mnli("matched"),
    "mnli-mm": _mnli("mismatched"),
    "qqp": Task(
        "QQP",
        (("question1",), ("question2",)),
        ("is_duplicate", "label"),
        ("not_duplicate", "duplicate"),
        ("acc", "binary_f1"),
        "qqp",
        has_broken_rows=True,
    ),
    "rte": Task("RTE", _TWO, ("label",), _ENTAILS, ("acc",), "rte"),
    "mrpc": Task(
        "MRPC",
        _TWO,
        ("Quality", "label"),
        ("not_equivalent", "equivalent"),
        ("acc", "binary_f1"),
        "mrpc",
    ),
    "cola": Task(
        "CoLA",
        _ONE,
        ("label",),
        ("unacceptable", "acceptable"),
        ("matthews", "acc"),
        "cola",
        header=("source", "label", "star", "sentence"),
    ),
    "stsb": Task(
        "STS-B", _TWO, ("score", "label"), (), ("pearson", "spearman"), "stsb"
    ),
    "wnli": Task(
        "WNLI", _TWO, ("label",), ("not_entailment", "entailment"), ("acc",),
        "wnli",
    ),
}  # fmt: skip


def task_of(name: str) -> Task:
    """The task of a name, such as 'sst2', 'SST-2' or 'mnli-mm'.

    Raises:
        UserError: there is no such task.

    """
    for spelling in (name.lower(), name.lower().replace("-", "")):
        if spelling in TASKS:
            return TASKS[spelling]
    raise unknown("data.type", f"{name}@glue", [f"{t}@glue" for t in TASKS])


def load_glue(name: str, root: str) -> tuple[Examples, Examples]:
    """Load the training and the evaluation examples of a task.

    They are read from the files (tsv, csv, jsonl or parquet) of the task's
    folder in the official layout or, if there is no such folder, from the
    hub.

    Args:
        name: the name of the task.
        root: ``data.root``, the folder that holds the tasks' folders.

    Raises:
        UserError: there is no such task, or a file is missing or broken.

    """
    task = task_of(name)
    folder = Path(root) / task.folder
    if not folder.is_dir():
        return _from_hub(task, folder)
    parts = []
    for stems in (("train",), task.dev):
        file = find_file(folder, stems)
        if file is None:
            raise UserError(
                f"data.root: {folder} has no file {stems[0]}.tsv (or .csv, "
                ".jsonl, .parquet)"
            )
        is_tsv = file.suffix == ".tsv"
        rows = _official(task, file) if is_tsv else read_rows(file)
        parts.append(_examples(task, str(file), rows))
    return parts[0], parts[1]


def _official(task: Task, file: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a tsv file, which may have the official file's defects."""
    varying = None
    if task.annotators:
        # '-' stands for the label on which the annotators did not agree.
        values = frozenset({*task.classes, "-", ""})
        varying = Varying(task.annotators, values)
    left_out: list[int] | None = [] if task.has_broken_rows else None
    yield from read_rows(file, task.header, varying, left_out)
    if left_out:
        lines = ", ".join(map(str, left_out[:5]))
        more = ", ..." if left_out[5:] else ""
        note(
            f"{file}: rows with too few columns are left out: "
            f"{len(left_out)} (line {lines}{more})"
        )


def _from_hub(task: Task, folder: Path) -> tuple[Examples, Examples]:
    try:
        from datasets import load_dataset

        data = load_dataset("nyu-mll/glue", task.hub)
    # Besides the errors of the library there are those of the network.
    except Exception as error:
        reason = first_line(error)
        raise UserError(
            f"data.root: {folder} does not exist, and GLUE cannot be loaded "
            f"from the hub: {reason}"
        ) from error
    train, dev = (
        _examples(
            task,
            f"nyu-mll/glue {part}",
            ((f"row {n}", row) for n, row in enumerate(data[part], 1)),
        )
        for part in ("train", task.hub_dev)
    )
    return train, dev


def _examples(
    task: Task, source: str, rows: Iterable[tuple[str, Row]]
) -> Examples:
    texts, labels = [], []
    for place, row in rows:
        where = f"{source}, {place}"
        texts.append(
            tuple(
                text_of(*_field(row, names, where), where)
                for names in task.texts
            )
        )
        labels.append(_label(task, _field(row, task.label, where)[0], where))
    if not texts:
        raise UserError(f"{source} holds no examples")
    return Examples(texts, labels, task.classes)


def _field(row: Row, names: Sequence[str], where: str) -> tuple[Any, str]:
    """The value and the name of the first column that has a value."""
    present = [name for name in names if name in row]
    for name in present:
        if not is_missing(row[name]):
            return row[name], name
    if present:
        raise UserError(f"{where}: the value of {present[0]!r} is missing")
    raise UserError(
        f"{where}: there is no column {names[0]!r}; the columns are "
        f"{', '.join(map(repr, row))}"
    )


def _label(task: Task, value: Any, where: str) -> float:
    """The number of a class, or a score."""
    if value in task.classes:
        return task.classes.index(value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if task.classes and number in range(len(task.classes)):
        return int(number)
    if not task.classes and np.isfinite(number):
        return number
    allowed = ", ".join(task.classes) or "a number"
    if task.classes and number == len(task.classes):
        allowed += f" (labels count from 0, to {len(task.classes) - 1})"
    raise UserError(f"{where}: the label is {value!r}; allowed: {allowed}")
