"""The number that answers a word problem."""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

# Other characters for a sign, a digit or a separator.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2013\u2212\ufe63\uff0d", "-"),
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        "\uff0c": ",",
        "\uff0e": ".",
        "\uff0f": "/",
        "\u2044": "/",
    }
)
# GSM8K's annotations for a calculator: 60+12=<<60+12=72>>72.
_CALCULATION = re.compile(r"<<[^<>=]*=[^<>]*>>")
_LATEX = (
    ("{,}", ","),
    ("{-}", "-"),
    ("\\$", "$"),
    ("\\!", ""),
    ("\\,", "\u2009"),
)
_LATEX_FRACTION = re.compile(
    r"\\[dt]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}"
)
_VULGAR_FRACTION = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_SPACES = "\u00a0\u2009\u202f"  # that separate thousands and never words
_LONGEST = 1000  # characters; more are no number that anybody would read


def _number(separators: str) -> re.Pattern[str]:
    """A number; what separates thousands is followed by three digits.

    A hyphen is its sign unless it joins or subtracts: after a letter, a
    digit, a closing bracket.  Every part begins with other characters than
    the part before it can end with, so a text is read in linear time.
    """
    return re.compile(
        r"(?P<sign>(?<![^\W_])(?<![-)%\]}])-)?(?:[$€£¥₹]\s?)?"
        rf"(?P<digits>(?:\d{{1,3}}(?P<by>[{separators}])\d{{3}}"
        r"(?:(?P=by)\d{3})*(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)"
        r"(?P<exponent>[eE][-+]?\d{1,3}(?![^\W_]))?"
    )


_NUMBER = _number(f",'\u2019{_SPACES}")
# After a mark comes one number, so that a space in it is a separator, too.
_MARKED_NUMBER = _number(f",'\u2019{_SPACES} ")
# A mark, and whether the number has to follow it at once.
_MARKS = (
    (re.compile("####"), True),
    (re.compile("####"), False),
    (re.compile(r"\\boxed\b"), False),
    (re.compile(r"answer[\s*_]*is\b", re.IGNORECASE), False),
    (re.compile(r"answer[\s*_]*:", re.IGNORECASE), True),
)
_OFFICIAL = re.compile(r"(?<=####)\s*-?[\d.,]+")
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_FIRST_LINE = re.compile(r"[\W_]*[^\n]*")
_SIGN_APART = re.compile(
    r"\A([ \t:*_$€£¥₹({\[\\]*)-[ \t]+(?=[$€£¥₹]?[ \t]?[\d.])"
)
_LETTER = re.compile(r"[^\W_]")
_NEGATED = re.compile(r"\bnot\s+$", re.IGNORECASE)
_CLAUSE_END = re.compile(r"[\n;(]|[,.!?]\s|\bbecause\b|\bsince\b")


def final_number(text: str) -> Fraction | None:
    r"""The number that a text gives as its answer, as a reader would see it.

    It is the number after the first '####' (the rule of GSM8K's own
    evaluation, which drops all commas there), else after ``\boxed``, 'answer
    is' or 'answer:', in upper or lower case; of an equation, what comes after
    the equals sign.  Without a mark, or where no number is in its line, it
    is the text's last number.  A number that 'not' precedes is none.

    Commas, apostrophes and narrow spaces separate thousands, in groups of
    three digits; so does a space after a mark.  '1/2', '\frac{1}{2}' and '½'
    are fractions, '1 1/2' is 3/2 and '1e3' is 1000.  Currencies and units
    are passed over, '12%' is 12.
    """
    text = _plain(text)
    for mark, is_next in _MARKS:
        for passage in _passages(text, mark):
            value = _value_of(passage, is_next)
            if value is not None:
                return value
    numbers = _numbers(text, _NUMBER)
    return numbers[-1].value if numbers else None


def _plain(text: str) -> str:
    """The text with one way to write a sign, a separator, a fraction."""
    text = _CALCULATION.sub("", text.translate(_PLAIN))
    for command, meaning in _LATEX:
        text = text.replace(command, meaning)

    def apart(match: re.Match[str], fraction: str) -> str:
        before = match.string[max(0, match.start() - 1) : match.start()]
        return f" {fraction}" if before.isdigit() else fraction

    text = _LATEX_FRACTION.sub(lambda m: apart(m, f"{m[1]}/{m[2]}"), text)
    text = _VULGAR_FRACTION.sub(
        lambda m: apart(m, unicodedata.normalize("NFKC", m[0])), text
    )
    text = text.translate(_PLAIN)
    return _OFFICIAL.sub(lambda m: _COMMA.sub("", m[0]), text)


def _passages(text: str, mark: re.Pattern[str]) -> Iterator[str]:
    """For each mark, what comes after it: the line, or the next one."""
    found = list(mark.finditer(text))
    for number, match in enumerate(found, 1):
        end = found[number].start() if number < len(found) else len(text)
        line = _FIRST_LINE.match(text, match.end(), end)
        if line:
            yield _SIGN_APART.sub(r"\1-", line[0])


def _value_of(passage: str, is_next: bool) -> Fraction | None:
    """The answer in what follows a mark, if there is one.

    Args:
        passage: what follows the mark.
        is_next: no word may come before the number.

    """
    numbers = _numbers(passage, _MARKED_NUMBER)
    if not numbers or (
        is_next and _LETTER.search(passage[: numbers[0].start])
    ):
        return None
    clause_end = _CLAUSE_END.search(passage, numbers[0].end)
    end = clause_end.start() if clause_end else len(passage)
    equals = passage.rfind("=", numbers[0].end, end)
    results = [n for n in numbers if 0 <= equals < n.start < end]
    return (results or numbers)[0].value


class _Number(NamedTuple):
    start: int
    end: int
    value: Fraction
    is_fraction: bool = False


def _numbers(text: str, pattern: re.Pattern[str]) -> list[_Number]:
    """The numbers of a text, where fractions are one."""
    found: list[_Number] = []
    for number in _quotients(list(_literals(text, pattern)), text):
        whole = found[-1] if found else number
        between = text[whole.end : number.start]
        if (
            number.is_fraction
            and 0 < number.value < 1
            and whole.value.denominator == 1
            and not whole.is_fraction
            and between in {" ", *_SPACES}
        ):
            part = -number.value if whole.value < 0 else number.value
            value = whole.value + part
            found[-1] = _Number(whole.start, number.end, value, True)
        elif not _NEGATED.search(
            text[max(0, number.start - 9) : number.start]
        ):
            found.append(number)
    return found


def _literals(text: str, pattern: re.Pattern[str]) -> Iterator[_Number]:
    for match in pattern.finditer(text):
        if match.end() - match.start() <= _LONGEST:
            digits = re.sub(r"[^\d.]", "", match["digits"])
            value = Fraction(digits + (match["exponent"] or ""))
            sign = -1 if match["sign"] else 1
            yield _Number(match.start(), match.end(), sign * value)


def _quotients(numbers: list[_Number], text: str) -> Iterator[_Number]:
    """The numbers, with a fraction for two that a slash joins.

    More than two (a date) stay apart; a fraction over zero is no number.
    """
    runs: list[list[_Number]] = []
    for number in numbers:
        if runs and text[runs[-1][-1].end : number.start].strip() == "/":
            runs[-1].append(number)
        else:
            runs.append([number])
    for run in runs:
        if len(run) != 2:
            yield from run
        elif run[1].value:
            value = run[0].value / run[1].value
            yield _Number(run[0].start, run[1].end, value, True)
