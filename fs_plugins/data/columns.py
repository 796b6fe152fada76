"""Which columns of a table hold texts, labels, scores or instructions.

The options ``fedsa.data.*`` name the columns.  A column that is not named is
found by its own name or its contents, if there is no doubt, and a note says
which it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from fs_plugins.data.sources import Row, is_missing
from fs_plugins.data.tables import Table
from fs_plugins.errors import UserError, did_you_mean, shown
from fs_plugins.host.configuration import OwnData
from fs_plugins.notes import note

_KEY = "fedsa.data"
SEEN = 100  # rows by which columns are recognized
_PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
_SINGLE = ("text", "sentence")
# The fields of an instruction, by those that are needed.
_ANSWERS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("prompt", "completion"): (),
    ("instruction", "output"): ("input", "category"),
    ("messages",): ("category",),
}
_ALSO = {"messages": "conversations"}  # what else a column may be called


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by what they hold.

    Attributes:
        text: the columns of texts: one, or two for pairs.
        label: the column of labels, or of scores; empty for instructions
            and where a text has several labels.
        is_score: whether ``label`` holds scores.
        labels: the column that holds several labels of a text, or the
            columns that each say whether one label applies.
        label_separator: what stands between the labels in a text of that
            column.
        answers: the column of each field of an instruction.
        client: the column that says to which client a row belongs; empty if
            none does.
        by_file: whether the rows of each table are a client's.

    """

    text: tuple[str, ...] = ()
    label: str = ""
    is_score: bool = False
    labels: tuple[str, ...] = ()
    label_separator: str = ","
    answers: Mapping[str, str] = field(default_factory=dict)
    client: str = ""
    by_file: bool = False


def columns_of(
    table: Table, rows: Sequence[Row], options: OwnData, kind: str
) -> Columns:
    """Decide what the columns of a table hold.

    Args:
        table: the table.
        rows: its first rows.
        options: the section ``fedsa.data`` of the configuration.
        kind: ``text`` for texts with labels, ``chat`` for instructions;
            empty to tell by the columns.

    Raises:
        UserError: a column is missing or in doubt.

    """
    names = list(rows[0])
    named = {
        "text": options.text,
        "label": options.label,
        "labels": options.labels,
        "target": options.target,
        "client": options.client,
        **{
            field_: getattr(options, field_)
            for needed, more in _ANSWERS.items()
            for field_ in (*needed, *more)
        },
    }
    for option, value in named.items():
        for name in [value] if isinstance(value, str) else value:
            if name and name not in names:
                raise UserError(
                    f"{_KEY}.{option}: {table.source} has no column "
                    f"{shown(name)}{did_you_mean(name, names)}; its columns "
                    f"are {listed(names)}{_separator_hint(names)}"
                )
    has_labels = bool(
        options.text or options.label or options.labels or options.target
    )
    answers = _answers(names, options)
    if kind == "chat" or (not kind and answers and not has_labels):
        if not answers:
            raise UserError(
                f"{_KEY}: {table.source} has the columns {listed(names)}; "
                f"name those of {_KEY}.prompt and {_KEY}.completion, or of "
                f"{_KEY}.instruction and {_KEY}.output, or that of "
                f"{_KEY}.messages"
                f"{_separator_hint(names)}"
            )
        return Columns(answers=answers, client=options.client)
    labels = _labels(table, names, rows, options)
    label, is_score = "", False
    if not labels:
        label, is_score = _label(table, names, rows, options)
    text = tuple(options.text) or _texts(
        table, names, rows, (label, *labels, options.client)
    )
    if len(text) > 2:
        raise UserError(
            f"{_KEY}.text: {len(text)} columns are named; a text or a pair "
            "of texts is classified"
        )
    sign = options.label_separator or Columns.label_separator
    return Columns(text, label, is_score, labels, sign, client=options.client)


def texts_of(table: Table, options: OwnData) -> tuple[str, ...]:
    """The columns of a table that hold texts; it needs no labels.

    Args:
        table: the table.
        options: the section ``fedsa.data`` of the configuration.

    Raises:
        UserError: a column is missing or in doubt, or the table is empty.

    """
    rows = [row for _, row in islice(table.rows, SEEN)]
    if not rows:
        raise UserError(f"{table.source} holds no examples")
    if options.text:
        found = Columns(tuple(options.text))
        check_columns(table.source, rows, found)
        return found.text
    label = options.label or options.target or "label"
    taken = (label, *options.labels, options.client)
    return _texts(table, list(rows[0]), rows, taken)


def _answers(names: Sequence[str], options: OwnData) -> dict[str, str]:
    """The columns of an instruction's fields; empty if there are none."""
    # Columns that are named go before those that are found.
    forms = sorted(
        _ANSWERS.items(),
        key=lambda form: not any(getattr(options, f) for f in form[0]),
    )
    for needed, more in forms:
        columns = {
            field_: getattr(options, field_) or _called(field_, names)
            for field_ in (*needed, *more)
        }
        if all(columns[field_] for field_ in needed):
            return {field_: name for field_, name in columns.items() if name}
    return {}


