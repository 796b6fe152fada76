"""Scores of generated answers."""

import math
import unicodedata
from collections.abc import Sequence

from fs_plugins.trainer.word_problems import final_number

# What ends the body of a function (Chen et al., arXiv 2107.03374, section 3).
_ENDS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```", "\n@")


def exact_match(answer: str, reference: str) -> float:
    """Whether an answer gives the number of the reference: 1.0 or 0.0.

    Args:
        answer: the text of the answer.
        reference: the text of the right answer.

    """
    number = final_number(answer)
    return float(number is not None and number == final_number(reference))


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin, ACL 2004).

    Words are runs of letters and digits, in lower case, not stemmed; the
    combining marks of a letter belong to it.  In scripts that put no spaces
    between words, such as Chinese, Japanese and Thai, each character counts
    as a word.

    Args:
        answer: the text of the answer.
        reference: the text of the right answer.

    """
    words, expected = _words(answer), _words(reference)
    common = _common(words, expected)
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(expected)
    return 2 * precision * recall / (precision + recall)


# The blocks of the scripts that put no spaces between words.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x3005, 0x3007),  # Han
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xA980, 0xA9FF),  # Javanese, Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F),  # Katakana
    (0x1AFF0, 0x1B16F),  # Hiragana, Katakana
    (0x20000, 0x323AF),  # Han
)
_JOINERS = "\u200c\u200d"  # characters that only change a letter's shape


def _words(text: str) -> list[str]:
    words: list[list[str]] = []
    in_word = ends = False
    # In lower case a dotted capital I is an i and a combining dot.  It ends
    # a word.
    for character in text.lower().replace("i\u0307", "i "):
        if character.isalnum():
            is_word = _is_unspaced(character)
            if not in_word or is_word or ends:
                words.append([])
            words[-1].append(character)
            in_word, ends = True, is_word
        elif in_word and unicodedata.category(character).startswith("M"):
            words[-1].append(character)
        elif character not in _JOINERS:
            in_word = False
    return ["".join(word) for word in words]


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in _UNSPACED)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence of two lists of words."""
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
    """The part of a completion that belongs to the function's body."""
    return completion[: min(_ends_of(completion))]


def _ends_of(text: str) -> list[int]:
    places = (text.find(end) for end in _ENDS)
    return [place for place in places if place >= 0] + [len(text)]


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that at least one of k answers is right.

    This is the unbiased estimate of pass@k, 1 - C(n - c, k) / C(n, k), of
    Chen et al., arXiv 2107.03374, equation 1.

    Args:
        samples: n, the number of answers.
        right: c, the number of right answers.
        k: the number of answers that are drawn from all answers.

    """
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def score_names(metric: str, samples: int) -> list[str]:
    """The names of the results that a metric yields.

    With several answers to each problem, ``pass_at_1`` yields two results.

    Args:
        metric: the metric.
        samples: the number of answers to each problem.

    """
    if metric != "pass_at_1":
        return [metric]
    return [f"pass_at_{k}" for k in choices(samples)]


def choices(samples: int) -> list[int]:
    """The values of k for which pass@k is computed of so many answers."""
    return sorted({1, samples})
