from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from forgetbench.analysis.measured import (
    Measured,
    at_least_zero,
    doubt,
    influence_change,
    labels_of,
    mean_change,
    share_change,
    totals_change,
)
from forgetbench.analysis.types import Interval

pytestmark = pytest.mark.unit


def drawn(seed: int, n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.gamma(2.0, 1.0, n)
    return base, base + rng.normal(0.3, 1.0, n)


def test_clusters_as_codes() -> None:
    assert labels_of(None, 3).tolist() == [0, 1, 2]
    assert labels_of(["a", None, "a", None, 0], 5).tolist() == [0, 1, 0, 2, 3]
    with pytest.raises(ValueError, match="2 clusters of 3 items"):
        labels_of(["a", "b"], 3)


def test_a_mean_is_never_narrower_than_the_t_interval_and_not_much_wider() -> None:
    for seed in range(20):
        base, candidate = drawn(seed)
        found = mean_change(base, candidate, np.arange(80))
        low, high = stats.ttest_1samp(candidate - base, 0.0).confidence_interval()
        assert found is not None
        assert 0.97 < (found.high - found.low) / (high - low) < 1.3
        assert found.low < (candidate - base).mean() < found.high


def test_order_and_names_of_clusters_change_nothing() -> None:
    base, candidate = drawn(1)
    clusters = np.random.default_rng(2).integers(0, 30, 80)
    order = np.random.default_rng(3).permutation(80)
    assert mean_change(base, candidate, clusters) == mean_change(base[order], candidate[order], 100 - clusters[order])


def test_clusters_widen_it() -> None:
    """Every item three times over is no new evidence."""
    base, candidate = (np.tile(x, 3) for x in drawn(4))
    alone, together = (mean_change(base, candidate, labels) for labels in (np.arange(240), np.tile(np.arange(80), 3)))
    assert alone is not None
    assert together is not None
    assert together.high - together.low > 1.4 * (alone.high - alone.low)
    whole = mean_change(*drawn(4), np.arange(80))
    assert whole is not None
    assert (together.low, together.high) == pytest.approx((whole.low, whole.high), abs=0.02)


def test_where_nothing_changed() -> None:
    same = np.linspace(0.0, 1.0, 50)
    assert mean_change(same, same, np.arange(50)) == Interval(0.0, 0.0, method="no item differs")
    share = share_change(np.zeros(100), np.zeros(100), np.arange(100))
    assert share is not None
    assert -0.05 < share.low < 0.0 < share.high < 0.05
    assert mean_change(same, same, np.zeros(50, dtype=np.int64)) is None
    assert share_change(same, same / 2, np.zeros(50, dtype=np.int64)) is None


def test_totals_of_a_mean_are_the_mean_itself() -> None:
    base, candidate = drawn(5)
    totals = np.column_stack([base, candidate, np.ones(80)])
    found = totals_change(totals, np.arange(80), lambda s: (s[:, 1] - s[:, 0]) / s[:, 2])
    expected = mean_change(base, candidate, np.arange(80))
    assert found is not None
    assert expected is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_influence_against_the_delta_method() -> None:
    """A ratio of sums: standard error of the linearised ratio."""
    rng = np.random.default_rng(6)
    size = rng.integers(5, 50, 200).astype(float)
    top = size * rng.normal(1.0, 0.2, 200)
    found = totals_change(np.column_stack([top, size]), np.arange(200), lambda s: s[:, 0] / s[:, 1])
    ratio = top.sum() / size.sum()
    se = np.std((top - ratio * size) / size.mean(), ddof=1) / np.sqrt(200)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((ratio - 1.97 * se, ratio + 1.97 * se), abs=0.3 * se)


def test_one_cluster_has_no_interval() -> None:
    assert totals_change(np.ones((3, 1)), np.zeros(3, dtype=np.int64), lambda s: s[:, 0]) is None
    assert influence_change(1.0, np.array([1.0])) is None


def test_words() -> None:
    assert doubt(None) == ""
    assert doubt(Interval(-1.0, 1.0)) == "; not proven to differ"
    assert doubt(Interval(0.1, 1.0)) == ""
    assert doubt(Interval(0.0, 0.0)) == "; no item differs"
    assert at_least_zero(Interval(-1.0, 2.0)) == Interval(0.0, 2.0)
    assert at_least_zero(None) is None


def test_proven_and_difference() -> None:
    found = Measured("x", 0.2, 0.5, Interval(0.1, 0.5), "share", "")
    assert found.difference == pytest.approx(0.3)
    assert found.proven
    assert not Measured("x", 0.2, 0.5, None, "share", "").proven
    assert Measured("x", None, 0.5, None, "share", "").difference == 0.5


@pytest.mark.parametrize(
    ("unit", "base", "candidate", "slight"),
    [
        ("share", 0.987, 0.9969, True),
        ("share", 0.0, 0.011, False),
        ("share", 0.987, 0.976, False),
        ("nats", -16.6, -16.9, True),
        ("nats", -16.6, -17.5, False),
        ("nats", 0.0, 0.0063, True),
        ("nats", 0.0, 0.02, False),
        ("nats", -0.012, -0.011, True),
        ("tokens", 6.0, 6.4, False),
    ],
)
def test_slight(unit: str, base: float, candidate: float, slight: bool) -> None:
    assert Measured("x", base, candidate, None, unit, "").slight is slight
    assert Measured("x", candidate, base, None, unit, "").slight is slight
