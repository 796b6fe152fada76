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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` if a known word is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of what another library says, which is its point."""
    return str(error).strip().split("\n")[0]


def unknown(key: str, value: object, known: Iterable[str]) -> UserError:
    """The error for a name that isn't among those known."""
    names = sorted(known)
    return UserError(
        f"{key}: there is no {value!r}{did_you_mean(str(value), names)}; "
        f"known are {', '.join(names)}"
    )
