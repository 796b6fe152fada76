"""How good an answer is."""

import json
import os
import re
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.trainer.scores import (
    _words,
    exact_match,
    final_number,
    function_body,
    pass_at_k,
    rouge_l,
)
from fs_plugins.trainer.word_problems import _MARKS, _passages


@pytest.mark.parametrize(
    "text, number",
    [
        ("48/2 = <<48/2=24>>24 clips\n#### 72", "72"),
        ("#### 1,234", "1234"),
        ("#### $5.50 a day", "5.50"),
        ("#### -3", "-3"),
        ("So 3 and 4. The answer is 7. Not 8.", "7"),
        ("He has 12 apples and 5 pears, 17.", "17"),
        ("#### 3\n#### 4", "3"),
        ("#### none, but 9 before", "9"),
        (".5", "0.5"),
        ("nothing", None),
        ("", None),
    ],
)
def test_the_final_number(text, number):
    expected = None if number is None else Decimal(number)
    assert final_number(text) == expected


READ = {
    "a mark in any case": [
        ("Answer is 5. This took 3 steps.", "5"),
        ("THE ANSWER IS 5. It took 3 steps.", "5"),
        ("The answer: 5. It took 3 steps.", "5"),
        ("**Final Answer:** 72 clips (in 3 steps)", "72"),
        ("Answer:\n\n5 apples, in 3 steps", "5"),
        (r"So \boxed{8,000}, in 3 steps", "8000"),
        (r"\(\boxed{-\$5}\) in 3", "-5"),
    ],
    "the first mark with a number": [
        ("#### 8\n\nQuestion: Tom has 4.\n#### 9", "8"),
        ("#### Step 1: add\n3 + 4\n#### 72", "72"),
        ("####\n#### five\n#### 6", "6"),
        ("The answer is 4.\n#### none\nThe answer is 5.", "4"),
        ("The answer is clear.\n3 + 4 = 7", "7"),
        ("The answer is unclear. The answer is 7.", "7"),
        ("####\n72", "72"),
    ],
    "what is no mark": [
        ("The answers are 3,4", "4"),
        ("Answer: Tom has 3 apples and 4 pears, so 7", "7"),
        ("3 points/answer = 48, plus 2 is 50", "50"),
    ],
    "the result of an equation": [
        ("The answer is 5 * 4 = 20. It took 3 steps.", "20"),
        ("Answer: 3 apples + 4 pears = 7", "7"),
        ("#### x = 12", "12"),
        ("The answer is 5, as 10 = 5 * 2", "5"),
        ("The answer is 5 because 10 = 5 * 2", "5"),
    ],
    "not": [
        ("The answer is not 5, it is 7.", "7"),
        ("The answer isn't 5, it's 7.", "7"),
        ("It is 7, not $8.", "7"),
        ("It is not 5.", None),
    ],
    "signs": [
        ("#### \u22123", "-3"),
        ("#### \u20133", "-3"),
        *((f"#### {n}", "-5") for n in ("-€5", "- 5", "-$5", "$-5", "- $ 5")),
        ("The answer is - 5", "-5"),
        ("It takes 3-5 days", "5"),
        ("from 2019\u20132020", "2020"),
        ("so 10-5=5", "5"),
        ("(3)-5", "5"),
        ("COVID-19", "19"),
        ("12 -5", "-5"),
        ("it is -5", "-5"),
        ("The answer is:\n- 5 apples\n- 3 pears", "5"),
    ],
    "thousands": [
        ("The answer is $9{,}500.", "9500"),
        (r"\boxed{\$9{,}500}", "9500"),
        (r"Then $10\,000$ are left", "10000"),
        ("it is 9\u202f500", "9500"),
        ("it is 9\u00a0500,5", "5"),
        ("it is 1'234'567.5", "1234567.5"),
        ("The answer is 10 000.", "10000"),
        ("room 12 300", "300"),
        ("in 1,2345", "2345"),
        ("100, 200", "200"),
        ("1,2,3", "3"),
        ("#### 1,2,3", "123"),  # as the official evaluation reads it
    ],
    "decimals": [
        ("18.00", "18"),
        ("it is .5", "0.5"),
        ("it is 5.", "5"),
        ("it is 5,", "5"),
        ("wait...5", "5"),
        ("it is 1e3", "1000"),
        ("it is 2.5E-1", "0.25"),
        ("1e3abc", "3"),
        ("it is \uff17\uff12\uff0e\uff15", "72.5"),
        ("it is \u0667\u0662", "72"),
    ],
    "fractions": [
        ("The answer is 1/2.", "0.5"),
        ("#### 3 / 4", "0.75"),
        ("-1/2", "-0.5"),
        (r"\frac{1}{2}", "0.5"),
        (r"-\dfrac{1}{2}", "-0.5"),
        (r"1\tfrac{1}{2}", "1.5"),
        ("1 1/2 cups", "1.5"),
        ("-1 1/2", "-1.5"),
        ("2 \u00bd", "2.5"),
        ("2\u00bd", "2.5"),
        ("-\u00be", "-0.75"),
        ("in 7 3/2", "1.5"),
        ("3/4/2020", "2020"),
        ("1/0", None),
        ("7 and 1/0", "7"),
    ],
    "units and decoration": [
        ("it is 5 km", "5"),
        ("it is 5km", "5"),
        ("it is 12%", "12"),
        ("it is **8**", "8"),
        ("#### **8**", "8"),
        ("#### <<60+12=72>>72", "72"),
        ("60+12=<<60+12=72>>72", "72"),
        ("it is 72 <<60+13=73>>", "72"),
        ("$1.5 million", "1.5"),
    ],
}


