"""First-token and per-token times: recovered from made answers, honest about their error, silent where they cannot
be known.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import theilslopes

from forgetbench.analysis import latency
from forgetbench.analysis.latency import Timed, compare_speed, fit_speed, line_draws, theil_sen, weighted_median
from forgetbench.analysis.types import Interval

pytestmark = pytest.mark.unit

B, K = 0.12, 0.008


def made(
    n: int, seed: int = 0, *, b: float = B, k: float = K, noise: float = 0.01, waits: float = 0.1, groups: int = 1
) -> Timed:
    """Answers of 1 to 200 tokens; a share of them waited in a queue for half a second on average."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 201, n)
    late = np.where(rng.random(n) < waits, rng.exponential(0.5, n), 0.0)
    seconds = b + k * (tokens - 1) + rng.normal(0.0, noise, n) + late
    return Timed(tokens, np.maximum(seconds, 1e-3), np.full(n, np.nan), np.arange(n) % groups)


def x_of(timed: Timed) -> NDArray[np.float64]:
    return timed.tokens - 1.0


def holds(interval: Interval | None, value: float) -> bool:
    assert interval is not None
    return interval.low <= value <= interval.high


def test_with_one_group_it_is_scipys_line() -> None:
    for seed in range(5):
        timed = made(60 + seed, seed)
        oracle = theilslopes(timed.seconds, x_of(timed), method="joint")
        line = theil_sen(x_of(timed), timed.seconds, timed.groups)
        assert line.per_token == pytest.approx(oracle.slope, rel=1e-12)
        assert line.first_token == pytest.approx(oracle.intercept, rel=1e-12)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=30))