def _called(field_: str, names: Sequence[str]) -> str:
    """The column that has the name of a field; empty if there is none."""
    for name in (field_, _ALSO.get(field_, field_)):
        if name in names:
            return name
    return ""


def _labels(
    table: Table, names: Sequence[str], rows: Sequence[Row], options: OwnData
) -> tuple[str, ...]:
    """The columns of several labels of a text; empty if it has one."""
    if options.labels:
        if options.label or options.target:
            other = "label" if options.label else "target"
            raise UserError(
                f"{_KEY}.labels: {_KEY}.{other} is given, too; a text has "
                "one label, any number of labels, or a score"
            )
        if len({*options.labels}) < len(options.labels):
            raise UserError(f"{_KEY}.labels: a column is named twice")
        return tuple(options.labels)
    if options.label or options.target:
        return ()
    for name in ("label", "labels"):
        values = [plain(row.get(name)) for row in rows]
        there = [value for value in values if not is_missing(value)]
        if there and all(map(is_list, there)):
            note(f"{table.source}: several labels of a text are in {name!r}")
            return (name,)
        if name in names:
            return ()
    return ()


def _label(
    table: Table, names: Sequence[str], rows: Sequence[Row], options: OwnData
) -> tuple[str, bool]:
    """The column of labels or scores, and whether it holds scores."""
    if options.target:
        return options.target, True
    if options.label:
        return options.label, False
    if "label" not in names:
        raise UserError(
            f"{_KEY}: {table.source} has the columns {listed(names)}; name "
            f"that of the labels ({_KEY}.label; {_KEY}.labels, if a text may "
            "have several) or, for regression, that of the scores "
            f"({_KEY}.target){_separator_hint(names)}"
        )
    # Where the source knows types, a number with a point is a score.
    is_score = any(
        isinstance(plain(row["label"]), float)
        and not is_missing(plain(row["label"]))
        for row in rows
    )
    if is_score:
        note(f"{table.source}: scores are read from 'label'")
    if not is_score:
        note(f"{table.source}: labels are read from 'label'")
    return "label", is_score


def _texts(
    table: Table,
    names: Sequence[str],
    rows: Sequence[Row],
    taken: Sequence[str],
) -> tuple[str, ...]:
    """Find the columns of texts, of which there must be no doubt.

    Args:
        table: the table.
        names: the names of its columns.
        rows: its first rows.
        taken: the columns that hold something else.

    """
    others = [
        name
        for name in names
        if name not in taken and any(_is_text(row.get(name)) for row in rows)
    ]
    found: tuple[str, ...] = ()
    for known in (*_PAIRS, *((name,) for name in _SINGLE)):
        if {*known} <= {*others} and not found:
            found = known
    if not found and len(others) == 1:
        found = (others[0],)
    if not found:
        raise UserError(
            f"{_KEY}: {table.source} has the columns {listed(names)}; name "
            f"that of the texts, or the two of pairs of texts ({_KEY}.text)"
            f"{_separator_hint(names)}"
        )
    read = " and ".join(map(repr, found))
    note(f"{table.source}: texts are read from {read}")
    return found


def _is_text(value: Any) -> bool:
    """Whether a value is a text that is no number."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def _separator_hint(names: Sequence[str]) -> str:
    """A hint for a file whose columns another character separates."""
    if len(names) == 1 and any(sign in names[0] for sign in ";|\t"):
        return f" (is another character between them? {_KEY}.separator)"
    return ""


def check_columns(source: str, rows: Sequence[Row], columns: Columns) -> None:
    """Refuse a table that lacks one of the columns.

    Args:
        source: what the table is called in an error message.
        rows: its first rows.
        columns: the columns.

    Raises:
        UserError: a column is missing.

    """
    optional = {"input", "category"}
    needed = [
        *columns.text,
        columns.label,
        *columns.labels,
        columns.client,
        *(n for f, n in columns.answers.items() if f not in optional),
    ]
    for name in needed:
        if name and name not in rows[0]:
            raise UserError(
                f"{_KEY}: {source} has no column {shown(name)}"
                f"{did_you_mean(name, rows[0])}; its columns are "
                f"{listed(rows[0])}"
            )


def is_list(value: Any) -> bool:
    """Whether a value holds several values, as a list does."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, (list, tuple, set, frozenset))


def is_needed(field_: str) -> bool:
    """Whether every instruction must have a field."""
    return any(field_ in needed for needed in _ANSWERS)


def plain(value: Any) -> Any:
    """A number of numpy or torch as one of Python."""
    is_scalar = getattr(value, "shape", None) == () or isinstance(
        value, np.generic
    )
    return value.item() if is_scalar else value


def listed(names: Iterable[Any]) -> str:
    """Names for a sentence; of many, the first twenty."""
    shown_names = [repr(str(name)) for name in names]
    more = ", ..." if shown_names[20:] else ""
    return ", ".join(shown_names[:20]) + more
