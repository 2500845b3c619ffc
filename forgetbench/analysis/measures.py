"""What the tasks of a comparison show beside the net change, one line each: expected loss, F_LC, warnings.

None of it decides anything. Lines are left out where the data cannot say it: expected loss wants the same K >= 2
samples of every item, F_LC wants options, warnings want several task_types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from forgetbench.analysis.joint import expected_change, table_of
from forgetbench.analysis.latent import latent_change
from forgetbench.analysis.noise import noise_of_rates
from forgetbench.analysis.paired import DRAWS
from forgetbench.analysis.significance import benjamini_hochberg
from forgetbench.analysis.types import Change, Interval, PairedScores
from forgetbench.types import GREEDY

FALSE_DISCOVERIES = 0.10
"""Share of the warnings that may be false."""
_LOSS_DRAWS = 100
"""Each costs as much as the fit itself; more of them move the interval's ends by about .002."""
_NAMED = 5


def measure_notes(
    scores: Sequence[PairedScores], changes: Sequence[Change], *, draws: int = DRAWS, seed: int = 0
) -> list[str]:
    """Lines on every task by the metric it is decided on, then the warnings."""
    notes = []
    for part in scores:
        if part.primary and part.binary:
            mask = ~(np.isnan(part.base) | np.isnan(part.candidate))
            if mask.any():
                notes += [*_expected(part.pick(mask), seed), *_latent(part.pick(mask), draws, seed)]
    return [*notes, *warnings(changes)]


def warnings(changes: Sequence[Change]) -> list[str]:
    """Second-level task_types that lost, at a false discovery rate of 10 % (Benjamini and Hochberg) per view.

    By their greedy answers; by sampled ones where there are no greedy ones, so that no task_type stands twice.
    """
    notes = []
    for view in dict.fromkeys(c.view for c in changes):
        family = [c for c in changes if (c.kind, c.view) == ("task_type_2", view)]
        decode = min((c.decode_id for c in family), key=lambda d: (d != GREEDY, d), default=GREEDY)
        family = [c for c in family if c.decode_id == decode]
        adjusted = benjamini_hochberg([c.p_value for c in family])
        lost = [c for c, p in zip(family, adjusted, strict=True) if p <= FALSE_DISCOVERIES and c.delta < 0.0]
        if len(family) > 1 and lost:
            worst = sorted(lost, key=lambda c: c.delta)
            named = ", ".join(f"{c.group} {100 * c.delta:+.1f}" for c in worst[:_NAMED])
            more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
            rate = f"{100 * FALSE_DISCOVERIES:.0f} %"
            notes.append(
                f"warning ({view}): {len(lost)} of {len(family)} task_types lost, at most {rate} of such "
                f"warnings are false: {named}{more}"
            )
    return notes


def _expected(part: PairedScores, seed: int) -> Iterator[str]:
    samples = np.unique(part.base_samples), np.unique(part.candidate_samples)
    alone = np.unique(part.clusters).size == part.base.size
    if any(s.size != 1 or s[0] < 2 for s in samples) or part.base.size < 2 or not alone:
        return
    k_base, k_candidate = (int(s[0]) for s in samples)
    successes = np.rint(part.base * k_base).astype(np.int64), np.rint(part.candidate * k_candidate).astype(np.int64)
    found = expected_change(table_of(successes, (k_base, k_candidate)), draws=_LOSS_DRAWS, seed=seed)
    noise = noise_of_rates(part.base, part.candidate, k_base, k_candidate)
    yield (
        f"{part.task} ({part.view}): expected loss {_points(found.loss)} points ({_between(found.loss_interval)}), "
        f"gain {_points(found.gain)} ({_between(found.gain_interval)}); no change would show {_points(found.null)} of "
        f"either; {100 * noise.share:.0f} % of the variance of single answers is noise"
    )


def _latent(part: PairedScores, draws: int, seed: int) -> Iterator[str]:
    found = latent_change(part.base, part.candidate, part.n_choices, part.clusters, draws=draws, seed=seed)
    if found is None:
        return
    yield (
        f"{part.task} ({part.view}): {_points(found.low)} to {_points(found.high)} % of the items forgotten once "
        f"guesses are allowed for ({_between(found.interval)}; F_true {_points(found.true_rate)} %)"
    )


def _between(interval: Interval) -> str:
    return f"{100 * interval.level:.0f} % interval {_points(interval.low)} to {_points(interval.high)}"


def _points(fraction: float) -> str:
    return f"{100.0 * fraction:.1f}"
