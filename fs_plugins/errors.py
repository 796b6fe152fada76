"""What the command answers with one sentence."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in the user's input, in one plain sentence.

    The command prints the sentence and exits with code 2.
    """


class RunError(RuntimeError):
    """A run that cannot go on, in one plain sentence.

    The command prints the sentence and exits with code 1.
    """


class Interrupted(Exception):  # noqa: N818  as KeyboardInterrupt
    """A signal has asked a run to stop, and it has, between two rounds.

    Attributes:
        signal: its number; the command exits with 128 more.

    """

    def __init__(self, sentence: str, signal: int) -> None:
        super().__init__(sentence)
        self.signal = signal


_LONGEST = 300  # characters of another library's message
_LONGEST_VALUE = 80  # characters of a value in a sentence


def shown(value: object) -> str:
    """A value as it stands in a sentence: in one line, cut if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} of thousands of digits"
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[: _LONGEST_VALUE - 4].rstrip()} ..."


def did_you_mean(
    word: str, known: Iterable[str], likeness: float = 0.6
) -> str:
    """`` (did you mean 'x'?)`` if a known word is close, else nothing.

    Args:
        word: what was written.
        known: what could have been meant.
        likeness: from 0, for words with nothing in common, to 1.

    """
    if len(word) > _LONGEST_VALUE:
        return ""
    close = difflib.get_close_matches(word, list(known), 1, likeness)
    return f" (did you mean {close[0]!r}?)" if close else ""


def first_line(error: BaseException) -> str:
    """The point of what another library says, in one line.

    It is the first line; if that one only announces what follows, by a
    colon, the lines that follow belong to it.  What is longer than a reader
    reads is cut, and an error without words is called by its name.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = " ".join(lines) if lines[0].endswith(":") else lines[0]
    return (
        text
        if len(text) <= _LONGEST
        else f"{text[: _LONGEST - 4].rstrip()} ..."
    )


def unknown(key: str, value: object, known: Iterable[str]) -> UserError:
    """The error for a name that isn't among those known."""
    names = sorted(known)
    return UserError(
        f"{key}: there is no {shown(value)}"
        f"{did_you_mean(value, names) if isinstance(value, str) else ''}; "
        f"known are {', '.join(names)}"
    )
