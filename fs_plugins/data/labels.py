"""Reads the labels of a row: a class, a score, or any number of classes."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fs_plugins.data.columns import Columns, is_list, listed, plain
from fs_plugins.data.sources import Row, is_missing, text_of
from fs_plugins.errors import UserError, did_you_mean, shown

_KEY = "fedsa.data"
SKIP = f" ({_KEY}.incomplete: skip leaves such rows out)"
Label = str | int | float
# Several classes of one text; none if no class applies.
LabelSet = tuple[Label, ...]
# A list as Python or JSON writes it.  NumPy leaves the commas out, and such a
# list must not be read as one long text.
_ENTRY = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|-?\d+)"
_LIST = re.compile(rf"\[\s*(?:{_ENTRY}(?:\s*,\s*{_ENTRY})*)?\s*\]", re.S)
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class Numbers:
    """The numbers of classes.

    Attributes:
        names: the names of the classes, in the order of their numbers.
        of: the number of a class, by its name and by whatever else a table
            may call it.

    """

    names: Sequence[str]
    of: Mapping[Label, int]


@dataclass(frozen=True)
class LabelReader:
    """Reads the labels of the rows of a table.

    Attributes:
        columns: what the columns of the table hold.
        declared: the names that the table gives the numbers of classes.
        numbers: the number of each class, if the classes are known.
        spellings: gets the spellings of each label with the white space
            around it, by the label.

    """

    columns: Columns
    declared: Sequence[str]
    numbers: Numbers | None
    spellings: dict[str, set[str]]

    def read(self, row: Row, where: str) -> Label | LabelSet:
        """The class, the score, or the classes of a row.

        Args:
            row: the row.
            where: the table and the row, for an error message.

        Raises:
            UserError: a value is missing or wrong.

        """
        if len(self.columns.labels) > 1:
            return self._flagged(row, where)
        if self.columns.labels:
            return self._several(row, self.columns.labels[0], where)
        name = self.columns.label
        value = cell_of(row, name, where)
        if self.columns.is_score:
            return _score(value, name, where)
        return self._known(value, name, where)

    def _known(self, value: Any, name: str, where: str) -> Label:
        """A class, which must be one of those that are known."""
        label = _class(value, name, where)
        if isinstance(value, str) and isinstance(label, str):
            self.spellings.setdefault(label, set()).add(value)
        if isinstance(label, int) and 0 <= label < len(self.declared):
            label = self.declared[label]
        numbers = self.numbers
        if numbers is not None and label not in numbers.of:
            raise UserError(
                f"{where}: the label {shown(label)} is none of the classes "
                f"{listed(numbers.names)}{_meant(label, numbers.names)}"
            )
        return label

    def _flagged(self, row: Row, where: str) -> LabelSet:
        """The classes whose columns hold a 1."""
        found = []
        for name in self.columns.labels:
            value = cell_of(row, name, where)
            word = str(value).strip().lower().removesuffix(".0")
            if word not in _FLAGS:
                raise UserError(
                    f"{where}: {shown(value)} in {name!r} is neither 0 nor "
                    f"1; a column of {_KEY}.labels says whether its label "
                    "applies"
                )
            if _FLAGS[word]:
                found.append(name)
        return tuple(found)

    def _several(self, row: Row, name: str, where: str) -> LabelSet:
        """The classes in a list, or in a text with a sign between them."""
        value = plain(row.get(name))
        if is_missing(value):
            raise UserError(
                f"{where}: the value of {name!r} is missing; an empty list "
                f"says that no label applies{SKIP}"
            )
        found: dict[Label, None] = {}
        for entry in self._entries(value, name, where):
            label = self._known(entry, name, where)
            if self._number(label) in map(self._number, found):
                raise UserError(
                    f"{where}: the label {shown(label)} is there twice in "
                    f"{name!r}{_flags_hint(value)}"
                )
            found[label] = None
        return tuple(found)

    def _number(self, label: Label) -> Label:
        """What tells a label from others: its number, once it has one."""
        return label if self.numbers is None else self.numbers.of[label]

    def _entries(self, value: Any, name: str, where: str) -> Iterator[Any]:
        """The labels in the value of a row, as they are there."""
        if isinstance(value, (str, bytes)):
            yield from self._parts(text_of(value, name, where), name, where)
            return
        entries = list(value) if is_list(value) else [value]
        for entry in map(plain, entries):
            if is_missing(entry):
                raise UserError(f"{where}: a label in {name!r} is missing")
            if isinstance(entry, float):
                raise UserError(
                    f"{where}: {shown(entry)} in {name!r} is neither the "
                    f"name nor the number of a class{_flags_hint(value)}"
                )
            yield entry

    def _parts(self, text: str, name: str, where: str) -> Sequence[Any]:
        """The labels in a text."""
        text, sign = text.strip(), self.columns.label_separator
        if not text:
            return ()
        if _LIST.fullmatch(text):
            return list(ast.literal_eval(text))
        if text[0] == "[" and text[-1] == "]":
            raise UserError(
                f"{where}: {shown(text)} in {name!r} cannot be read as a "
                "list; write it as JSON does, with commas between the labels"
            )
        if self._ambiguous:
            raise UserError(
                f"{where}: the class {self._ambiguous!r} contains {sign!r}, "
                f"which stands between two labels; name another sign by "
                f"{_KEY}.label_separator, or write the labels as JSON lists"
            )
        parts = [part.strip() for part in text.split(sign)]
        if not all(parts):
            raise UserError(
                f"{where}: {shown(text)} in {name!r} has no label before or "
                f"after a {sign!r}"
            )
        return parts

    @cached_property
    def _ambiguous(self) -> str:
        """A class whose name contains the separator; '' if there is none."""
        names = self.numbers.names if self.numbers is not None else ()
        sign = self.columns.label_separator
        return next((name for name in names if sign in name), "")


def cell_of(row: Row, name: str, where: str) -> Any:
    """The value of a column, which must be there.

    Args:
        row: the row.
        name: the name of the column.
        where: the table and the row, for an error message.

    Raises:
        UserError: the value is missing.

    """
    value = plain(row.get(name))
    if is_missing(value):
        raise UserError(f"{where}: the value of {name!r} is missing{SKIP}")
    return value


def check_varied(labels: Iterable[Any], source: str) -> None:
    """Refuse sets of labels from which nothing can be learned.

    Args:
        labels: the sets of labels of the rows to train on.
        source: what the rows are called in an error message.

    Raises:
        UserError: no row has a label, or all rows have the same labels.

    """
    different = {frozenset(each) for each in labels}
    if different == {frozenset()}:
        raise UserError(f"{source}: no row has a label")
    if len(different) == 1:
        raise UserError(
            f"{source}: all rows have the same labels, "
            f"{listed(sorted(map(str, *different)))}; there is nothing to "
            "tell apart (lists hold the names or the numbers of classes, "
            "and not a 0 or a 1 for each class)"
        )


def _meant(label: Label, names: Sequence[str]) -> str:
    """A hint at the class that a label may stand for."""
    if not isinstance(label, str):
        return ""
    alike = [name for name in names if name.casefold() == label.casefold()]
    hint = f" (did you mean {alike[0]!r}?)" if alike else ""
    return hint or did_you_mean(label, names)


def _flags_hint(value: Any) -> str:
    """A hint for a list with a 0 or a 1 for each class."""
    entries = [*map(plain, value)] if is_list(value) else []
    if len(entries) > 1 and {*map(str, entries)} <= {"0", "1", "0.0", "1.0"}:
        return (
            "; a list holds the names or the numbers of classes, and a 0 or "
            f"a 1 for each class is in columns of its own ({_KEY}.labels)"
        )
    return ""


def _class(value: Any, name: str, where: str) -> str | int:
    """The name or the number of a class."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip():
        return text_of(value, name, where).strip()
    if isinstance(value, int):
        return value
    hint = ""
    if isinstance(value, float):
        hint = f"; scores are named by {_KEY}.target"
    elif isinstance(value, str):
        raise UserError(f"{where}: {name!r} is empty{SKIP}")
    elif is_list(value):
        hint = f"; several labels of a text are named by {_KEY}.labels"
    raise UserError(
        f"{where}: the label {shown(value)} in {name!r} is neither a name "
        f"nor the number of a class{hint}"
    )


def _score(value: Any, name: str, where: str) -> float:
    """A finite score."""
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not np.isfinite(number):
        raise UserError(
            f"{where}: {shown(value)} in {name!r} is not a finite number"
        )
    return number
