"""What a stratified sample says about the whole set.

With W_h = N_h / N the share of stratum h in the set, n_h its sampled items and d = candidate - base per item:

    mean  = sum_h W_h * mean_h(d)
    var   = sum_h W_h^2 * (1 - n_h / N_h) * s_h^2 / n_h

Source: Cochran (1977), "Sampling Techniques", 3rd ed., theorems 5.1 and 5.3 and formula 5.9; s_h^2 is the
stratum's sample variance. (1 - n_h / N_h) is the finite population correction: the interval is about the score
that *this* set would show if all its items were run, so it shrinks to nothing as the sample becomes the set.
A change's own interval (`Change.interval`), and the gate, ask about questions like these and carry no such
correction.

Flips are rare, so many strata show none, and a normal interval from var would be too narrow or empty. The
interval is therefore Tango's score interval (`tango.py`) at the effective sample size

    n_eff = n / max(1 - f, var / v_srs),   v_srs = (mean(d^2) - mean^2) / n

with f the sampled share: the design is credited with what the correction gives and no more, since in strata
without a flip var says nothing. Its quantile is Student's with the degrees of
freedom of Satterthwaite (Cochran, 5.4). Coverage: tests/analysis/test_subset.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.significance import normal_quantile
from forgetbench.analysis.tango import Table, score_bound
from forgetbench.analysis.types import FullSetChange, Interval, PairedScores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

METHOD = "stratified sample, Tango score at the effective size"
_FEWEST = 8.0
"""Degrees of freedom are never taken to be fewer: with one or two strata that vary, Satterthwaite's estimate
is itself noise."""


@dataclass(frozen=True, slots=True)
class Design:
    """How a task was sampled."""

    stratum_of: Mapping[str, str]
    """An item's stratum, else its task_type -> the stratum that it was drawn in."""
    sizes: Mapping[str, int]
    """Stratum -> its items in the whole set."""


class Estimate(NamedTuple):
    """An estimate of a mean over the whole set."""

    mean: float
    se: float
    df: float
    n_strata: int
    """Strata after those with a single observation were put together."""


def stratified_mean(values: Floats, strata: NDArray[np.object_], sizes: Mapping[str, int]) -> Estimate:
    """The stratified estimate of a mean, its standard error and degrees of freedom.

    values (n,), any range; strata (n,), names that `sizes` has the population sizes of. A stratum of the set
    without any observation (all infra errors) is put to the others in proportion, one with a single
    observation to the next smallest (collapsed strata). Raises ValueError for no values.
    """
    if not len(values):
        raise ValueError("no values")
    groups = _collapsed(strata, sizes)
    total = float(sum(size for _, size in groups))
    mean, variance, spread = 0.0, 0.0, 0.0
    for mask, size in groups:
        own = values[mask]
        n, weight = own.size, size / total
        mean += weight * float(own.mean())
        if n > 1:
            part = weight**2 * max(0.0, 1.0 - n / size) * float(own.var(ddof=1)) / n
            variance += part
            spread += part**2 / (n - 1)
    df = variance**2 / spread if spread else float(len(values) - len(groups))
    return Estimate(mean, float(np.sqrt(variance)), max(df, _FEWEST), len(groups))


def _collapsed(strata: NDArray[np.object_], sizes: Mapping[str, int]) -> list[tuple[NDArray[np.bool_], int]]:
    """(mask, population size) of each stratum with two observations or more."""
    present = sorted({str(s) for s in strata}, key=lambda s: (sizes[s], s))
    groups = [(np.asarray(strata == name, dtype=np.bool_), sizes[name]) for name in present]
    while len(groups) > 1:
        alone = next((i for i, (mask, _) in enumerate(groups) if mask.sum() < 2), None)
        if alone is None:
            break
        mask, size = groups.pop(alone)
        other = min(alone, len(groups) - 1)
        groups[other] = (groups[other][0] | mask, groups[other][1] + size)
    return groups


def full_set_change(scores: PairedScores, design: Design, *, level: float = 0.95) -> FullSetChange | None:
    """The change over the whole set of a sampled task; None where no pair has a score on both sides."""
    mask = ~(np.isnan(scores.base) | np.isnan(scores.candidate))
    if not mask.any():
        return None
    part = scores.pick(mask)
    labels = [s if isinstance(s, str) else t for s, t in zip(part.strata, part.task_types, strict=True)]
    strata = np.asarray([design.stratum_of.get(str(x), "") for x in labels], dtype=object)
    d = part.candidate - part.base
    fit = stratified_mean(d, strata, design.sizes)
    total = sum(design.sizes.values())
    return FullSetChange(
        task=part.task,
        view=part.view,
        metric=part.metric,
        decode_id=part.decode_id,
        n=int(mask.sum()),
        total=total,
        n_strata=fit.n_strata,
        base=stratified_mean(part.base, strata, design.sizes).mean,
        candidate=stratified_mean(part.candidate, strata, design.sizes).mean,
        delta=fit.mean,
        se=fit.se,
        interval=_interval(d, fit, total, level),
    )


def _interval(d: Floats, fit: Estimate, total: int, level: float) -> Interval:
    """See the module's docstring. Scores are taken to lie in [0, 1], or are scaled to the largest change."""
    n = d.size
    scale = max(1.0, float(np.abs(d).max()))
    mean, left = fit.mean / scale, max(0.0, 1.0 - n / total)
    if left == 0.0:
        return Interval(fit.mean, fit.mean, level, METHOD)  # every item was run: nothing is left to estimate
    discordance = max(float(((d / scale) ** 2).mean()), abs(mean))
    simple = max(discordance - mean**2, 0.0) / n
    effect = max(left, (fit.se / scale) ** 2 / simple) if simple else left
    effective = n / effect
    table = Table((discordance + mean) / 2.0 * effective, (discordance - mean) / 2.0 * effective, effective)
    z = _quantile(1.0 - (1.0 - level) / 2.0, fit.df)
    return Interval(score_bound(table, z) * scale, score_bound(table, -z) * scale, level, METHOD)


def _quantile(share: float, df: float) -> float:
    """Student's quantile, which is the normal one for many degrees of freedom."""
    if df > 1e6:
        return normal_quantile(share)
    from scipy.special import stdtrit

    return float(stdtrit(df, share))
