"""Examples that Python code hands to a run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fs_plugins.data.examples import Examples
from fs_plugins.data.instructions import instructions
from fs_plugins.errors import UserError
from fs_plugins.scope import current_scope
from fs_plugins.terms import GIVEN

_INSTRUCTIONS = ({"instruction", "output"}, {"prompt", "completion"})


def load_given(name: str, root: str) -> tuple[Examples, Examples | None]:
    """The examples of ``data.type: <any name>@given``.

    Args:
        name: is for the reader.
        root: not looked at.

    Raises:
        UserError: none were handed to the run, or they are of another form.

    """
    data = current_scope().given.get("data")
    if data is None:
        raise UserError(
            f"data.type: {name}@{GIVEN} stands for data that Python code "
            "hands to the run; hand them to fs_plugins.run or "
            "fs_plugins.resume as data="
        )
    if isinstance(data, tuple) and len(data) == 2:
        data = {"train": data[0], "test": data[1]}
    if not isinstance(data, Mapping):
        return examples_of(data, "data"), None
    if not {"train"} <= {*data} <= {"train", "test"}:
        raise UserError(
            f"data: it has the parts {', '.join(map(repr, data))}; hand over "
            "'train', and perhaps 'test' (validation examples are taken from "
            "those to train on, see data.splits)"
        )
    train = examples_of(data["train"], "data['train']")
    if "test" not in data:
        return train, None
    return train, examples_of(data["test"], "data['test']", train.names)


def examples_of(data: Any, where: str, names: Sequence[str] = ()) -> Examples:
    """Examples from a data set of the user's own.

    With a column ``label`` the other columns of texts, one or two, are
    classified: a label is a class's name or number, or a score if it is a
    fraction.  With ``instruction`` and ``output`` (perhaps ``input`` and
    ``category``), or ``prompt`` and ``completion``, a language model learns
    to answer.

    Args:
        data: ``Examples``, a ``datasets.Dataset``, a pandas frame, or a list
            of mappings.
        where: what it is called in a sentence.
        names: of the classes, if they are known already.

    Raises:
        UserError: it has other columns, or a value is of the wrong kind.

    """
    if isinstance(data, Examples):
        return data
    try:
        rows = data.to_dict("records") if hasattr(data, "iloc") else [*data]
    except TypeError:  # nothing that has parts
        rows = []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise UserError(
            f"{where}: it is no data set with rows of named columns, or it "
            "is empty"
        )
    columns = {*rows[0]}
    if any(needed <= columns for needed in _INSTRUCTIONS):
        return _answers(rows, where)
    if "label" not in columns:
        raise UserError(
            f"{where}: it has the columns {_listed(columns)}; name the column "
            "of labels 'label', or those of instructions 'instruction' and "
            "'output', or 'prompt' and 'completion'"
        )
    texts = [
        name for name in rows[0]
        if name != "label" and isinstance(rows[0][name], str)
    ]  # fmt: skip
    if len(texts) not in (1, 2):
        raise UserError(
            f"{where}: a text or a pair of texts is classified, and of the "
            f"columns {_listed(columns)} {len(texts)} hold texts; leave one "
            "or two beside 'label'"
        )
    feature = getattr(data, "features", {}).get("label")
    known = tuple(names) or tuple(getattr(feature, "names", None) or ())
    return _classes(rows, texts, where, known)


def _classes(
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    where: str,
    names: tuple[str, ...],
) -> Examples:
    labels = [row["label"] for row in rows]
    for number, label in enumerate(labels):
        is_missing = label is None or (
            isinstance(label, float) and math.isnan(label)
        )
        if is_missing:
            raise UserError(f"{where}: row {number} has no label")
    pairs = [tuple(row[name] for name in texts) for row in rows]
    if all(isinstance(each, (float, np.floating)) for each in labels):
        return Examples(pairs, [float(each) for each in labels])
    if all(isinstance(each, (int, np.integer)) for each in labels):
        most = max(map(int, labels)) + 1
        names = names or tuple(map(str, range(most)))
        return Examples(pairs, [int(each) for each in labels], names)
    if not all(isinstance(each, str) for each in labels):
        raise UserError(f"{where}: the labels are of several types")
    names = names or tuple(sorted({*labels}))
    number_of = {name: number for number, name in enumerate(names)}
    for number, label in enumerate(labels):
        if label not in number_of:
            raise UserError(
                f"{where}: row {number}: the label {label!r} is none of "
                f"{_listed(names)}"
            )
    return Examples(pairs, [number_of[each] for each in labels], names)


def _answers(rows: Sequence[Mapping[str, Any]], where: str) -> Examples:
    needed = ("prompt", "completion")
    if not {*needed} <= {*rows[0]}:
        needed = ("instruction", "output")
    for number, row in enumerate(rows):
        for name in needed:
            if not isinstance(row.get(name), str):
                raise UserError(
                    f"{where}: row {number}: {name!r} is not a text"
                )
    if needed[0] == "instruction":
        return instructions([dict(row) for row in rows])
    return Examples(
        [(row["prompt"], row["completion"]) for row in rows],
        [0] * len(rows),
        ("all",),
        are_instructions=True,
    )


def _listed(names: Any) -> str:
    return ", ".join(repr(each) for each in sorted(map(str, names)))
