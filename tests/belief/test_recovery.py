from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from forgetbench.belief.recovery import as_dict, newcombe, reading_of, recovery_of, sentences_of, wilson
from forgetbench.belief.types import MODES, Mode

pytestmark = pytest.mark.unit

FOUND = st.lists(st.frozensets(st.sampled_from(MODES)), min_size=1, max_size=20)


@given(st.integers(1, 200), st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n, stats.norm.ppf(0.975)) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_newcombe_gives_the_published_interval() -> None:
    """Newcombe (1998), table II, case (a): 56/70 against 48/80, method 10."""
    found = newcombe(56 / 70, 70, 48 / 80, 80)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(FOUND, FOUND)
def test_the_excess_is_that_of_a_direct_count(diverged: list[frozenset[Mode]], controls: list[frozenset[Mode]]) -> None:
    found = recovery_of(diverged, controls, MODES)
    for one in found.modes:
        rates = [sum(one.mode in f for f in side) / len(side) for side in (diverged, controls)]
        assert one.excess == pytest.approx(rates[0] - rates[1])
        assert one.excess is not None
        assert one.interval is not None
        assert one.interval.low <= one.excess <= one.interval.high
    any_rates = [sum(map(bool, side)) / len(side) for side in (diverged, controls)]
    assert found.any.excess == pytest.approx(any_rates[0] - any_rates[1])


def test_luck_alone_is_no_recovery() -> None:
    """Of an answer given half of the time three tries find 88 %: with controls of the same luck nothing is left."""
    rng = np.random.default_rng(3)
    sides = [[frozenset(m for m in MODES if rng.random() < 0.5) for _ in range(400)] for _ in range(2)]
    found = recovery_of(sides[0], sides[1], MODES)
    assert found.any.diverged / found.any.n_diverged == pytest.approx(0.875, abs=0.04)
    assert found.any.interval is not None
    assert found.any.interval.low <= 0.0 <= found.any.interval.high


def test_without_controls_nothing_counts_as_recovered() -> None:
    found = recovery_of([frozenset(MODES)], [], MODES[:2])
    assert (found.any.excess, found.any.interval) == (None, None)
    assert [m.mode for m in found.modes] == list(MODES[:2])
    with pytest.raises(ValueError, match="nothing to recover"):
        recovery_of([], [], MODES)


def test_what_came_back_is_told_by_way_with_controls_beside() -> None:
    ranked, none = frozenset[Mode](["ranking"]), frozenset[Mode]()
    found = recovery_of([ranked] * 3 + [none], [ranked] + [none] * 3, MODES)
    told = reading_of(found)
    whole = "Asked otherwise, 3 of 4 diverged answers came back, of the controls 1 of 4: 50.0 points in excess ("
    assert told.startswith(whole)
    assert "By continuation 0 of 4, of the controls 0 of 4: net 0.0 points" in told
    assert "By ranking 3 of 4, of the controls 1 of 4: net 50.0 points" in told
    made = as_dict(found)
    assert [w["mode"] for w in made["ways"]] == list(MODES)
    assert (made["ways"][2]["diverged"], made["ways"][2]["excess"], made["any"]["excess"]) == (3, 0.5, 0.5)
    assert json.loads(json.dumps(made)) == made
    assert "without any control" in reading_of(recovery_of([ranked], [], MODES))


def test_the_sentence_of_all_ways_counts_and_gives_its_interval() -> None:
    """2 of 5 did not come back, whatever the controls do: no share of the diverged is `not recovered`."""
    back, none = frozenset[Mode](["few-shot"]), frozenset[Mode]()
    told = sentences_of(recovery_of([back] * 3 + [none] * 2, [back] * 2 + [none] * 3, ("few-shot",)))[0]
    assert told == (
        "Asked otherwise, 3 of 5 diverged answers came back, of the controls 2 of 5: "
        "20.0 points in excess (-32.2 to 59.9)."
    )
    alone = recovery_of([back] * 18 + [none] * 2, [], ("few-shot",))
    assert reading_of(alone) == (
        "Asked otherwise, 18 of 20 diverged answers came back; without controls nothing says how many by luck. "
        "By few-shot 18 of 20, without any control."
    )
    assert "recovered" not in reading_of(alone)
    assert as_dict(alone).keys() == {"any", "ways"}


def test_items_that_share_a_fact_count_once_in_the_interval() -> None:
    sides = [frozenset(MODES)] * 10 + [frozenset[Mode]()] * 10, [frozenset[Mode]()] * 20
    alone, shared = (recovery_of(*sides, MODES, groups=g).any.interval for g in (None, (5, 5)))
    assert alone is not None
    assert shared is not None
    assert shared.high - shared.low > alone.high - alone.low
