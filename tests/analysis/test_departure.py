from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from forgetbench.analysis.departure import departure_measures, departures, first_departure
from forgetbench.analysis.token_stats import SharedContext, SideStats
from tests.analysis.null_worlds import contexts

pytestmark = pytest.mark.unit


def side(argmax: list[int], own: list[float], best: list[float]) -> SideStats:
    t = len(argmax)
    return SideStats(np.array(own), np.ones(t), np.ones(t, dtype=np.int64), np.array(argmax), np.array(best))


def context(item: str, candidate: SideStats) -> SharedContext:
    base = side([5, 6, 7, 8], [-0.1] * 4, [-0.1] * 4)
    return SharedContext(item, np.array([5, 6, 7, 8]), base, candidate)


FAITHFUL = context("same", side([5, 6, 7, 8], [-0.3] * 4, [-0.3] * 4))
LEAVES = context("leaves", side([5, 6, 9, 9], [-0.3, -0.3, -2.0, -9.0], [-0.3, -0.3, -0.5, -0.1]))
TIED = context("tied", side([5, 9, 7, 8], [-0.3, -0.7, -0.3, -0.3], [-0.3, -0.7, -0.3, -0.3]))
UNKNOWN = context("unknown", side([9, 6, 7, 8], [-0.3] * 4, [math.nan, -0.3, -0.3, -0.3]))


def test_the_first_token_that_it_would_not_have_said() -> None:
    same, leaves, tied, unknown = departures([FAITHFUL, LEAVES, TIED, UNKNOWN])
    assert (same, tied) == (None, None)
    assert leaves is not None
    assert leaves[:4] == ("leaves", 2, 7, 9)
    assert leaves.gap == pytest.approx(1.5)
    assert unknown is not None
    assert (unknown.position, math.isnan(unknown.gap)) == (0, True)


def test_measures() -> None:
    world = [FAITHFUL, LEAVES, TIED, UNKNOWN]
    left, followed, gap = departure_measures(world, {7: "Tokyo", 9: "Beijing", 5: "The"}.__getitem__)
    assert (left.base, left.candidate) == (0.0, 0.5)
    assert left.examples == (
        "leaves: token 3, 'Beijing' in place of 'Tokyo' by 1.50 nats",
        "unknown: token 1, 'Beijing' in place of 'The'",
    )
    assert (followed.base, followed.candidate) == (1.0, (1 + 0.5 + 1 + 0) / 4)
    assert (gap.base, gap.n, gap.candidate) == (None, 1, pytest.approx(1.5))
    assert gap.delta is None
    assert len(departure_measures([FAITHFUL, TIED])) == 2
    with pytest.raises(ValueError, match="no shared contexts"):
        departure_measures([])


def test_against_a_loop() -> None:
    world = contexts(0)
    for c in world:
        found = first_departure(c, c.candidate)
        expected = next((i for i, t in enumerate(c.token_ids) if c.candidate.argmax[i] != t), None)
        assert (found.position if found else None) == expected
        if found is not None:
            assert found.gap == c.candidate.argmax_logprobs[expected] - c.candidate.logprobs[expected] > 0.0


def test_the_same_model_never_leaves() -> None:
    world = [dataclasses.replace(c, candidate=c.base) for c in contexts(1)]
    for m in departure_measures(world)[:2]:
        assert m.difference == 0.0
        assert m.delta is not None
        assert m.delta.low < 0.0 < m.delta.high
