"""Errors that the command reports in one sentence."""

import difflib
import re
import unicodedata
from collections.abc import Iterable


def printable(text: str) -> str:
    """The text on one line, with escapes in place of control characters.

    A terminal would obey control characters, and lone surrogates cannot be
    written at all.  Blanks of other widths become plain ones.
    """
    if text.isprintable():
        return text
    return "".join(map(_printable, text))


def _printable(letter: str) -> str:
    if letter.isprintable():
        return letter
    if unicodedata.category(letter) == "Zs":
        return " "
    return letter.encode("unicode_escape").decode()


# A word that is too long for a sentence: its beginning, middle and end.
_LONG_WORD = re.compile(r"(\S{150})\S{50,}(\S{50})")


def one_sentence(text: str) -> str:
    """A text that quotes others' words, fit for the terminal."""
    return _LONG_WORD.sub(r"\1 ... \2", printable(text))


class UserError(ValueError):
    """A mistake in the user's input, described in one plain sentence.

    The command prints the sentence and exits with code 2.

    Args:
        sentence: the sentence, which is made printable.

    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_sentence(sentence))


class RunError(RuntimeError):
    """A run cannot continue, for a reason described in one plain sentence.

    The command prints the sentence and exits with code 1.

    Args:
        sentence: the sentence, which is made printable.

    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_sentence(sentence))


class Interrupted(Exception):  # noqa: N818  as KeyboardInterrupt
    """A signal has asked a run to stop, and the run has stopped after a round.

    Args:
        sentence: what the command prints.
        signal: the number of the signal.

    Attributes:
        signal: the number of the signal; the command exits with 128 plus
            this number.

    """

    def __init__(self, sentence: str, signal: int) -> None:
        super().__init__(sentence)
        self.signal = signal

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str, int]]:
        return type(self), (str(self), self.signal)


_NOT_UNPICKLED = "Weights only load failed"  # torch.load
_LONGEST = 300  # characters of another library's message
_LONGEST_VALUE = 80  # characters of a value in a sentence


def shown(value: object) -> str:
    """A value as text for a sentence: on one line, shortened if it is long."""
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
    """The hint `` (did you mean 'x'?)`` if a known word is similar.

    Args:
        word: the word that the user has written.
        known: the words that may have been meant.
        likeness: how similar a known word must be, from 0, for words that
            have nothing in common, to 1.

    Returns:
        The hint; ``""`` if no known word is similar enough.

    """
    if len(word) > _LONGEST_VALUE:
        return ""
    close = difflib.get_close_matches(word, list(known), 1, likeness)
    return f" (did you mean {close[0]!r}?)" if close else ""


def first_line(error: BaseException) -> str:
    """The point of another library's error message, on one line.

    That is the first line of the message or, if the first line ends with a
    colon, the whole message.  A long text is shortened, and an error without
    a message is called by the name of its class.
    """
    if _NOT_UNPICKLED in str(error):  # its advice is to unpickle it
        return (
            "it is a pickle that is damaged or asks for more than tensors, "
            "and so it is not unpickled"
        )
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
    """The error for a value that is not among those known.

    Args:
        key: the option, as the message names it.
        value: the value that the user has given.
        known: the values that are known.

    """
    names = sorted(known)
    return UserError(
        f"{key}: there is no {shown(value)}"
        f"{did_you_mean(value, names) if isinstance(value, str) else ''}; "
        f"known are {', '.join(names)}"
    )
