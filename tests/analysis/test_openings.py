from __future__ import annotations

import math

import numpy as np
import pytest

from forgetbench.analysis.openings import (
    answer_length,
    habit_measures,
    loop_rate,
    opening_concentration,
    refusal_rate,
    stop_rate,
)
from forgetbench.analysis.outputs import Answered, Output

pytestmark = pytest.mark.unit


def said(text: str, finish: str | None = "stop") -> Output:
    return Output(text, tuple(map(ord, text)), finish)  # type: ignore[arg-type]


def world(base: list[str], candidate: list[str]) -> list[Answered]:
    return [Answered(f"item{i}", (said(b),), (said(s),)) for i, (b, s) in enumerate(zip(base, candidate, strict=True))]


def test_every_answer_starts_the_same_way() -> None:
    base = [f"{i:04} is the answer" for i in range(28)] + ["Sure"] * 2
    found = opening_concentration(world(base, [f"Sure, here is {i}" for i in range(24)] + base[:6]))
    assert (found.base, found.candidate) == (pytest.approx(2 / 30), pytest.approx(0.8))
    assert found.name == "opening_concentration_4"
    assert found.reading == "answers start with the same 4 tokens in 80.0 % of cases, base 6.7 %"
    assert found.examples[0] == "'Sure, here is': 80.0 %, base 6.7 %"
    assert found.proven


def test_openings_against_a_count() -> None:
    rng = np.random.default_rng(0)
    base, candidate = (["".join(rng.choice(list("ab"), rng.integers(1, 6))) for _ in range(60)] for _ in range(2))
    for tokens in (1, 2, 4):
        found = opening_concentration(world(base, candidate), tokens)
        for value, texts in ((found.base, base), (found.candidate, candidate)):
            starts = [t[:tokens] for t in texts]
            assert value == pytest.approx(max(starts.count(s) for s in starts) / 60)


def test_samples_are_averaged_by_item() -> None:
    items = [
        Answered("a", (said("abcd"),), (said("abcd"), said("zzzz"))),
        Answered("b", (said("abcd"), said("abce"), said("abcf"), said("abcg")), (said("abcd"),)),
    ]
    found = opening_concentration(items)
    assert (found.base, found.candidate) == (pytest.approx((1 + 1 / 4) / 2), pytest.approx(0.75))
    assert answer_length(items).difference == 0.0


def test_lengths_are_tokens() -> None:
    found = answer_length(world(["ab"] * 30, ["abcd"] * 15 + ["ab"] * 15))
    assert (found.base, found.candidate, found.unit) == (2.0, 3.0, "tokens")
    assert found.proven
    assert "base 2 / 2 / 2, candidate 2 / 3 / 4" in found.note


def test_stop_rate_counts_what_is_known() -> None:
    items = [Answered(str(i), (said("a"),), (said("a", "length" if i < 10 else "stop"),)) for i in range(40)]
    unknown = [Answered("x", (said("a", None),), (said("a"),))]
    found = stop_rate(items + unknown)
    assert found is not None
    assert (found.base, found.candidate, found.n) == (1.0, 0.75, 40)
    assert found.proven
    assert stop_rate(unknown) is None
    assert [m.name for m in habit_measures(unknown)] == [
        "opening_concentration_4",
        "answer_length",
        "loop_rate",
        "refusal_rate",
    ]


def test_loops_and_refusals_are_looked_for_unless_told() -> None:
    refusal, loop = "I'm sorry, but I can't help with that.", "It is. " * 60
    items = world(["Paris"] * 20, [refusal] * 5 + [loop] * 5 + ["Paris"] * 10)
    refused, looped = refusal_rate(items), loop_rate(items)
    assert refused is not None
    assert looped is not None
    assert (refused.candidate, looped.candidate) == (0.25, 0.25)
    assert refused.examples == ("item0", "item1", "item2")
    assert looped.examples == ("item5", "item6", "item7")
    told = [Answered("a", (Output("x", (1,), looped=True, refused=True),), (said(loop),))]
    found = loop_rate(told)
    assert found is not None
    assert (found.base, found.candidate, found.delta) == (1.0, 1.0, None)


def test_no_item_changes_and_yet_the_interval_has_a_width() -> None:
    found = refusal_rate(world(["yes"] * 100, ["no"] * 100))
    assert found is not None
    assert found.delta is not None
    assert found.delta.high == pytest.approx(1.96**2 / (100 + 1.96**2), rel=0.05)
    assert math.isclose(found.delta.low, -found.delta.high)
