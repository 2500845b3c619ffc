"""K samples of each item: pass@k curves, expected loss and gain, noise, answer entropy, empirical support."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.answer_space import answer_entropy, empirical_support
from forgetbench.analysis.crossover import crossover_reading, pass_curves, pass_measures
from forgetbench.analysis.joint import Expected, expected_change, table_of
from forgetbench.analysis.measured import Measured
from forgetbench.analysis.noise import noise_of_rates
from forgetbench.analysis.outputs import Answered, common_samples
from forgetbench.analysis.types import PairedScores
from forgetbench.behaviour.texts import fully_sampled, usual
from forgetbench.behaviour.types import SampledTask
from forgetbench.types import GREEDY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

_ALL_KS = 16
"""Up to here every k; beyond it powers of two and N."""
_DRAWS = 2_000
_LOSS_DRAWS = 100
"""Each costs as much as the fit itself."""


def sampled_tasks(
    scores: Sequence[PairedScores], answered: Mapping[tuple[str, str, str], Sequence[Answered]], *, seed: int = 0
) -> list[SampledTask]:
    """One for each task, view and temperature with several 0/1 samples of every item.

    The few items of which a sample failed are left out: all others would count with fewer samples for them.
    answered: the texts by (task, view, decode_id), where they are at hand.
    """
    parts = []
    for part in scores:
        if not (part.primary and part.binary) or part.decode_id == GREEDY:
            continue
        mask = ~(np.isnan(part.base) | np.isnan(part.candidate))
        for samples in (part.base_samples, part.candidate_samples):
            if mask.any():
                mask &= samples >= max(2, usual(np.rint(samples[mask]).astype(np.int64)))
        if mask.any():
            parts.append(part.pick(mask))
    decodings = Counter((part.task, part.view) for part in parts)
    made = []
    for part in parts:
        names = {str(k) for k in part.keys}
        texts = answered.get((part.task, part.view, part.decode_id), ())
        # Of several temperatures each has its sentence, and they would look alike.
        how = f"{part.view}, {part.decode_id}" if decodings[part.task, part.view] > 1 else part.view
        made.append(_sampled(part, fully_sampled([a for a in texts if a.item in names]), how, seed))
    return made


def ks_of(samples: int) -> list[int]:
    """The k of a curve up to N samples."""
    powers = [2**i for i in range(5, 20) if 2**i < samples]
    return sorted({*range(1, min(samples, _ALL_KS) + 1), *powers, samples})


def _sampled(part: PairedScores, texts: Sequence[Answered], how: str, seed: int) -> SampledTask:
    sides = [(part.base, part.base_samples), (part.candidate, part.candidate_samples)]
    trials = [np.rint(samples).astype(np.int64) for _, samples in sides]
    hits = [np.rint(rate * k).astype(np.int64) for (rate, _), k in zip(sides, trials, strict=True)]
    base, candidate = (trials[0], hits[0]), (trials[1], hits[1])
    least = int(min(t.min() for t in trials))
    curves = pass_curves(base, candidate, ks=ks_of(least), clusters=part.clusters, draws=_DRAWS, seed=seed)
    names = [str(k) for k in part.keys]
    measures: list[Measured] = [*pass_measures(curves, part.base.size)]
    measures += empirical_support(base, candidate, part.clusters, names=names, seed=seed)
    if texts and common_samples(texts) > 1:
        measures.append(answer_entropy(texts, seed=seed))
    counts = [np.unique(t) for t in trials]
    even = all(c.size == 1 for c in counts) and np.unique(part.clusters).size == part.base.size and part.base.size > 1
    expected, noise = None, None
    if even:
        k = int(counts[0][0]), int(counts[1][0])
        expected = expected_change(table_of((hits[0], hits[1]), k), draws=_LOSS_DRAWS, seed=seed)
        noise = noise_of_rates(part.base, part.candidate, *k)
    flicker = None if expected is None else flicker_range(part, expected)
    return SampledTask(
        task=part.task,
        view=part.view,
        decode_id=part.decode_id,
        n=part.base.size,
        curves=curves,
        expected=expected,
        noise=noise,
        flicker=flicker,
        measures=tuple(measures),
        reading=_reading(f"{part.task} ({how})", expected, flicker, crossover_reading(curves)),
    )


def flicker_range(part: PairedScores, expected: Expected) -> tuple[float, float] | None:
    """Share of right-to-wrong flips of single samples that no change of the rates explains: (low, high).

    A single sample of each side flips with probability mean(p_b (1 - p_s)). Of that the expected loss E[(p_b - p_s)+]
    is change: by likelihood it is too large by its own bias and gives the lower end of the flicker share, by the
    moment bound F* too small and gives the upper (notes on metrics, section 1). None without a flip.
    """
    flips = float((part.base * (1.0 - part.candidate)).mean())
    if flips <= 0.0:
        return None
    shares = [1.0 - max(0.0, lost) / flips for lost in (expected.loss, expected.bound.loss)]
    low, high = sorted(min(1.0, max(0.0, s)) for s in shares)
    return low, high


def _reading(head: str, expected: Expected | None, flicker: tuple[float, float] | None, crossing: str) -> str:
    told = [crossing]
    if expected is not None:
        told.append(
            f"expected loss {100 * expected.loss:.1f} points, gain {100 * expected.gain:.1f} "
            f"(no change would show {100 * expected.null:.1f} of either)"
        )
    if flicker is not None:
        told.append(f"{100 * flicker[0]:.0f} to {100 * flicker[1]:.0f} % of single-sample flips are sampling noise")
    return f"{head}: {'; '.join(told)}"