@pytest.mark.parametrize("kind", READ)
def test_a_number_is_read_as_a_reader_would(kind):
    for text, number in READ[kind]:
        expected = None if number is None else Decimal(number)
        assert final_number(text) == expected, text


def test_half_is_not_one():
    assert exact_match("The answer is 1/2.", "#### 1") == 0.0
    assert exact_match(r"\frac{1}{3}", "#### 1/3") == 1.0
    assert exact_match("1/3", "0.3333333333333333") == 0.0
    assert final_number("1/3") == Fraction(1, 3)


def official(text):
    """The number as GSM8K's published evaluation takes it from a text."""
    found = re.search(r"#### (\-?[0-9\.\,]+)", text)
    return found and found[1].replace(",", "")


LINES = (
    "3 + 4 = <<3+4=7>>7 apples",
    "The answer is 8.",
    "#### 7",
    "#### -3",
    "#### 1,234 apples",
    "#### 12, and 3",
    "#### 5.50",
    "#### 1,2,3",
    "#### Step 2: add them",
    "so #### 6",
)


@given(st.lists(st.sampled_from(LINES), max_size=8))
def test_after_gsm8ks_mark_it_is_the_official_number(lines):
    text = "\n".join(lines)
    if official(text):
        assert final_number(text) == Decimal(official(text))


