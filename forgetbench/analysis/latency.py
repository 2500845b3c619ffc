"""Time to the first token and time of each further one, read off a run's own answers. Pure functions.

With a KV cache a prompt is read once and every further token costs about the same, so that the seconds of an
answer of x tokens are close to y = b + k (x - 1): b is the time to the first token, k that of each further one
(Pope et al. 2022, "Efficiently Scaling Transformer Inference", arXiv 2211.05102, prefill and decode). No
engine has to measure anything but when an answer was finished.

Lines are Theil-Sen's: the median of the slopes between all pairs of answers (Theil 1950; Sen 1968, "Estimates
of the regression coefficient based on Kendall's tau"), since a few answers that waited in a queue would drag
least squares along. Slopes are taken between answers of one group (task and view) only: tasks with long
prompts and short answers would bend a line through all of them. `scipy.stats.theilslopes` knows no groups and
gives b no interval; with one group the two agree (tests). b is the median of y - k (x - 1) over all groups.

Intervals: percentile bootstrap over answers, 400 draws. **They hold for the load of this run**: answers that
were computed in one batch share their beginning and wait for each other, which is in b and k themselves and
no interval tells of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.types import Interval, Speed, SpeedChange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

DRAWS = 400
FITTED = 300
"""Answers that a line is drawn through at most: 45,000 pairs, 0.1 s with the draws."""
SHOWN = 120
LEAST = 20
"""Timed answers below which there is no line."""
LEAST_LENGTHS = 3
"""Different lengths below which there is none."""

METHOD = "Theil-Sen, bootstrap over answers"

NO_TIMES = "no answer has a measured time"
FLAT = "the answers' lengths differ too little within a task"
BENT = "the times do not rise with the length in a straight line"


class Timed(NamedTuple):
    """Answers of one side; arrays of shape (n,), in an order that does not depend on the run's."""

    tokens: Ints
    """New tokens, 1 or more."""
    seconds: Floats
    """Until the last of them; above 0."""
    first: Floats
    """Measured seconds until the first; nan where the engine does not measure it."""
    groups: Ints
    """Equal codes: the same task and view."""

    def pick(self, rows: NDArray[np.int64]) -> Timed:
        return Timed(self.tokens[rows], self.seconds[rows], self.first[rows], self.groups[rows])


class Line(NamedTuple):
    first_token: float
    per_token: float


class _Slopes(NamedTuple):
    """Slopes between answers of one group and unlike length, ascending, and between which answers."""

    values: Floats
    left: Ints
    right: Ints


def _slopes(x: Floats, y: Floats, groups: Ints) -> _Slopes:
    left, right = np.triu_indices(x.size, 1)
    usable = (groups[left] == groups[right]) & (x[left] != x[right])
    left, right = left[usable], right[usable]
    values = (y[right] - y[left]) / (x[right] - x[left])
    order = np.argsort(values, kind="stable")
    return _Slopes(values[order], left[order], right[order])


def theil_sen(x: Floats, y: Floats, groups: Ints) -> Line:
    """(value at x = 0, slope). Raises ValueError where no two answers of one group have unlike lengths."""
    slopes = _slopes(x, y, groups)
    if not slopes.values.size:
        raise ValueError("no two answers of one group have unlike lengths")
    k = float(np.median(slopes.values))
    return Line(float(np.median(y - k * x)), k)


def weighted_median(ascending: Floats, weights: Floats) -> float:
    """The median of `ascending` values, each repeated `weights` times; nan where all weights are 0."""
    total = np.cumsum(weights)
    if not total.size or total[-1] <= 0:
        return float("nan")
    half = total[-1] / 2.0
    at = int(np.searchsorted(total, half, side="left"))
    above = int(np.searchsorted(total, half, side="right"))  # another value only where `half` falls between two
    return float(ascending[at] + ascending[min(above, total.size - 1)]) / 2.0


def bootstrap_counts(n: int, draws: int, seed: int) -> Ints:
    """(draws, n): how often each of n answers was taken, n at a time with replacement."""
    counts: Ints = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=draws).astype(np.int64)
    return counts


def line_draws(x: Floats, y: Floats, groups: Ints, counts: Ints) -> Floats:
    """(draws, 2): first_token and per_token of each resample; draws without a usable pair are nan.

    The slopes are sorted once; a draw only weighs them: a pair counts as often as its two answers' product.
    """
    slopes = _slopes(x, y, groups)
    made = np.empty((len(counts), 2))
    for i, taken in enumerate(counts.astype(np.float64)):
        k = weighted_median(slopes.values, taken[slopes.left] * taken[slopes.right])
        rest = y - k * x
        order = np.argsort(rest, kind="stable")
        made[i] = weighted_median(rest[order], taken[order]), k
    return made


