"""Turns tables of the user's own into examples."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import cast

import numpy as np

from fs_plugins.data.cells import ReadRows, read_rows_of
from fs_plugins.data.chat import answered
from fs_plugins.data.columns import SEEN, Columns, check_columns, columns_of
from fs_plugins.data.examples import Examples
from fs_plugins.data.instructions import instructions, numbered
from fs_plugins.data.labels import Label, LabelSet, Numbers, check_varied
from fs_plugins.data.sources import Row
from fs_plugins.data.spelling import tell_labels
from fs_plugins.data.tables import Table
from fs_plugins.errors import UserError, did_you_mean, shown
from fs_plugins.host.configuration import OwnData
from fs_plugins.notes import note
from fs_plugins.terms import AUTO, NONE

_KEY = "fedsa.data"
_SIGNS = ",;|/\t"  # what may stand between two labels


def examples_in(
    parts: Mapping[str, Sequence[Table]],
    options: OwnData,
    kind: str = "",
    by_file: bool = False,
) -> dict[str, Examples]:
    """Convert tables to examples.

    Args:
        parts: the tables by part; all have the same columns.
        options: the section ``fedsa.data`` of the configuration, to which
            the names of the columns that are found are written.
        kind: ``text`` for texts with labels, ``chat`` for instructions;
            empty to tell by the columns.
        by_file: whether each table of a part is a client of its own.

    Returns:
        The examples by part, with the same classes in all of them.

    Raises:
        UserError: a column is missing or in doubt, or a value is wrong;
            names the table and the row.

    """
    # The training examples say which columns and which classes there are.
    parts = {p: parts[p] for p in ("train", "val", "test") if p in parts}
    first, rows = _opened(next(iter(parts.values()))[0])
    columns = replace(columns_of(first, rows, options, kind), by_file=by_file)
    _write_names(columns, options)
    numbers = _known_numbers(first, columns, options)
    read: dict[str, ReadRows] = {}
    for part, tables in parts.items():
        read[part] = ReadRows()
        for table in tables:
            is_first = not any(map(len, read.values())) and table is tables[0]
            opened, sample = (first, rows) if is_first else _opened(table)
            check_columns(opened.source, sample, columns)
            read_rows_of(
                opened,
                columns,
                read[part],
                options.incomplete == "skip",
                numbers,
            )
        if not len(read[part]):
            raise UserError(f"{tables[0].source} holds no examples")
        if numbers is None and not (columns.answers or columns.is_score):
            numbers = _found_numbers(read[part], columns, tables[0].source)
    _tell_left_out(read.values())
    if columns.answers:
        return {part: _instructions(each) for part, each in read.items()}
    if numbers is None:
        return {part: _scores(each) for part, each in read.items()}
    labelled = _labelled_by_sets if columns.labels else _labelled
    return {part: labelled(each, numbers) for part, each in read.items()}


def _write_names(columns: Columns, options: OwnData) -> None:
    """Have the configuration name the columns that were found."""
    if columns.answers:
        return
    options.text = list(columns.text)
    if columns.labels:
        options.labels = list(columns.labels)
    else:
        name = "target" if columns.is_score else "label"
        setattr(options, name, columns.label)


def _known_numbers(
    table: Table, columns: Columns, options: OwnData
) -> Numbers | None:
    """The numbers of classes that are known before the rows are read.

    Args:
        table: the first table to train on.
        columns: what its columns hold.
        options: the section ``fedsa.data`` of the configuration.

    """
    names = tuple(options.classes)
    if len(columns.labels) > 1:  # each column is one of the classes
        names = names or columns.labels
        if {*names} != {*columns.labels}:
            name = min({*names} ^ {*columns.labels})
            mine, other = ("classes", columns.labels)
            if name in columns.labels:
                mine, other = ("columns", names)
            raise UserError(
                f"{_KEY}.classes: they are not the columns of "
                f"{_KEY}.labels: {shown(name)} is one of the {mine} only"
                f"{did_you_mean(name, other)}"
            )
        return _numbers(names)
    name = (*columns.labels, columns.label)[0]
    names = names or tuple(table.classes.get(name, ()))
    return _numbers(names, are_counted=True) if names else None


def _found_numbers(read: ReadRows, columns: Columns, source: str) -> Numbers:
    """The numbers of the classes that occur among the rows to train on.

    Args:
        read: the rows.
        columns: what the columns hold.
        source: what the rows are called in an error message.

    """
    if columns.labels:
        check_varied(read.labels, source)
    labels = Counter(_each_label(read, columns))
    numbers = _numbers(_names_of(list(labels), source))
    counts = Counter({str(label): n for label, n in labels.items()})
    tell_labels(counts, read.spellings)
    if not columns.labels:
        return numbers
    seem_joined = any(
        sign in name for name in numbers.names for sign in _SIGNS
    )
    if seem_joined and all(len(_as_set(each)) < 2 for each in read.labels):
        note(
            f"{source}: no row has more than one label; between two labels "
            f"stands {columns.label_separator!r} ({_KEY}.label_separator)"
        )
    return numbers


def _each_label(read: ReadRows, columns: Columns) -> Iterable[Label]:
    """The labels of all rows; a row may have several, or none."""
    if not columns.labels:
        return cast(Iterable[Label], read.labels)
    return chain.from_iterable(map(_as_set, read.labels))


def _as_set(labels: Label | LabelSet) -> LabelSet:
    return labels if isinstance(labels, tuple) else (labels,)


def _tell_left_out(read: Iterable[ReadRows]) -> None:
    left_out = sum(each.left_out for each in read)
    if left_out:
        note(
            f"rows that lack a text, a label or a client are left out: "
            f"{left_out} ({_KEY}.incomplete)"
        )


def _opened(table: Table) -> tuple[Table, list[Row]]:
    """A table, and its first rows."""
    rows = iter(table.rows)
    head = list(islice(rows, SEEN))
    if not head:
        raise UserError(f"{table.source} holds no examples")
    return replace(table, rows=chain(head, rows)), [row for _, row in head]


def _names_of(labels: Sequence[Label], source: str) -> tuple[str, ...]:
    """The names of the classes that occur, in the order of their numbers.

    Numbers are in their own order, and words in alphabetical order.
    """
    values = {*labels}
    words = [value for value in values if isinstance(value, str)]
    if words and len(words) < len(values):
        number = next(v for v in values if not isinstance(v, str))
        raise UserError(
            f"{source}: some labels are words, such as {shown(min(words))}, "
            f"and others are numbers, such as {number}"
        )
    if all(map(_is_whole, words)):
        return tuple(map(str, sorted(values, key=lambda v: (int(v), str(v)))))
    if all(map(_is_number, words)):
        raise UserError(
            f"{source}: the labels are numbers with a point, such as "
            f"{min(words)}; name scores by {_KEY}.target, and classes in "
            f"their order by {_KEY}.classes"
        )
    return tuple(sorted(words))


def _is_whole(word: str) -> bool:
    return word.removeprefix("-").isdecimal() and word.isascii()


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _numbers(names: tuple[str, ...], are_counted: bool = False) -> Numbers:
    """The numbers of classes.

    Args:
        names: the names of the classes, in the order of their numbers.
        are_counted: whether a table may call a class by its number.

    """
    number_of: dict[Label, int] = {}
    for number, name in enumerate(names):
        number_of.setdefault(name, number)
        if _is_whole(name):
            number_of.setdefault(int(name), number)
    if are_counted and not any(map(_is_whole, names)):
        for number in range(len(names)):
            number_of.setdefault(number, number)
            number_of.setdefault(str(number), number)
    return Numbers(names, number_of)


def _labelled(read: ReadRows, numbers: Numbers) -> Examples:
    """Examples of classification."""
    labels = cast(Iterable[Label], read.labels)
    return Examples(
        read.texts,
        [numbers.of[label] for label in labels],
        numbers.names,
        clients=read.clients,
    )


def _labelled_by_sets(read: ReadRows, numbers: Numbers) -> Examples:
    """Examples of classification where a text may have several labels."""
    return Examples(
        read.texts,
        [
            tuple(sorted(numbers.of[label] for label in _as_set(labels)))
            for labels in read.labels
        ],
        numbers.names,
        are_multi_label=True,
        clients=read.clients,
    )


def _scores(read: ReadRows) -> Examples:
    """Examples of regression."""
    scores = [float(cast(float, label)) for label in read.labels]
    return Examples(read.texts, scores, clients=read.clients)


def _instructions(read: ReadRows) -> Examples:
    """Examples that a language model learns to answer."""
    rows = read.answers
    if "instruction" in rows[0]:
        return replace(instructions(rows), clients=read.clients)
    if "prompt" in rows[0]:
        chats = [answered(row["prompt"], row["completion"]) for row in rows]
    else:
        chats = [row["messages"] for row in rows]
    numbers, names = numbered(rows)
    return Examples(
        [(chat[-2].content, chat[-1].content) for chat in chats],
        numbers,
        names,
        are_instructions=True,
        clients=read.clients,
        chats=chats,
        template=NONE if "prompt" in rows[0] else AUTO,
    )
