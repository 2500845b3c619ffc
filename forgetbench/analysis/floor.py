"""The noise floor: a checkpoint against itself, with other seeds and other batch shapes.

Even at temperature 0 answers differ between runs, since batches of another shape add floating-point numbers in another
order (notes on metrics, section 2). The floor's mean change is zero, so it is held against flip *rates* and distances,
never against the change itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forgetbench.analysis.compare import scored
from forgetbench.analysis.types import Comparison, Interval, Pair, PairedScores


@dataclass(frozen=True, slots=True)
class Floor:
    """One task under one view and decoding, by the metric that it is decided on."""

    task: str
    view: str
    metric: str
    decode_id: str
    n: int
    flips: float
    """Share of items whose score differs; of K samples: P(a single sample of each side differs)."""
    interval: Interval
    distance: float
    """Mean absolute difference of the items' scores."""
    texts: float
    """Share of items whose answer is another text."""
    logprob: float | None
    """Mean absolute difference of the answers' mean log-probability per token (nats); None: none is known."""


def floors(comparison: Comparison) -> list[Floor]:
    """What moves between two runs, task by task: of one checkpoint its floor, of two what is held against it."""
    pairs: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in comparison.pairs:
        pairs.setdefault((pair.task, pair.view, pair.decode_id), []).append(pair)
    made = (_floor(s, pairs.get((s.task, s.view, s.decode_id), ())) for s in comparison.scores if s.primary)
    return [floor for floor in made if floor is not None]


def _floor(scores: PairedScores, pairs: Sequence[Pair]) -> Floor | None:
    mask = scored(scores)
    if not mask.any():
        return None
    base, candidate = scores.base[mask], scores.candidate[mask]
    if scores.binary:
        moved = base * (1.0 - candidate) + (1.0 - base) * candidate
    else:
        moved = (base != candidate).astype(np.float64)
    n = int(mask.sum())
    differing = [p.base.output != p.candidate.output for p in pairs if p.flip != "dropped"]
    steps = [
        abs(p.base.mean_logprob - p.candidate.mean_logprob)
        for p in pairs
        if p.base.mean_logprob is not None and p.candidate.mean_logprob is not None
    ]
    finite = [s for s in steps if np.isfinite(s)]
    return Floor(
        task=scores.task,
        view=scores.view,
        metric=scores.metric,
        decode_id=scores.decode_id,
        n=n,
        flips=float(moved.mean()),
        interval=share_interval(float(moved.sum()), n),
        distance=float(np.abs(candidate - base).mean()),
        texts=float(np.mean(differing)) if differing else 0.0,
        logprob=float(np.mean(finite)) if finite else None,
    )


def share_interval(count: float, n: int, level: float = 0.95) -> Interval:
    """Clopper-Pearson: exact for a count of n independent items, wide enough for a sum of shares.

    Source: C. J. Clopper and E. S. Pearson (1934), Biometrika 26:404-413.
    """
    from scipy.special import betaincinv

    tail = (1.0 - level) / 2.0
    low = float(betaincinv(count, n - count + 1.0, tail)) if count > 0 else 0.0
    high = float(betaincinv(count + 1.0, n - count, 1.0 - tail)) if count < n else 1.0
    return Interval(low, high, level, "Clopper-Pearson")
