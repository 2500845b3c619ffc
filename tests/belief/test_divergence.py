from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from forgetbench.analysis.paired import ScoreEstimator, interval
from forgetbench.belief.agreement import alias_match
from forgetbench.belief.classify import belief_of, modal_answer
from forgetbench.belief.divergence import Held, kind_of, kinds_of, paired_rate, rates_by_class, rates_of
from forgetbench.belief.types import HELD, Answer, Belief, Options
from forgetbench.types import Item, ItemKey

pytestmark = pytest.mark.unit

TOWNS = ("Ash", "Birch", "Cedar", "Elm")


def item(n: int = 0, cluster: str | None = None) -> Item:
    return Item(ItemKey("t", f"h{n}"), "knowledge/x", {}, "Ash", "g", cluster=cluster)


def answer(town: str | None) -> Answer:
    return Answer(town, town == "Ash")


def held(n: int, believes: str, base: str | None, candidate: str | None, strength: float = 1.0) -> Held:
    said = [None if t is None else answer(t) for t in (base, candidate)]
    belief = Belief(answer(believes), strength, 40, "firm" if strength >= 0.9 else "mostly", "Unknown")
    return Held(item(n), belief, said[0], said[1])


@pytest.mark.parametrize(
    ("believes", "says", "kind"),
    [
        ("Ash", "Ash", None),
        ("Birch", "Birch", None),
        ("Ash", "Birch", "lost-correct"),
        ("Birch", "Ash", "corrected"),
        ("Birch", "Cedar", "other"),
        ("Birch", None, None),
    ],
)
def test_a_true_answer_against_a_false_belief_is_a_divergence(
    believes: str, says: str | None, kind: str | None
) -> None:
    assert kind_of(answer(believes), answer(says), item(), alias_match) == kind


PAIRS = st.lists(st.tuples(*[st.sampled_from(TOWNS)] * 2, st.sampled_from([*TOWNS, None])), min_size=2, max_size=25)


@given(PAIRS)
def test_rates_are_those_of_a_direct_count(rows: list[tuple[str, str, str | None]]) -> None:
    cases = [held(n, *row) for n, row in enumerate(rows)]
    base, candidate = kinds_of(cases, alias_match)
    rates = rates_of(cases, base, candidate, np.arange(len(cases)))
    gross = sum(c is not None and c != b for b, _, c in rows)
    floor = sum(f != b for b, f, _ in rows)
    assert (rates.gross.count, rates.floor.count) == (gross, floor)
    assert rates.net.value == pytest.approx((gross - floor) / len(rows))
    assert rates.net.interval.low <= rates.net.value <= rates.net.interval.high
    assert sum(p.candidate for p in rates.parts) == gross
    assert sum(p.base for p in rates.parts) == floor
    assert sum(p.net.value for p in rates.parts) == pytest.approx(rates.net.value)
    assert rates.candidate_silent == sum(c is None for _, _, c in rows)


@given(PAIRS)
def test_swapping_the_sides_turns_the_sign(rows: list[tuple[str, str, str | None]]) -> None:
    spoken = [(b, f, c or f) for b, f, c in rows]
    there = [held(n, b, f, c) for n, (b, f, c) in enumerate(spoken)]
    back = [held(n, b, c, f) for n, (b, f, c) in enumerate(spoken)]
    labels = np.arange(len(rows))
    one, other = (rates_of(h, *kinds_of(h, alias_match), labels).net for h in (there, back))
    assert one.value == pytest.approx(-other.value)
    assert one.interval.low == pytest.approx(-other.interval.high, abs=1e-9)


def test_intervals_are_tangos_for_independent_items_and_wider_for_items_that_share_a_fact() -> None:
    rng = np.random.default_rng(0)
    base, candidate = rng.random(60) < 0.1, rng.random(60) < 0.4
    found = paired_rate(base, candidate, np.arange(60))
    gained, lost = int((candidate & ~base).sum()), int((base & ~candidate).sum())
    assert found.interval == interval(ScoreEstimator(gained, lost, 60))
    alone = paired_rate(np.zeros(30, bool), np.arange(30) < 12, np.arange(30)).interval
    doubled = np.repeat(np.arange(30), 2)
    twice = paired_rate(np.zeros(60, bool), np.repeat(np.arange(30) < 12, 2), doubled).interval
    naive = paired_rate(np.zeros(60, bool), np.repeat(np.arange(30) < 12, 2), np.arange(60)).interval
    assert twice.high - twice.low > 1.2 * (naive.high - naive.low)
    assert twice.high - twice.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_by_class_takes_the_items_of_each_class() -> None:
    cases = [held(0, "Ash", "Ash", "Birch"), held(1, "Ash", "Ash", "Ash"), held(2, "Ash", "Ash", "Birch", 0.8)]
    found = rates_by_class(cases, *kinds_of(cases, alias_match), np.arange(3))
    assert {name: (rate.value, rate.n) for name, rate in found.items()} == {"firm": (0.5, 2), "mostly": (1.0, 1)}


def drawn(rng: np.random.Generator, p: NDArray[np.float64], k: int) -> list[Answer]:
    return [answer(TOWNS[i]) for i in rng.choice(len(TOWNS), size=k, p=p)]


def test_without_a_floor_an_unchanged_model_diverges_and_net_of_it_it_does_not() -> None:
    """40 worlds of 200 items of every steadiness, both sides the same model."""
    rng, options = np.random.default_rng(7), Options()
    gross, nets, covered = [], [], 0
    for _ in range(40):
        cases = []
        for n in range(200):
            first = rng.beta(2, 1)
            p = np.array([first, *[(1 - first) / 3] * 3])
            belief = belief_of([], drawn(rng, p, 40), item(n), alias_match, options)
            if belief.held in HELD:
                fresh = [modal_answer(drawn(rng, p, 5), item(n), alias_match)[0] for _ in range(2)]
                cases.append(Held(item(n), belief, *fresh))
        rates = rates_of(cases, *kinds_of(cases, alias_match), np.arange(len(cases)))
        gross.append(rates.gross.value)
        nets.append(rates.net.value)
        covered += rates.net.interval.low <= 0.0 <= rates.net.interval.high
    assert np.mean(gross) > 0.02
    assert stats.ttest_1samp(nets, 0.0).pvalue > 0.01
    assert covered >= 36
