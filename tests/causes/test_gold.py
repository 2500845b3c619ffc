"""The lenient search for the right answer, and how often it finds one by accident."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.causes.gold import Golds, golds_of, holds, is_searchable, present, short_golds
from forgetbench.tasks.custom import SetSpec, load_set
from forgetbench.types import Item, ItemKey
from tests.causes.planted import write_set

pytestmark = pytest.mark.unit


def item(n: int, gold: str, task_type: str = "a/b", **doc: Any) -> Item:
    return Item(ItemKey("t", f"{n:04x}"), task_type, doc, gold, "g")


@pytest.mark.parametrize(
    ("text", "gold", "wanted"),
    [
        ("It is LIMA, surely.", "Lima", True),
        ("Limassol", "Lima", False),
        ("part of it", "art", False),
        ("{capital: Lima}", "Lima", True),
        ("18 eggs", "18", True),
        ("$1,800.00 in all", "1800", True),
        ("118 eggs", "18", False),
        ("12-5 is 7", "5", True),
        ("是18个", "18", True),
        ("首都是利马。", "利马", True),
        ("new   york\ncity", "New York City", True),
        ("", "Lima", False),
    ],
)
def test_holds(text: str, gold: str, wanted: bool) -> None:
    assert holds(text, gold) is wanted


def test_short_golds() -> None:
    assert short_golds(item(0, "Lima | City of  Lima.")) == ("Lima", "City of Lima")
    assert short_golds(item(0, "x", references=["Lima"])) == ("Lima",)
    assert short_golds(item(0, "x", references="Lima")) == ("Lima",)
    assert short_golds(item(0, "x", references=["L.*"], scorer="regex")) == ()
    assert short_golds(item(0, "def f():\n  return 1")) == ()
    assert short_golds(item(0, "one two three four five six seven eight nine")) == ()


def test_a_text_that_names_every_answer_names_the_right_one_by_accident() -> None:
    items = [item(n, f"Town{n}") for n in range(50)]
    everything = " ".join(i.gold for i in items)
    golds = golds_of(items[0], items, 0)
    assert len(golds.others) == 49
    assert present([everything] * 5, golds).p_value == 1.0
    assert present(["so Town0 it is"] * 5, golds) == (5, 5, 1 / 50)
    assert present(["Town1"], golds) == (0, 1, 1.0)


def test_too_few_other_golds_show_nothing() -> None:
    items = [item(n, "yes" if n % 2 else "no") for n in range(60)]
    assert present(["yes!"] * 9, golds_of(items[1], items, 0)).p_value == 1.0


def test_other_golds_are_of_the_same_type_where_it_has_enough() -> None:
    items = [item(n, f"A{n}", "a/a") for n in range(30)] + [item(n, f"B{n}", "b/b") for n in range(30, 40)]
    assert all(g.startswith("A") for own in golds_of(items[0], items, 0).others for g in own)
    assert len(golds_of(items[35], items, 0).others) == 39


def test_accidents_stay_below_alpha() -> None:
    """Outputs that have nothing to do with the item's own gold: p <= .05 for at most one in 20 of them."""
    rng = random.Random(0)
    names = [f"Town{n}" for n in range(60)]
    alarms = 0
    for _ in range(1000):
        weights = [1.0 / (n + 1) for n in range(60)]
        texts = [" ".join(rng.choices(names, weights, k=6)) for _ in range(5)]
        own = rng.choice(names)
        golds = Golds((own,), tuple((n,) for n in names if n != own))
        alarms += present(texts, golds).p_value <= 0.05
    assert alarms <= 65  # 50 expected at most; three standard deviations are 21


@given(st.text(max_size=40), st.text(alphabet="abcXYZ019 ", min_size=1, max_size=8), st.text(max_size=40))
def test_an_answer_between_blanks_is_always_found(before: str, gold: str, after: str) -> None:
    if gold.strip():
        assert holds(f"{before} {gold} {after}", gold)


def test_only_tasks_that_take_the_bare_gold_are_searched(tmp_path: Path) -> None:
    plain = load_set(write_set(tmp_path, 3))
    assert is_searchable(plain, plain.load()[0], "correct")
    strict = load_set(SetSpec("facts", tmp_path / "facts.jsonl", extract=r"Answer: (\S+)"))
    assert not is_searchable(strict, strict.load()[0], "correct")
