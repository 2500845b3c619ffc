"""Intervals of shares whose items share facts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from forgetbench.probing.shares import share, share_of_facts

pytestmark = pytest.mark.unit


def test_one_item_a_fact_is_wilsons() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 7, 40):
        outcomes = (rng.random(n) < 0.3).tolist()
        found = share_of_facts(outcomes, [str(i) for i in range(n)])
        plain = binomtest(sum(outcomes), n).proportion_ci(method="wilson")
        assert (found.interval.low, found.interval.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    assert share_of_facts([], []) == share(0, 0)


@pytest.mark.parametrize("outcomes", [[True] * 10, [False] * 10, [True] * 4 + [False] * 6])
def test_copies_tell_nothing_more(outcomes: list[bool]) -> None:
    """Five copies of each: never narrower than the facts once, where items are counted far narrower."""
    facts = [str(i) for i in range(10)]
    once, copied = share_of_facts(outcomes, facts).interval, share_of_facts(outcomes * 5, facts * 5).interval
    assert copied.low <= once.low + 1e-12
    assert copied.high >= once.high - 1e-12
    assert copied.high - copied.low < 1.6 * (once.high - once.low)
    many = share(5 * sum(outcomes), 50).interval
    assert many.high - many.low < 0.7 * (copied.high - copied.low)


def test_order_and_names_of_facts_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    outcomes, facts = rng.random(60) < 0.4, rng.integers(0, 20, 60)
    order = rng.permutation(60)
    first = share_of_facts(outcomes.tolist(), [f"a{f}" for f in facts])
    second = share_of_facts(outcomes[order].tolist(), [f"b{20 - f}" for f in facts[order]])
    assert first.interval.low == pytest.approx(second.interval.low)
    assert first.interval.high == pytest.approx(second.interval.high)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_coverage_with_items_that_vary_together(p: float) -> None:
    """Forty facts of one to six items that agree for three quarters: Wilson's own interval covers far less."""
    rng = np.random.default_rng(2)
    covered = plain = 0
    for _ in range(1000):
        sizes = rng.integers(1, 7, 40)
        facts = np.repeat(np.arange(40), sizes)
        own = rng.random(facts.size) < p
        outcomes = np.where(rng.random(facts.size) < 0.75, (rng.random(40) < p)[facts], own)
        found = share_of_facts(outcomes.tolist(), [str(f) for f in facts])
        covered += found.interval.low <= p <= found.interval.high
        old = share(found.k, found.n).interval
        plain += old.low <= p <= old.high
    assert covered >= 940
    assert plain < 850
