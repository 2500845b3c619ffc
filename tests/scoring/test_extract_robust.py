"""The second readings: what they find that lm-eval's do not, and what they must not find."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.scoring.extract import first_number
from forgetbench.scoring.extract_code import robust_program
from forgetbench.scoring.extract_robust import robust_number, same_number

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"reasoning": "9 * 2", "answer": "18"}', "18"),
        ('{"reasoning": "in 2 steps", "answer": 18}', "18"),
        ('{"answer": "$1,234 for 3 days"}', "$1,234"),
        ('{"answer": "4 * 15 * 12 = 720"}', "720"),
        ('{"answer": "2/3"} of 3', "2/3"),
        ('{"answer": "5"} no: {"answer": "6"}', "6"),
        ('{"reasoning": "3 and 4", "answer": "Cannot determine"}', None),
        ('{"reasoning": "3 and 4", "answer": ""}', None),
        ('{"answer": [\n 18\n]}', "18"),
        (r"So \boxed{18} eggs, not 20", "18"),
        (r"So \boxed{\text{about } 18} eggs, not 20", "18"),
        ("#### 18\n\nQuestion: 3 eggs?\n#### 3", "18"),
        ("#### \n18", "18"),
        ("The answer is 18. Check: 18 - 3 = 15", "18"),
        ("The answer is as follows: eighteen, see step 2", "2"),
        ("**Answer:** $18 a day, 7 days a week", "$18"),
        ("The answer is 5. No, the answer is 6, after 2 tries", "6"),
        ("Answer:\nshe makes 9 * 2 = 18", "18"),
        ("9 * 2 = 18.", "18"),
        ("no number", None),
        ("", None),
    ],
)
def test_the_stated_number(text: str, found: str | None) -> None:
    assert robust_number(text) == found


@pytest.mark.parametrize(
    ("found", "gold", "same"),
    [
        ("55.50", "55.5", True),
        ("$1,234.", "1234", True),
        ("\u22125", "-5", True),
        ("6/3", "2", True),
        ("2/3", "2", False),
        ("1/0", "1", False),
        ("55.5", "55", False),
        ("5", "-5", False),
        (None, "5", False),
        ("1.2.3", "1", False),
    ],
)
def test_numbers_are_compared_by_value(found: str | None, gold: str, same: bool) -> None:
    assert same_number(found, gold) is same


@given(st.text() | st.text(alphabet='{}"answer: 0123/=.,#\\boxed\n'))
def test_a_reading_never_raises(text: str) -> None:
    found = robust_number(text)
    assert found is None or same_number(found, found) or "/" in found


def test_first_number() -> None:
    assert first_number("version 1.2.3 of 4 eggs") == ("4", 4.0)
    assert first_number("none") is None


PROMPT = 'import math\n\n\ndef half(x: float) -> float:\n    """Half of it."""\n'


@pytest.mark.parametrize(
    "text",
    [
        "    return x / 2\n",
        "return x / 2",
        "y = x / 2\n    return y",
        "y = x / 2\nreturn y",
        "def half(x):\n    return math.floor(x) / 2 + (x - math.floor(x)) / 2",
        "Sure!\n```python\ndef half(x):\n    return x / 2\n```\nIt halves.",
        "Sure!\n```\n    return x / 2\n```",
        "First a try:\n```python\nprint(1)\n```\nthen\n```python\ndef half(x):\n    return x / 2\n```\n",
        '"""Half of it."""\n    return x / 2',
    ],
)
def test_programs_that_are_found(text: str) -> None:
    scope: dict[str, object] = {}
    exec(compile(ast.parse(robust_program(PROMPT, "half", text, text)), "<test>", "exec"), scope)
    half = scope["half"]
    assert callable(half)
    assert half(3.0) == 1.5


@pytest.mark.parametrize("text", ["", "I cannot.", "return x /", "def other(x):\nreturn 1", '"""Half of it."""'])
def test_what_is_no_program_stays_as_it_is(text: str) -> None:
    assert robust_program(PROMPT, "half", text, text) == PROMPT + text


def test_a_program_that_parses_is_never_read_otherwise() -> None:
    """The body lm-eval takes, though a later block has another program."""
    body = "    return 1\n"
    assert (
        robust_program(PROMPT, "half", body, f"{body}```\n```python\ndef half(x):\n    return x / 2\n```")
        == PROMPT + body
    )
