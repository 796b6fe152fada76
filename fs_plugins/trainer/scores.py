"""How good an answer is."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal

# What answers may be scored by (fedsa.eval.generate.metric).
GENERATION_METRICS = ("exact_match", "rouge_l", "pass_at_1")
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
_MARKS = ("####", "answer is")
# Where a function's body is over (Chen et al., arXiv 2107.03374, section 3).
_ENDS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```", "\n@")


def final_number(text: str) -> Decimal | None:
    """The answer to a word problem: GSM8K's, after '####'.

    Without that mark, the number after 'answer is'; else the last one.
    """
    for mark in _MARKS:
        _, found, rest = text.rpartition(mark)
        numbers = _NUMBER.findall(rest) if found else []
        if numbers:
            return _value(numbers[0])
    numbers = _NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", "").replace("$", ""))


def exact_match(answer: str, reference: str) -> float:
    """1 if both end in the same number, else 0."""
    found = final_number(answer)
    return float(found is not None and found == final_number(reference))


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin, ACL 2004).

    Words are runs of letters and digits, in lower case, not stemmed.
    """
    found, wanted = _words(answer), _words(reference)
    common = _common(found, wanted)
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for j, candidate in enumerate(other, 1):
            above = row[j]
            if word == candidate:
                row[j] = diagonal + 1
            else:
                row[j] = max(above, row[j - 1])
            diagonal = above
    return row[-1]


def function_body(completion: str) -> str:
    """A completion up to where the function is over."""
    return completion[: min(_ends_of(completion))]


def _ends_of(text: str) -> list[int]:
    found = (text.find(end) for end in _ENDS)
    return [place for place in found if place >= 0] + [len(text)]


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that one of k answers is right (Chen et al., eq. 1).

    Args:
        samples: how many were tried.
        right: how many of them were right.
        k: how many one may choose.

    """
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def score_names(metric: str, samples: int) -> list[str]:
    """The metrics that come of one: with several answers, two pass rates."""
    if metric != "pass_at_1":
        return [metric]
    return [f"pass_at_{k}" for k in choices(samples)]


def choices(samples: int) -> list[int]:
    """The k of the pass rates that so many answers are scored by."""
    return sorted({1, samples})