def test_weighted_median_is_the_median_of_the_repeated_values(rows: list[tuple[float, int]]) -> None:
    rows.sort()
    values, weights = np.asarray([r[0] for r in rows]), np.asarray([float(r[1]) for r in rows])
    found = weighted_median(values, weights)
    if weights.sum() == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(float(np.median(np.repeat(values, weights.astype(int)))), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_a_draw_is_the_line_of_the_resample(seed: int, groups: int) -> None:
    timed = made(25, seed, groups=groups)
    counts = latency.bootstrap_counts(25, 3, seed)
    draws = line_draws(x_of(timed), timed.seconds, timed.groups, counts)
    for taken, draw in zip(counts, draws, strict=True):
        again = timed.pick(np.repeat(np.arange(25), taken))
        line = theil_sen(x_of(again), again.seconds, again.groups)
        assert draw == pytest.approx([line.first_token, line.per_token], rel=1e-9)


def test_known_times_are_recovered_though_some_answers_waited() -> None:
    timed = made(2_000, waits=0.15)
    speed, reason = fit_speed(timed)
    assert speed is not None
    assert reason == ""
    assert holds(speed.first_token_interval, speed.first_token)
    assert abs(speed.per_token / K - 1) < 0.02
    assert abs(speed.first_token - B) < 0.01
    assert speed.per_token_interval.high - speed.per_token_interval.low < 0.05 * K
    assert speed.spread < 0.02
    assert 0.2 < speed.r2 < 1.0
    squares = np.polyfit(x_of(timed), timed.seconds, 1)
    assert abs(squares[1] - B) > 3 * abs(speed.first_token - B)  # what least squares would have said


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    hits = np.zeros(2)
    runs = 120
    for seed in range(runs):
        speed, _ = fit_speed(made(60, seed, waits=0.0), draws=200, seed=seed)
        assert speed is not None
        hits += (holds(speed.first_token_interval, B), holds(speed.per_token_interval, K))
    assert (hits >= 0.88 * runs).all()  # 95 % less 3 standard errors
    assert (hits < runs).any()  # and they are not as wide as the sea


def test_tasks_with_long_prompts_do_not_bend_the_line() -> None:
    """Short answers to long prompts beside long answers to short ones: pooled, time would fall with length."""
    rng = np.random.default_rng(3)
    short, long = rng.integers(1, 20, 100), rng.integers(60, 80, 100)
    tokens = np.concatenate([short, long])
    seconds = np.concatenate([0.9 + K * (short - 1), 0.1 + K * (long - 1)]) + rng.normal(0, 0.001, 200)
    groups = np.repeat([0, 1], 100)
    assert theilslopes(seconds, tokens).slope < 0
    assert theil_sen(tokens - 1.0, seconds, groups).per_token == pytest.approx(K, rel=0.02)


def test_many_answers_are_sampled_and_said_so() -> None:
    speed, _ = fit_speed(made(5_000))
    assert speed is not None
    assert (speed.n, speed.total) == (latency.FITTED, 5_000)
    assert len(speed.points) == latency.SHOWN
    assert speed.measured_first_token is None
    assert fit_speed(made(5_000)) == fit_speed(made(5_000))


def test_a_measured_first_token_is_shown_beside_the_fitted_one() -> None:
    timed = made(100)
    some = np.where(np.arange(100) < 51, 0.2, np.nan)
    speed, _ = fit_speed(timed._replace(first=some))
    assert speed is not None
    assert speed.measured_first_token == 0.2
    assert abs(speed.first_token - B) < 0.02


def of_length(tokens: list[int]) -> Timed:
    n = len(tokens)
    seconds = B + K * np.asarray(tokens, dtype=float) + np.arange(n) * 1e-5
    return Timed(np.asarray(tokens), seconds, np.full(n, np.nan), np.zeros(n, dtype=int))


@pytest.mark.parametrize(
    ("timed", "reason"),
    [
        (made(0), "no answer has a measured time"),
        (made(19), "19 timed answers, a line needs 20"),
        (of_length([5] * 50), "the answers' lengths differ too little within a task"),
        (of_length([5, 6] * 25), "the answers' lengths differ too little within a task"),
        (
            of_length([5, 6, 7] * 10)._replace(groups=np.asarray([0, 1, 2] * 10)),
            "the answers' lengths differ too little within a task",
        ),
        (made(200, k=-0.0005, waits=0.0), "the times do not rise with the length in a straight line"),
    ],
)
def test_where_there_is_no_line_the_reason_is_told(timed: Timed, reason: str) -> None:
    assert fit_speed(timed) == (None, reason)


def test_a_time_is_never_negative() -> None:
    """A first token that takes almost nothing: noise puts half of the lines below zero, none of the figures."""
    found = [fit_speed(made(60, seed, b=0.0, noise=0.02, waits=0.0))[0] for seed in range(12)]
    speeds = [s for s in found if s is not None]
    assert len(speeds) >= 9
    assert min(s.first_token_interval.low for s in speeds) == 0.0
    assert min(s.first_token for s in speeds) == 0.0


def test_a_difference_is_found_and_none_is_not() -> None:
    before, after = made(400, 1, groups=2), made(400, 2, k=K * 1.1, groups=2)
    change = compare_speed(before, after, paired=False)
    assert change.per_token == pytest.approx(0.1 * K, rel=0.2)
    assert holds(change.per_token_interval, 0.1 * K)
    assert not holds(change.per_token_interval, 0.0)
    assert holds(change.first_token_interval, 0.0)
    same = compare_speed(before, before, paired=True)
    assert (same.per_token, same.first_token) == (0.0, 0.0)
    assert same.per_token_interval is not None
    assert (same.per_token_interval.low, same.per_token_interval.high) == (0.0, 0.0)  # a draw takes the same items
    apart = compare_speed(before, before, paired=False)
    assert apart.per_token_interval is not None
    assert apart.per_token_interval.low < 0 < apart.per_token_interval.high


def test_unlike_engines_and_a_missing_side_have_no_difference() -> None:
    apart = compare_speed(made(100), made(100, 1), paired=True, not_comparable="the engines differ")
    assert apart.base is not None
    assert apart.candidate is not None
    assert (apart.first_token, apart.per_token, apart.per_token_interval) == (None, None, None)
    assert apart.not_comparable == "the engines differ"
    alone = compare_speed(made(100), made(0), paired=False)
    assert alone.base is not None
    assert (alone.candidate, alone.candidate_reason) == (None, latency.NO_TIMES)
    assert alone.per_token is None