def why_no_line(timed: Timed) -> str:
    """Why no line can be drawn through these answers; empty where one can."""
    n = timed.tokens.size
    if n == 0:
        return NO_TIMES
    if n < LEAST:
        return f"{n} timed answers, a line needs {LEAST}"
    lengths = max(np.unique(timed.tokens[timed.groups == g]).size for g in np.unique(timed.groups))
    return FLAT if lengths < LEAST_LENGTHS else ""


def sample(n: int, most: int, seed: int) -> Ints:
    """Positions of at most `most` of n answers, ascending."""
    if n <= most:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False)).astype(np.int64)


def _interval(draws: Floats) -> Interval:
    known = draws[~np.isnan(draws)]
    if not known.size:
        return Interval(float("-inf"), float("inf"), 0.95, METHOD)
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(float(low), float(high), 0.95, METHOD)


class _Fit(NamedTuple):
    speed: Speed | None
    reason: str
    draws: Floats | None


def _fit(timed: Timed, total: int, counts: Ints, seed: int) -> _Fit:
    """The line of the answers in `timed`, which were drawn out of `total`."""
    reason = why_no_line(timed)
    if reason:
        return _Fit(None, reason, None)
    x = timed.tokens.astype(np.float64) - 1.0
    line = theil_sen(x, timed.seconds, timed.groups)
    draws = line_draws(x, timed.seconds, timed.groups, counts)
    if (np.nanquantile(draws, 0.975, axis=0) <= 0.0).any():
        return _Fit(None, BENT, None)  # a time below zero
    draws = np.maximum(draws, 0.0)
    rest = timed.seconds - line.first_token - line.per_token * x
    variance = float(((timed.seconds - timed.seconds.mean()) ** 2).sum())
    measured = timed.first[~np.isnan(timed.first)]
    shown = sample(x.size, SHOWN, seed)
    speed = Speed(
        n=x.size,
        total=total,
        first_token=max(0.0, line.first_token),
        first_token_interval=_interval(draws[:, 0]),
        per_token=max(0.0, line.per_token),
        per_token_interval=_interval(draws[:, 1]),
        r2=1.0 - float((rest**2).sum()) / variance if variance > 0.0 else 0.0,
        spread=float(np.median(np.abs(rest))),
        measured_first_token=float(np.median(measured)) if measured.size else None,
        points=tuple(zip(timed.tokens[shown].tolist(), timed.seconds[shown].tolist(), strict=True)),
    )
    return _Fit(speed, "", draws)


def fit_speed(timed: Timed, *, draws: int = DRAWS, seed: int = 0) -> tuple[Speed | None, str]:
    """(line of one run, "") or (None, why there is none)."""
    fit = _fit_alone(timed, draws, seed)
    return fit.speed, fit.reason


def _fit_alone(timed: Timed, draws: int, seed: int) -> _Fit:
    rows = sample(timed.tokens.size, FITTED, seed)
    counts = bootstrap_counts(rows.size, draws, seed) if rows.size else np.empty((0, 0), dtype=np.int64)
    return _fit(timed.pick(rows), timed.tokens.size, counts, seed)


def compare_speed(
    base: Timed, candidate: Timed, *, paired: bool, not_comparable: str = "", draws: int = DRAWS, seed: int = 0
) -> SpeedChange:
    """Both lines, and their difference unless `not_comparable` says why there must be none.

    paired: row i is the same item on both sides; a draw then takes the same items of both.
    """
    if paired:
        rows = sample(base.tokens.size, FITTED, seed)
        counts = bootstrap_counts(rows.size, draws, seed) if rows.size else np.empty((0, 0), dtype=np.int64)
        fits = [_fit(side.pick(rows), side.tokens.size, counts, seed) for side in (base, candidate)]
    else:
        fits = [_fit_alone(base, draws, seed), _fit_alone(candidate, draws, seed + 1)]
    before, after = fits
    change = SpeedChange(before.speed, after.speed, before.reason, after.reason, not_comparable)
    if not_comparable or before.speed is None or after.speed is None or before.draws is None or after.draws is None:
        return change
    moved = after.draws - before.draws
    return SpeedChange(
        before.speed,
        after.speed,
        "",
        "",
        "",
        first_token=after.speed.first_token - before.speed.first_token,
        first_token_interval=_interval(moved[:, 0]),
        per_token=after.speed.per_token - before.speed.per_token,
        per_token_interval=_interval(moved[:, 1]),
    )
