"""Finds the number that answers a word problem."""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

# Characters that are other forms of a sign, a digit or a separator.
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
_SPACES = "\u00a0\u2009\u202f"  # they separate thousands, but never words
_LONGEST = 1000  # characters; a longer number is ignored


def _number(separators: str) -> re.Pattern[str]:
    """A pattern of numbers.

    A separator of thousands is followed by three digits.  A hyphen is a
    number's sign unless it comes after a letter, a digit or a closing
    bracket, where it joins or subtracts.  Each part of the pattern begins
    with other characters than those that can end the part before it, so that
    a text is searched in linear time.
    """
    return re.compile(
        r"(?P<sign>(?<![^\W_])(?<![-)%\]}])-)?(?:[$€£¥₹]\s?)?"
        rf"(?P<digits>(?:\d{{1,3}}(?P<by>[{separators}])\d{{3}}"
        r"(?:(?P=by)\d{3})*(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)"
        r"(?P<exponent>[eE][-+]?\d{1,3}(?![^\W_]))?"
    )


_NUMBER = _number(f",'\u2019{_SPACES}")
# After a mark one number is expected, so a space separates thousands, too.
_MARKED_NUMBER = _number(f",'\u2019{_SPACES} ")
# The marks of an answer, and whether the number must follow immediately.
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

    The answer is the number after the first '####' (the rule of GSM8K's own
    evaluation, which drops all commas there), or else the number after
    ``\boxed``, 'answer is' or 'answer:', in upper or lower case.  Of an
    equation, the number after the equals sign is taken.  Without such a
    mark, or without a number in the line of the mark, the answer is the last
    number of the text.  A number after 'not' is ignored.

    Commas, apostrophes and narrow spaces separate thousands, in groups of
    three digits; after a mark, spaces do, too.  '1/2', '\frac{1}{2}' and '½'
    are fractions, '1 1/2' is 3/2, and '1e3' is 1000.  Currencies and units
    are ignored, so '12%' is 12.

    Returns:
        The number; None if the text has none.

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
    """The text with one form of signs, separators and fractions."""
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
    """For each mark, the rest of its line, or the next line of text."""
    marks = list(mark.finditer(text))
    for number, match in enumerate(marks, 1):
        end = marks[number].start() if number < len(marks) else len(text)
        line = _FIRST_LINE.match(text, match.end(), end)
        if line:
            yield _SIGN_APART.sub(r"\1-", line[0])


def _value_of(passage: str, is_next: bool) -> Fraction | None:
    """The answer in the text after a mark; None if there is no number.

    Args:
        passage: the text after the mark.
        is_next: whether the number must come before any word.

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
    """The numbers of a text; a fraction and a mixed number count as one."""
    numbers: list[_Number] = []
    for number in _quotients(list(_literals(text, pattern)), text):
        whole = numbers[-1] if numbers else number
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
            numbers[-1] = _Number(whole.start, number.end, value, True)
        elif not _NEGATED.search(
            text[max(0, number.start - 9) : number.start]
        ):
            numbers.append(number)
    return numbers


def _literals(text: str, pattern: re.Pattern[str]) -> Iterator[_Number]:
    """The numbers of a text, without fractions."""
    for match in pattern.finditer(text):
        if match.end() - match.start() <= _LONGEST:
            digits = re.sub(r"[^\d.]", "", match["digits"])
            value = Fraction(digits + (match["exponent"] or ""))
            sign = -1 if match["sign"] else 1
            yield _Number(match.start(), match.end(), sign * value)


def _quotients(numbers: list[_Number], text: str) -> Iterator[_Number]:
    """The numbers, with two numbers that a slash joins as one fraction.

    More than two numbers (a date) stay apart.  A fraction with denominator
    zero is left out.
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
