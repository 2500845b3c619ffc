"""Loss by how often the base met a fact, against independent computations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency, pearsonr

from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.probing.frequency import by_frequency, count_of, facts_by_frequency, permuted, read_counts, trend
from forgetbench.probing.shares import difference
from forgetbench.probing.types import FrequencyFit
from tests.probing.test_fit import record, with_records
from tests.probing.world import FACTS, build

pytestmark = pytest.mark.unit


def table(rng: np.random.Generator, n: int, slope: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    count = np.floor(np.exp(rng.uniform(0, 8, n)))
    base = rng.random(n) < 0.8
    lost = rng.random(n) < np.clip(0.3 - slope * (np.log1p(count) - 4), 0, 1)
    return np.column_stack([count, base, base & ~lost]).astype(np.float64)


def test_trend_is_pearsons_correlation_in_disguise() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = rng.normal(size=60), (rng.random(60) < 0.3).astype(float)
        assert trend(x, y) ** 2 == pytest.approx(60 * pearsonr(x, y).statistic ** 2)
    x, y = np.repeat([0.0, 1.0], 30), np.r_[np.ones(9), np.zeros(21), np.ones(18), np.zeros(12)]
    plain = chi2_contingency([[9, 21], [18, 12]], correction=False)
    assert trend(x, y) ** 2 == pytest.approx(plain.statistic)
    assert permuted(x, y, [str(i) for i in range(60)]) == pytest.approx(chi2.sf(plain.statistic, 1), abs=0.03)


def test_rare_facts_lost_more_are_seen() -> None:
    data = table(np.random.default_rng(1), 400, 0.06)
    found = by_frequency("t", "chat", [str(i) for i in range(400)], data)
    assert found.trend < -3
    assert found.p_value < 0.01
    assert [b.n for b in found.bins] == pytest.approx([100] * 4, abs=5)
    assert found.bins[0].high < found.bins[1].low
    assert found.head_less_tail is not None
    assert found.head_less_tail.high < 0
    assert found.reading.startswith("rare facts are lost more")


def test_p_values_under_no_trend_are_uniform() -> None:
    """Also where four items share each fact: permuting items one by one would be wrong there."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        fact = np.repeat(np.arange(40), 4)
        x, y = rng.normal(size=40)[fact], (rng.random(40) < 0.4)[fact].astype(float)
        alarms += permuted(x, y, [str(f) for f in fact], draws=400, seed=seed) <= 0.05
    assert 2 <= alarms <= 19


def test_bins_cover_every_item_once() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        n = int(rng.integers(5, 80))
        data = np.column_stack([rng.integers(0, 4, n), rng.random(n) < 0.5, rng.random(n) < 0.5]).astype(np.float64)
        found = by_frequency("t", "v", [str(i) for i in range(n)], data)
        assert sum(b.n for b in found.bins) == n
        assert sum(b.lost.k for b in found.bins) == int(((data[:, 1] == 1) & (data[:, 2] == 0)).sum())
        assert 0 < found.p_value <= 1


def bins_of(base_has: list[int]) -> FrequencyFit:
    """Four bins of ten items; the candidate keeps the second alone."""
    count = np.repeat([1.0, 10.0, 100.0, 1000.0], 10)
    base = np.repeat([float(h) for h in base_has], 10)
    candidate = base * np.repeat([0.0, 1.0, 0.0, 0.0], 10)
    return by_frequency("t", "chat", [str(i) for i in range(40)], np.column_stack([count, base, candidate]))


def test_a_bin_of_which_the_base_has_nothing_right_is_not_told_as_a_loss() -> None:
    found = bins_of([0, 1, 1, 1])
    assert "0.0 % lost at 10 to 10, 100.0 % at 1000 to 1000" in found.reading
    assert found.head_less_tail == difference(found.bins[3].lost, found.bins[1].lost)
    assert "100.0 % lost at 100 to 100 (" in bins_of([0, 0, 1, 0]).reading
    assert bins_of([0, 0, 1, 0]).head_less_tail is None
    nothing = bins_of([0, 0, 0, 0])
    assert nothing.reading == "the base has none of the facts with a count right: none can be lost"
    assert (nothing.head_less_tail, nothing.p_value) == (None, 1.0)


def test_copies_of_a_question_are_one_fact(tmp_path: Path) -> None:
    """Four copies each of thirty questions without a cluster: as much is known as of thirty."""
    rows = [{"task_type": "a/b", "prompt": f"Q{n}", "references": ["x"], "frequency": n + 1} for n in range(30)]
    fits = []
    for times in (1, 4):
        folder = tmp_path / str(times)
        folder.mkdir()
        plain = build(folder, rows=[r for r in rows for _ in range(times)])
        items = plain.task.load()
        lost = [10 <= int(str(i.doc["prompt"])[1:]) < 22 for i in items]
        sides = [
            [
                replace(record(plain, str(i.doc["prompt"]), "x"), occurrence=i.key.occurrence, scores={"c": s})
                for i, s in mine
            ]
            for mine in (zip(items, [1.0] * len(items), strict=True), zip(items, (1.0 - x for x in lost), strict=True))
        ]
        world = build(folder, (sides[0], sides[1]), rows=[r for r in rows for _ in range(times)])
        (fit,) = facts_by_frequency(world.base, world.candidate, [(None, world.task)], {})  # type: ignore[list-item]
        fits.append(fit)
    assert [sum(b.n for b in f.bins) for f in fits] == [30, 120]
    assert fits[0].p_value == pytest.approx(fits[1].p_value, abs=0.02)


def test_counts_by_any_name(tmp_path: Path) -> None:
    world = build(tmp_path)
    item = next(iter(world.task.load()))
    for name in (item.doc["id"], str(item.key), item.key.content_hash, f"facts:{item.key.content_hash}", item.cluster):
        assert count_of(item, {str(name): 7.0}) == 7.0
    assert count_of(item, {"other": 1.0}) is None


def test_from_runs(tmp_path: Path) -> None:
    questions = list(FACTS)
    world = with_records(tmp_path, {}, dict.fromkeys(questions[:20], "nothing"))
    items = {i.doc["prompt"]: i for i in world.task.load()}
    counts = {str(items[q].doc["id"]): (1.0 + i % 3 if i < 20 else 1000.0 + i) for i, q in enumerate(questions[:50])}
    (found,) = facts_by_frequency(world.base, world.candidate, [(None, world.task)], counts)  # type: ignore[list-item]
    assert (found.unknown, sum(b.n for b in found.bins)) == (10, 50)
    assert found.bins[0].lost.value == 1.0
    assert found.bins[-1].lost.value == 0.0
    assert found.p_value < 0.001
    with pytest.raises(UsageError, match=r"at least 20 items.*most: 1\)"):
        facts_by_frequency(world.base, world.candidate, [(None, world.task)], dict(list(counts.items())[:1]))  # type: ignore[list-item]


def test_reading_counts(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text("count,key\n3,a\n\n0,b c\n")
    assert read_counts(file) == {"a": 3.0, "b c": 0.0}
    file.write_text("key,count\na,x\na,-1\nb,1\nb,2\n")
    with pytest.raises(ManyUsageErrors) as caught:
        read_counts(file)
    assert [e.where.rsplit(":", 1)[1] for e in caught.value.errors] == ["2", "3", "5"]
    file.write_text("name,n\n")
    with pytest.raises(UsageError, match="no columns key and count"):
        read_counts(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_counts(tmp_path / "none.csv")
