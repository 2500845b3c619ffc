"""Exact coverage against its own definition: every table, its probability, and the interval inverted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multinomial

from benchmarks.calibration_exact import exact_coverage
from forgetbench.analysis.paired import ScoreEstimator

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("lost", "gained"), [(0.1, 0.1), (0.2, 0.05), (0.15, 0.0), (0.0, 0.3)])
def test_it_is_the_sum_over_all_tables(lost: float, gained: float) -> None:
    n, held = 24, 0.0
    for down in range(n + 1):
        for up in range(n + 1 - down):
            p = multinomial.pmf([down, up, n - down - up], n, [lost, gained, 1.0 - lost - gained])
            if p > 0.0:
                fit = ScoreEstimator(up, down, n)
                held += p * (fit.lower(0.025) <= gained - lost + 1e-9 and gained - lost - 1e-9 <= fit.upper(0.025))
    assert exact_coverage(n, lost, gained) == pytest.approx(held, abs=1e-9)


def test_drawing_comes_to_the_same() -> None:
    rng = np.random.default_rng(3)
    drawn = rng.multinomial(300, [0.08, 0.04, 0.88], size=20_000)
    tables, counts = np.unique(drawn, axis=0, return_counts=True)
    fits = [ScoreEstimator(int(up), int(down), 300) for down, up, _ in tables]
    held = sum(int(c) for f, c in zip(fits, counts, strict=True) if f.lower(0.025) <= -0.04 <= f.upper(0.025))
    assert exact_coverage(300, 0.08, 0.04) == pytest.approx(held / 20_000, abs=0.006)
