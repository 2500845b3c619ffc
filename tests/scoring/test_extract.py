from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.scoring.extract import (
    first_match,
    gsm8k_flexible,
    gsm8k_normal,
    gsm8k_strict,
    last_match,
    last_number,
    parse_number,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("He pays $5.\n#### 18", "18", "18"),
        ("#### 5 and then #### 6", "5", "6"),
        ("#### 1,000.", "1,000.", "1,000."),
        ("####5", None, "5"),
        ("the answer is $18.", None, "$18."),
        ("#### -7", "-7", "-7"),
        ("no number at all", None, None),
        ("well ...", None, "..."),
        ("", None, None),
    ],
)
def test_gsm8k_patterns(text: str, strict: str | None, flexible: str | None) -> None:
    assert (gsm8k_strict(text), gsm8k_flexible(text)) == (strict, flexible)


def test_gsm8k_normal_form_of_a_solution_and_of_an_answer() -> None:
    assert gsm8k_normal("3 * 400 = $1,200\n#### 1,200") == "1200"
    assert gsm8k_normal("$1,200.") == "1200"
    # The final period goes last: "18.0" keeps its point, as in lm-eval.
    assert gsm8k_normal("18.0") == "18.0"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so 1,200 + 34 = 1,234.", "1,234"),
        ("it costs $5", "$5"),
        ("from 3-5", "5"),
        ("minus \u22125", "\u22125"),
        ("答案是42。", "42"),
        ("100km away", "100"),
        ("1, 2, 3", "3"),
        ("about 1.5e-3 m", "1.5e-3"),
        ("version 1.2.3", None),
        ("x2 and GPT4", None),
        ("", None),
    ],
)
def test_last_number(text: str, found: str | None) -> None:
    result = last_number(text)
    assert (None if result is None else result[0]) == found


@given(st.integers(-(10**12), 10**12), st.sampled_from(["The answer is {}.", "{}", "x = {}, done", "是{}。"]))
def test_last_number_finds_any_integer_as_people_write_it(value: int, template: str) -> None:
    for written in (str(value), f"{value:,}"):
        result = last_number(template.format(written))
        assert result is not None
        assert result[1] == value


@given(st.text())
def test_extraction_never_raises_and_returns_parts_of_the_text(text: str) -> None:
    for found in (gsm8k_strict(text), gsm8k_flexible(text)):
        assert found is None or found in text
    result = last_number(text)
    assert result is None or (result[0] in text and math.isfinite(result[1]))


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "twelve", "", "1.2.3"])
def test_parse_number_refuses(text: str) -> None:
    assert parse_number(text) is None


def test_matches_with_and_without_groups() -> None:
    assert first_match(re.compile(r"is (\w+)|was (\w+)"), "it was Lima, is Rome") == "Lima"
    assert last_match(re.compile(r"[A-Z]\w+"), "it was Lima, is Rome ") == "Rome"
    assert first_match(re.compile(r"(x)?y"), "y") is None
