"""How good an answer is."""

from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.trainer.scores import (
    exact_match,
    final_number,
    function_body,
    pass_at_k,
    rouge_l,
)


@pytest.mark.parametrize(
    "text, number",
    [
        ("48/2 = <<48/2=24>>24 clips\n#### 72", "72"),
        ("#### 1,234", "1234"),
        ("#### $5.50 a day", "5.50"),
        ("#### -3", "-3"),
        ("So 3 and 4. The answer is 7. Not 8.", "7"),
        ("He has 12 apples and 5 pears, 17.", "17"),
        ("#### 3\n#### 4", "4"),
        ("#### none, but 9 before", "9"),
        (".5", "0.5"),
        ("nothing", None),
        ("", None),
    ],
)
def test_the_final_number(text, number):
    expected = None if number is None else Decimal(number)
    assert final_number(text) == expected


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
