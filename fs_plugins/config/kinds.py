"""What the value of an option may be."""

import abc
import math
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fs_plugins.config.yaml_file import parse_word
from fs_plugins.errors import UserError, shown, unknown

MOST = 2**31 - 1  # the largest whole number, unless a row says otherwise
_LARGEST = 2**63 - 1
_LONGEST_TEXT = 4096  # characters, as in the longest path of Linux
_LONGEST_NAME = 255  # bytes of one part of a path


class Kind(abc.ABC):
    """The values that an option may have.

    Attributes:
        name: the kind's name in a table, such as ``whole number``.

    """

    name = ""

    @abc.abstractmethod
    def read(self, key: str, value: Any) -> Any:
        """Check a value and convert it to what the configuration holds.

        Args:
            key: the key, for the error message.
            value: the value as YAML has it.

        Raises:
            UserError: the value is not allowed; names the key.

        """

    def read_word(self, key: str, word: str) -> Any:
        """Check and convert a word of the command line, as ``read`` does.

        Args:
            key: the key, for the error message.
            word: the word, which is read as YAML.

        """
        return self.read(key, parse_word(word))

    def allowed(self) -> str:
        """The allowed values, as a table shows them."""
        return "any"


def refused(key: str, value: Any, expected: str) -> UserError:
    """The error for a value that is not allowed.

    Args:
        key: the key.
        value: the value that is refused.
        expected: what the key needs, as the end of the sentence.

    """
    return UserError(f"{key}: {shown(value)} is not {expected}")


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number.

    Attributes:
        least: the smallest number that is allowed; None for any.
        most: the largest number that is allowed; None for any.

    """

    least: int | None = None
    most: int | None = MOST
    name = "whole number"

    def read(self, key: str, value: Any) -> int:
        """An int; a float without a fractional part is converted."""
        number = _literal(value)
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        is_whole = isinstance(number, int) and not isinstance(number, bool)
        least = -_LARGEST if self.least is None else self.least
        most = _LARGEST if self.most is None else self.most
        if not is_whole or number < least:
            expected = f"a whole number {self._bounds()}".strip()
            raise refused(key, value, expected)
        if number > most:
            raise refused(key, value, f"a whole number of at most {most}")
        return int(number)

    def allowed(self) -> str:
        """The bounds."""
        return self._bounds().removeprefix("of ") or "any"

    def _bounds(self) -> str:
        if self.least is None:
            return ""
        if self.most in (None, MOST):
            return f"of at least {self.least}"
        return f"from {self.least} to {self.most}"


@dataclass(frozen=True)
class Number(Kind):
    """A finite number.

    Attributes:
        least, most: bounds that are allowed themselves; None for none.
        above, below: bounds that are not allowed; None for none.

    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    name = "number"

    def read(self, key: str, value: Any) -> float:
        """A finite float within the bounds."""
        number = _literal(value)
        is_number = isinstance(number, (int, float))
        is_number = is_number and not isinstance(number, bool)
        if not is_number or not self._is_within(_as_float(number)):
            raise refused(key, value, f"a number {self._bounds()}".strip())
        return float(number)

    def allowed(self) -> str:
        """The bounds."""
        return self._bounds().removeprefix("of ") or "any"

    def _is_within(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def _bounds(self) -> str:
        if self.least is not None and self.most is not None:
            return f"from {self.least:g} to {self.most:g}"
        bounds = [
            f"{words} {bound:g}"
            for words, bound in (
                ("of at least", self.least),
                ("above", self.above),
                ("of at most", self.most),
                ("below", self.below),
            )
            if bound is not None
        ]
        return " and ".join(bounds).replace("and of", "and")


class Flag(Kind):
    """True or false."""

    name = "true or false"

    def read(self, key: str, value: Any) -> bool:
        """A bool."""
        flag = _literal(value)
        if not isinstance(flag, bool):
            raise refused(key, value, "true or false")
        return flag

    def allowed(self) -> str:
        """Both values."""
        return "true, false"


@dataclass(frozen=True)
class Text(Kind):
    """A text, which needs no quotes on the command line.

    Attributes:
        is_path: whether the parts of the text must be valid file names.

    """

    is_path: bool = False
    name = "text"

    def read(self, key: str, value: Any) -> str:
        """A text that a file, or with ``is_path`` a file's name, can hold."""
        if not isinstance(value, str):
            hint = "" if isinstance(value, (list, dict)) else " (add quotes)"
            raise refused(key, value, f"a text{hint}")
        try:
            size = max(len(p) for p in value.encode().split(b"/"))
        except UnicodeEncodeError:
            raise refused(key, value, "a text in Unicode") from None
        if "\0" in value:
            raise refused(key, value, "a text without NUL characters")
        if len(value) > _LONGEST_TEXT:
            raise refused(
                key, value, f"a text of at most {_LONGEST_TEXT} characters"
            )
        if self.is_path and size > _LONGEST_NAME:
            raise refused(
                key,
                value,
                f"a path whose parts have at most {_LONGEST_NAME} bytes",
            )
        return value

    def read_word(self, key: str, word: str) -> str:
        """The word itself, without the quotes that may enclose it."""
        quotes = len(word) > 1 and word[0] == word[-1] and word[0] in "'\""
        value = parse_word(word) if quotes else word
        return self.read(key, value if isinstance(value, str) else word)

    def allowed(self) -> str:
        """The words ``any`` or ``a path``."""
        return "a path" if self.is_path else "any"


@dataclass(frozen=True)
class Choice(Text):
    """One of several names.

    Attributes:
        names: the names, or a function that returns them.  The function is
            called whenever a value is checked, so that names registered by
            plugins are known.
        or_empty: whether the empty text is allowed, too.
        in_any_case: whether upper and lower case are the same, so that
            ``FedSA`` is allowed if ``fedsa`` is a name.
        described: what a table shows in place of the names, where they
            differ from one installation to another.

    """

    names: Iterable[str] | Callable[[], Iterable[str]] = ()
    or_empty: bool = False
    in_any_case: bool = False
    described: str = ""
    name = "choice"

    def known(self) -> list[str]:
        """The names that are known at the time of the call."""
        names = self.names() if callable(self.names) else self.names
        return [name for name in names if name]

    def read(self, key: str, value: Any) -> str:
        """One of the names, as it was written."""
        known = self.known()
        if isinstance(value, str):
            if self.or_empty and not value:
                return value
            if value in known:
                return value
            folded = {name.lower() for name in known}
            if self.in_any_case and value.lower() in folded:
                return value
        raise unknown(key, value, known)

    def allowed(self) -> str:
        """The names."""
        names = self.described or ", ".join(self.known())
        return f"{names}, or ''" if self.or_empty else names


@dataclass(frozen=True)
class Items(Kind):
    """A list of values of one kind.

    Attributes:
        item: the kind of each value.
        at_most: the largest number of values; 0 for any number.
        or_one: whether a single text stands for a list of one.

    """

    item: Kind
    at_most: int = 0
    or_one: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """The kind's name in a table, such as ``list of texts``."""
        return f"list of {self.item.name}s"

    def read(self, key: str, value: Any) -> list[Any]:
        """A list; a tuple is converted."""
        items = _literal(value)
        if self.or_one and isinstance(items, str):
            items = [items] if items else []
        if not isinstance(items, (list, tuple)):
            raise refused(key, value, f"a {self.name}")
        if self.at_most and len(items) > self.at_most:
            raise UserError(
                f"{key}: there are {len(items)} entries; leave {self.at_most}"
            )
        return [self.item.read(key, entry) for entry in items]

    def allowed(self) -> str:
        """The allowed values of each entry."""
        allowed = self.item.allowed()
        return allowed if allowed == "any" else f"each {allowed}"


class Arguments(Kind):
    """A mapping of argument names to values of any kind."""

    name = "mapping"

    def read(self, key: str, value: Any) -> dict[str, Any]:
        """A dict whose keys are texts."""
        if not isinstance(value, Mapping):
            raise refused(key, value, "a mapping of arguments to values")
        return {
            _name(key, name): plain(key, entry)
            for name, entry in value.items()
        }


class Anything(Kind):
    """Any value that YAML can hold, for keys that only the host knows."""

    name = "value"

    def read(self, key: str, value: Any) -> Any:
        """The value; a text that holds a Python literal is converted."""
        return plain(key, _literal(value))


def plain(key: str, value: Any) -> Any:
    """A value that a YAML file can hold, with tuples turned into lists.

    Args:
        key: the key, for the error message.
        value: the value, which may contain lists and mappings.

    Raises:
        UserError: YAML cannot hold the value, or a number is not finite.

    """
    if isinstance(value, str):
        return Text().read(key, value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(key, entry) for entry in value]
    if isinstance(value, Mapping):
        return Arguments().read(key, value)
    raise refused(key, value, "a value that a configuration can hold")


def kind_like(default: Any) -> Kind:
    """The kind of a key without a row, by the type of the key's default."""
    if isinstance(default, bool):
        return Flag()
    if isinstance(default, int):
        return Whole(None, None)
    if isinstance(default, float):
        return Number()
    if isinstance(default, str):
        return Text()
    if isinstance(default, (list, tuple)):
        return Items(kind_like(default[0]) if default else Anything())
    return Arguments() if isinstance(default, dict) else Anything()


def _name(key: str, name: Any) -> str:
    """Refuse an argument name that is not a text."""
    if not isinstance(name, str):
        raise refused(key, name, "the name of an argument")
    return name


def _literal(value: Any) -> Any:
    """The value of a text that holds a Python literal, such as '1e-3'."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return value
    try:
        return literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return value


def _as_float(number: float) -> float:
    """The number as a float; infinity if no float is that large."""
    try:
        return float(number)
    except OverflowError:
        return math.inf
