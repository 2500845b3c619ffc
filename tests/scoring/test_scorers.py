from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.scoring.scorers import Normalise, Reference, judge

pytestmark = pytest.mark.unit
PLAIN = Normalise()


@pytest.mark.parametrize(
    ("scorer", "text", "references", "correct", "extracted"),
    [
        ("exact", " Lima.\n", ("Lima",), True, "Lima"),
        ("exact", "Lima  city", ("Quito", "Lima city"), True, "Lima city"),
        ("exact", "lima", ("Lima",), False, "lima"),
        ("exact", "  ", ("Lima",), False, None),
        ("exact", "利马。", ("利马",), True, "利马"),
        ("contains", "It is Lima, I think", ("Lima",), True, "Lima"),
        ("contains", "15", ("5",), False, "15"),
        ("contains", "a part of it", ("art",), False, "a part of it"),
        ("contains", "答案是42。", ("42",), True, "42"),
        ("contains", "f(x) = x+1", ("x+1",), True, "x+1"),
        ("contains", "", ("5",), False, None),
        ("regex", "order 66", (r"\d{3}", r"\d{2}"), True, "66"),
        ("regex", "none", (r"\d",), False, "none"),
        ("regex", "\n", (r"\d",), False, None),
        ("numeric", "so it is 1,234.50", ("1234.5",), True, "1,234.50"),
        ("numeric", "first 7, then 8", ("7",), False, "8"),
        ("numeric", "eight", ("8",), False, None),
    ],
)
def test_scorers(scorer: str, text: str, references: tuple[str, ...], correct: bool, extracted: str | None) -> None:
    match = judge(text, scorer, Reference(references), PLAIN)
    assert (match.correct, match.extracted) == (correct, extracted)
    assert match.why.endswith(".")


@pytest.mark.parametrize(
    ("flags", "text", "reference", "equal"),
    [
        (Normalise(), "LIMA", "Lima", False),
        (Normalise(ignore_case=True), "STRASSE", "straße", True),
        (Normalise(), "Lima!", "Lima", False),
        (Normalise(ignore_punctuation=True), "«Lima», “yes”!", "«Lima» yes", True),
        (Normalise(), "a\n b", "a b", True),
        (Normalise(collapse_whitespace=False), "a\n b", "a b", False),
        (Normalise(final_period=False), "Lima.", "Lima", False),
        (Normalise(), "Lima..", "Lima", False),
        (Normalise(first_line=True), "\nLima\nQ: next?", "Lima", True),
        (Normalise(), "Lima\nQ: next?", "Lima", False),
    ],
)
def test_each_flag_changes_one_thing(flags: Normalise, text: str, reference: str, equal: bool) -> None:
    assert judge(text, "exact", Reference((reference,)), flags).correct is equal


def test_numeric_tolerance_is_relative_above_one_and_absolute_below() -> None:
    assert judge("101", "numeric", Reference(("100",), 0.01), PLAIN).correct
    assert not judge("101.1", "numeric", Reference(("100",), 0.01), PLAIN).correct
    assert judge("0.009", "numeric", Reference(("0",), 0.01), PLAIN).correct
    assert not judge("18.1", "numeric", Reference(("18",)), PLAIN).correct


def test_extract_narrows_what_is_scored() -> None:
    text = "Peru? Not Quito. Answer: Lima"
    assert judge(text, "exact", Reference(("Lima",)), PLAIN, r"Answer: (\w+)").correct
    missed = judge(text, "exact", Reference(("Lima",)), PLAIN, r"Final: (\w+)")
    assert (missed.correct, missed.extracted) == (False, None)


@given(st.text(min_size=1).filter(lambda t: PLAIN(t) != ""))
def test_a_reference_always_equals_and_contains_itself(text: str) -> None:
    assert judge(text, "exact", Reference((text,)), PLAIN).correct
    assert judge(text, "contains", Reference((text,)), PLAIN).correct