@pytest.mark.skipif(
    "FS_PLUGINS_DATA" not in os.environ,
    reason="FS_PLUGINS_DATA does not name a folder with gsm8k",
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_gsm8ks_own_answers(part):
    file = Path(os.environ["FS_PLUGINS_DATA"]) / "gsm8k" / f"{part}.jsonl"
    for line in file.read_text("utf-8").splitlines():
        answer = json.loads(line)["answer"]
        assert final_number(answer) == Decimal(official(answer)), answer


@pytest.mark.parametrize(
    "text",
    [
        *(
            part * 20_000
            for part in ("####", "answer is ", "answer", "1,234", "1,", "1/",
                         "1 ", "9", "<<", "<<=", "$", "\\frac{", "\\frac{1",
                         "1 1/2 ", "not ", "1 000 ", "\u00bd", "1e", "1.",
                         "answer is 1=1 ", "1=")
        ),
        *("#### " + part * 100_000 for part in (" ", "(", "-", "- ", "_")),
        "answer" + " " * 100_000,
        "1,111" + ",111" * 25_000 + "1",
    ],
    ids=lambda text: f"{text[:12]!r}",
)  # fmt: skip
def test_a_long_answer_is_read_in_linear_time(text):
    """No passage is read for two marks; quadratic work would never end."""
    final_number(text)
    for mark, _ in _MARKS:
        passages = list(_passages(text, mark))
        assert sum(map(len, passages)) <= len(text)


@given(st.text(alphabet="0123456789/.,-eE$# \n\u00bd\\{}frac<>=answeri:"))
def test_no_answer_is_too_odd_to_be_read(text):
    number = final_number(text)
    assert number is None or isinstance(number, Fraction)


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_found_however_it_is_written(number):
    reference = f"because\n#### {number}"
    for answer in (f"x 1 #### {number:,}", f"2, the answer is {number}.0"):
        assert exact_match(answer, reference) == 1.0
    assert exact_match(f"#### {number + 1}", reference) == 0.0


def test_no_number_matches_nothing():
    assert exact_match("nothing", "nothing") == 0.0


def test_rouge_l_by_hand():
    """Lin, ACL 2004, section 3.1: recall 3/4 and 2/4 (here precision too)."""
    reference = "police killed the gunman"
    assert rouge_l("police kill the gunman", reference) == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", reference) == pytest.approx(0.5)
    assert rouge_l("The gunman!", reference) == pytest.approx(2 / 3)
    assert rouge_l("", reference) == rouge_l("other words", reference) == 0


latin = st.text(st.characters(max_codepoint=0x24F), max_size=20)


@given(latin, latin)
def test_latin_words_are_runs_of_letters_and_digits(one, other):
    def words(text):
        return re.findall(r"[^\W_]+", text.lower())

    spaced = " ".join(words(one)), " ".join(words(other))
    assert rouge_l(one, other) == rouge_l(*spaced)
    assert [rouge_l(word, word) for word in words(one)] == [1.0] * len(
        words(one)
    )
    assert _words(one) == words(one)


@pytest.mark.parametrize(
    "text, words",
    [
        ("\u4f60\u597d2024\u5e74ok", "\u4f60 \u597d 2024 \u5e74 ok"),
        ("\U00020000\u4e16", "\U00020000 \u4e16"),
        (
            "\u3053\u3093\u30ab\u30fc\uff76",
            "\u3053 \u3093 \u30ab \u30fc \uff76",
        ),
        ("\u0e01\u0e34\u0e19", "\u0e01\u0e34 \u0e19"),  # a vowel sign
        ("\u0e81\u0eb4\u0e81", "\u0e81\u0eb4 \u0e81"),
        ("\u1780\u17b6\u1780", "\u1780\u17b6 \u1780"),
        ("\u1000\u102d\u1000", "\u1000\u102d \u1000"),
        # Devanagari, Arabic and Korean put spaces between words.
        ("\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941", None),
        ("\u0643\u064e\u062a\u064e\u0628\u064e", None),
        ("\uc548\ub155 \uc138\uc0c1", None),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u0937"),
        ("cafe\u0301s", None),
        ("\u0301a", "a"),
        ("a_b", "a b"),
    ],
)
def test_words_of_other_scripts(text, words):
    assert _words(text) == (words or text).split()


def test_rouge_l_of_a_script_without_spaces():
    """Eight characters, then one more: precision 8/8 and recall 8/9."""
    found = "\u4f60\u597d\u4e16\u754c\u4eca\u5929\u5929\u6c14"
    assert rouge_l(found, found + "\u597d") == pytest.approx(16 / 17)


words = st.lists(st.sampled_from("abc"), max_size=7)


@given(words, words)
def test_rouge_l_against_all_subsequences(one, other):
    def subsequences(items):
        return {
            c for n in range(len(items) + 1) for c in combinations(items, n)
        }

    common = max(map(len, subsequences(one) & subsequences(other)))
    expected = 2 * common / (len(one) + len(other)) if common else 0.0
    assert rouge_l(" ".join(one), " ".join(other)) == pytest.approx(expected)


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_share_of_choices_with_a_right_one(samples, data):
    right = data.draw(st.integers(0, samples))
    k = data.draw(st.integers(1, samples))
    tried = [i < right for i in range(samples)]
    choices = list(combinations(tried, k))
    share = sum(map(any, choices)) / len(choices)
    assert pass_at_k(samples, right, k) == pytest.approx(share)


def test_a_function_ends_where_the_next_thing_begins():
    body = "    return x\n"
    for after in ("\ndef f():", "\nclass A:", "\nprint(1)", "\n# done"):
        assert function_body(body + after) == body
    assert (
        function_body("    y = 1\n    return y") == "    y = 1\n    return y"
    )
