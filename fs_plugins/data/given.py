"""Examples that Python code hands to a run."""

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
        name: the name before the ``@``, which is only used in error messages.
        root: ``data.root``, which is not used.

    Returns:
        The examples, and the test set if one was handed to the run.

    Raises:
        UserError: no data were handed to the run, or they have another form.

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
    test = examples_of(data["test"], "data['test']", train.names)
    kinds = [
        (len(each.texts[0]), each.are_instructions, bool(len(each.names)))
        for each in (train, test)
    ]
    if kinds[0] != kinds[1]:
        raise UserError(
            "data: 'train' and 'test' differ in their columns, or in the kind "
            "of their labels"
        )
    return train, test


def examples_of(data: Any, where: str, names: Sequence[str] = ()) -> Examples:
    """Convert a data set of the user's own to examples.

    A data set with a column ``label`` is for classification or regression of
    its other columns of texts, of which there must be one or two.  A label
    is the name or the number of a class, or a score if one of them is a
    float.  A data set with the columns ``instruction`` and ``output`` (and
    perhaps ``input`` and ``category``), or ``prompt`` and ``completion``, is
    for a language model.

    Args:
        data: ``Examples``, a ``datasets.Dataset``, a ``pandas.DataFrame``,
            or a list of mappings.
        where: what the data set is called in an error message.
        names: the names of the classes, if they are known already.

    Raises:
        UserError: the data set has other columns, or a value is of the wrong
            kind.

    """
    if isinstance(data, Examples):
        data.check(where)
        return data
    rows = _rows(data, where)
    columns = list(rows[0])
    if any(needed <= {*columns} for needed in _INSTRUCTIONS):
        return _answers(rows, where)
    if "label" not in columns:
        raise UserError(
            f"{where}: it has the columns {_listed(columns)}; name the column "
            "of labels 'label', or those of instructions 'instruction' and "
            "'output', or 'prompt' and 'completion'"
        )
    texts = [
        name
        for name in columns
        if name != "label" and any(isinstance(row[name], str) for row in rows)
    ]
    if len(texts) not in (1, 2):
        raise UserError(
            f"{where}: a text or a pair of texts is classified, and of the "
            f"columns {_listed(columns)} {len(texts)} hold texts; leave one "
            "or two beside 'label'"
        )
    feature = (getattr(data, "features", None) or {}).get("label")
    declared = tuple(getattr(feature, "names", None) or ())
    return _labelled(rows, texts, where, declared or tuple(names), declared)


def _rows(data: Any, where: str) -> list[dict[str, Any]]:
    """The rows of a data set, all with the same columns."""
    is_frame = hasattr(data, "iloc") and hasattr(data, "columns")
    if is_frame and not data.columns.is_unique:
        raise UserError(f"{where}: two of its columns have the same name")
    try:
        rows = data.to_dict("records") if is_frame else [*data]
    except TypeError:  # The object cannot be iterated over.
        rows = []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise UserError(
            f"{where}: it is no data set with rows of named columns, or it "
            "is empty"
        )
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            raise UserError(
                f"{where}: row {number} has the columns {_listed(row)}, and "
                f"row 0 has {_listed(rows[0])}"
            )
    return [{k: _plain(v) for k, v in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """A number of numpy or torch as one of Python."""
    is_scalar = getattr(value, "shape", None) == () or isinstance(
        value, np.generic
    )
    return value.item() if is_scalar else value


def _labelled(
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    where: str,
    names: tuple[str, ...],
    declared: tuple[str, ...],
) -> Examples:
    """Examples of classification or regression.

    Args:
        rows: the rows.
        texts: the names of the columns of texts.
        where: what the data set is called in an error message.
        names: the names of the classes, as far as they are known.
        declared: the names that the data set itself says its numbers have.

    """
    labels = [row["label"] for row in rows]
    for number, label in enumerate(labels):
        if label is None or label != label:
            raise UserError(f"{where}: row {number} has no label")
        if not isinstance(label, (str, int, float)):
            raise UserError(
                f"{where}: row {number}: the label {label!r:.80} is neither "
                "a class's name nor a number"
            )
    pairs = [tuple(row[name] for name in texts) for row in rows]
    for number, pair in enumerate(pairs):
        for name, text in zip(texts, pair, strict=True):
            if not isinstance(text, str):
                raise UserError(
                    f"{where}: row {number}: {name!r} is not a text, but "
                    f"{text!r:.80}"
                )
    are_words = [isinstance(label, str) for label in labels]
    if any(are_words) and not all(are_words):
        raise UserError(
            f"{where}: some labels are words, and others are numbers"
        )
    if any(isinstance(label, float) for label in labels):
        return Examples(pairs, [float(label) for label in labels])
    if all(are_words):
        names = names or tuple(sorted({*labels}))
    else:
        if names and not declared and not all(map(str.isdigit, names)):
            raise UserError(
                f"{where}: the labels are numbers, and the classes have the "
                f"names {_listed(names)}"
            )
        names = names or _numbered(labels, where)
        labels = [
            names[label] if 0 <= label < len(names) else label
            for label in labels
        ]
    number_of = {name: number for number, name in enumerate(names)}
    for number, label in enumerate(labels):
        if label not in number_of:
            raise UserError(
                f"{where}: row {number}: the label {label!r} is none of "
                f"{_listed(names)}"
            )
    return Examples(pairs, [number_of[label] for label in labels], names)


def _numbered(labels: Sequence[int], where: str) -> tuple[str, ...]:
    """The names of classes that have numbers only, from 0 on."""
    numbers = {int(label) for label in labels}
    if numbers != {*range(len(numbers))}:
        raise UserError(
            f"{where}: the labels go from {min(numbers)} to {max(numbers)}; "
            "the numbers of classes begin at 0 and leave none out"
        )
    return tuple(map(str, range(len(numbers))))


def _answers(rows: Sequence[Mapping[str, Any]], where: str) -> Examples:
    """Examples that a language model learns to answer."""
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
    return ", ".join(repr(name) for name in sorted(map(str, names)))
