"""Multiple-choice questions, from the columns of well-known test sets.

The prompts are those of lm-evaluation-harness without worked examples, so
that results can be compared.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from string import ascii_uppercase
from typing import Any

from fs_plugins.data import tables
from fs_plugins.data.columns import listed, plain
from fs_plugins.data.sources import Row, is_missing, text_of
from fs_plugins.data.tables import Table, find_tables
from fs_plugins.errors import UserError, shown

KEY = "fedsa.eval.choices.data"


@dataclass(frozen=True)
class Question:
    """A question with several answers, one of which is right.

    Attributes:
        prompt: the text that comes before an answer and a blank.
        choices: the answers.
        right: the number of the right answer, from 0.

    """

    prompt: str
    choices: tuple[str, ...]
    right: int


def load_questions(
    name: str, root: str, separator: str = "", most: int = -1
) -> list[Question]:
    """Load questions: those of the test set, if it says what is right.

    Args:
        name: a file, a pattern of files, a folder, or a data set of the hub,
            ``owner/name`` or ``owner/name:configuration``.
        root: the folder ``data.root``.
        separator: what separates the columns of csv files, as for
            ``find_tables``.
        most: the largest number of questions; below 0 for all.

    Raises:
        UserError: there are none, or one of them is broken; names the row.

    """
    try:
        parts = find_tables(name, root, separator, needs_train=False)
    except UserError as error:
        raise UserError(
            f"{KEY}: {str(error).removeprefix(f'{tables.KEY}: ')}"
        ) from error
    found = [parts[part] for part in ("test", "val", "train") if part in parts]
    answered = [each for each in found if _has_answers(each[0])]
    rows = (
        (f"{table.source}, {place}", row)
        for table in (answered or found)[0]
        for place, row in table.rows
    )
    questions = [
        question_in(row, where)
        for where, row in islice(rows, most if most >= 0 else None)
    ]
    if not questions:
        raise UserError(f"{KEY}: {found[0][0].source} holds no questions")
    return questions


def _has_answers(table: Table) -> bool:
    """Whether the first row says which answer is right.

    The answers of some test sets are secret.
    """
    for place, row in islice(table.rows, 1):
        try:
            question_in(row, place)
        except UserError:
            return False
    return True


def question_in(row: Row, where: str) -> Question:
    """Read a question of ARC, BoolQ, MMLU or PIQA, or one's own.

    Args:
        row: the columns ``goal``, ``sol1``, ``sol2`` and ``label`` (PIQA);
            or ``passage``, ``question`` and ``answer`` or ``label`` (BoolQ);
            or ``question``, ``choices`` (or the answers in ``A``, ``B`` and
            so on) and ``answer`` or ``answerKey``, perhaps with ``subject``
            (MMLU).
        where: the table and the row, for an error message.

    Raises:
        UserError: the columns are of another kind, or a value is wrong.

    """
    names = {*row}

    def text(name: str) -> str:
        value = text_of(plain(row[name]), name, where).strip()
        if not value:
            raise UserError(f"{where}: {name!r} is empty")
        return value

    def right(choices: Sequence[str], labels: Sequence[str] = ()) -> int:
        name = next(n for n in _RIGHT if n in names)
        return _number(plain(row[name]), name, choices, labels, where)

    if {"goal", "sol1", "sol2"} < names and names & {*_RIGHT}:
        pair = (text("sol1"), text("sol2"))
        return Question(
            f"Question: {text('goal')}\nAnswer:", pair, right(pair)
        )
    if {"passage", "question"} < names and names & {*_RIGHT}:
        asked = text("question").removesuffix("?")
        prompt = f"{text('passage')}\nQuestion: {asked}?\nAnswer:"
        return Question(prompt, _NO_YES, right(_NO_YES, ("false", "true")))
    letters = [letter for letter in ascii_uppercase if letter in names]
    if (
        "question" not in names
        or not (letters or "choices" in names)
        or not names & {*_RIGHT}
    ):
        raise UserError(
            f"{where}: the columns {listed(row)} are not those of ARC, BoolQ, "
            f"MMLU or PIQA; name them question, choices and answer ({KEY})"
        )
    choices, labels = (
        _choices(plain(row["choices"]), where)
        if "choices" in names
        else (tuple(map(text, letters)), tuple(letters))
    )
    number = right(choices, labels)
    if "subject" not in names:
        prompt = f"Question: {text('question')}\nAnswer:"
        return Question(prompt, choices, number)
    # MMLU shows the answers, and asks for a letter.
    lines = [
        f"{a}. {c}" for a, c in zip(ascii_uppercase, choices, strict=False)
    ]
    about = text("subject").replace("_", " ")
    prompt = "\n".join([text("question"), *lines, "Answer:"])
    return Question(
        "The following are multiple choice questions (with answers) about "
        f"{about}.\n\n{prompt}",
        tuple(ascii_uppercase[: len(choices)]),
        number,
    )


_RIGHT = ("answerKey", "answer", "label")
_NO_YES = ("no", "yes")


def _choices(
    value: Any, where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The answers, and what they are called, if that is said."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise UserError(
                f"{where}: 'choices' is {shown(value)}, not a list in JSON"
            ) from None
    labels: Sequence[Any] = ()
    if isinstance(value, Mapping):
        labels, value = value.get("label", ()), value.get("text")
    value = value.tolist() if hasattr(value, "tolist") else value
    labels = labels.tolist() if hasattr(labels, "tolist") else labels
    is_list = isinstance(value, (list, tuple))
    if not is_list or not 2 <= len(value) <= len(ascii_uppercase):
        raise UserError(
            f"{where}: 'choices' is {shown(value)}, not a list of at least "
            f"two answers and at most {len(ascii_uppercase)}"
        )
    choices = tuple(text_of(c, "choices", where).strip() for c in value)
    if not all(choices):
        raise UserError(f"{where}: one of the 'choices' is empty")
    return choices, tuple(map(str, labels))


def _number(
    value: Any,
    name: str,
    choices: Sequence[str],
    labels: Sequence[str],
    where: str,
) -> int:
    """The number of the right answer.

    Args:
        value: its number from 0, what it is called, or the answer itself.
        name: the name of the column.
        choices: the answers.
        labels: what the answers are called.
        where: the table and the row, for an error message.

    """
    if not is_missing(value):
        word = str(value).strip()
        if word.lower() in labels:  # True and False have many spellings.
            word = word.lower()
        numbers = [*map(str, range(len(choices)))]
        texts = choices if isinstance(value, str) else ()
        if (
            isinstance(value, str)
            and word in choices
            and word in numbers
            and [*choices].index(word) != int(word)
        ):
            raise UserError(
                f"{where}: {name!r} is {shown(value)}, which is one of the "
                "answers and the number of another; write numbers without "
                "quotes, or letters"
            )
        for known in (labels, numbers, ascii_uppercase, texts):
            if word in [*known[: len(choices)]]:
                return [*known].index(word)
    raise UserError(
        f"{where}: {name!r} is {shown(value)}, which is none of the "
        f"{len(choices)} answers (their numbers are from 0 on)"
    )
