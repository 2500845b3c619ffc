"""Stratified estimates of the whole set: formulas, invariances, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forgetbench.analysis.subset import Design, full_set_change, stratified_mean
from forgetbench.tasks.select import allocate, sample
from forgetbench.types import Item, ItemKey

from .made import compared, frame

pytestmark = pytest.mark.unit


def _items(sizes: dict[str, int]) -> list[Item]:
    return [
        Item(ItemKey("t", f"{name}{i:05d}"), f"knowledge/{name}", {}, "", "", stratum=name)
        for name, n in sizes.items()
        for i in range(n)
    ]


class TestSample:
    def test_proportional_by_largest_remainders(self) -> None:
        assert allocate({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
        assert allocate({"a": 10, "b": 10, "c": 10}, 4) == {"a": 2, "b": 1, "c": 1}
        sizes = {f"s{i}": 7 * i + 3 for i in range(40)}
        got = allocate(sizes, 333)
        assert sum(got.values()) == 333
        total = sum(sizes.values())
        assert all(math.floor(333 * s / total) <= got[n] <= math.ceil(333 * s / total) for n, s in sizes.items())

    def test_the_choice_is_the_same_in_any_file_order_and_another_under_another_seed(self) -> None:
        items = _items({"a": 200, "b": 100})
        first = {i.key for i in sample(items, 60, 1).items}
        assert {i.key for i in sample(items[::-1], 60, 1).items} == first
        assert {i.key for i in sample(items, 60, 2).items} != first
        assert [i.key for i in sample(items, 60, 1).items] == [i.key for i in items if i.key in first]

    def test_a_larger_sample_holds_the_smaller_one(self) -> None:
        items = _items({"a": 200, "b": 100})
        assert {i.key for i in sample(items, 60, 1).items} < {i.key for i in sample(items, 120, 1).items}

    def test_small_strata_are_pooled_so_that_each_has_two(self) -> None:
        drawn = sample(_items({"big": 500, "a": 5, "b": 6, "c": 7}), 60, 0)
        assert drawn.sizes == {"big": 500, "(small strata)": 18}
        counts = [sum(drawn.stratum_of[i.stratum or ""] == s for i in drawn.items) for s in drawn.sizes]
        assert min(counts) >= 2
        assert sum(counts) == 60

    def test_more_than_there_is_takes_all(self) -> None:
        items = _items({"a": 5, "b": 3})
        assert list(sample(items, 99, 0).items) == items

    def test_items_without_a_stratum_are_drawn_by_task_type(self) -> None:
        items = [Item(ItemKey("t", str(i)), f"x/{'ab'[i % 2]}", {}, "", "") for i in range(100)]
        assert dict(sample(items, 10, 0).sizes) == {"x/a": 50, "x/b": 50}


class TestEstimate:
    def test_against_cochrans_formulas_written_out(self) -> None:
        rng = np.random.default_rng(3)
        sizes = {"a": 400, "b": 90, "c": 30}
        values = {s: rng.normal(size=n) for s, n in (("a", 40), ("b", 9), ("c", 5))}
        total = sum(sizes.values())
        mean = sum(sizes[s] / total * v.mean() for s, v in values.items())
        variance = sum(
            (sizes[s] / total) ** 2 * (1 - v.size / sizes[s]) * ((v - v.mean()) ** 2).sum() / (v.size - 1) / v.size
            for s, v in values.items()
        )
        names = np.asarray([s for s, v in values.items() for _ in v], dtype=object)
        found = stratified_mean(np.concatenate(list(values.values())), names, sizes)
        assert found.mean == pytest.approx(mean)
        assert found.se == pytest.approx(math.sqrt(variance))
        assert found.n_strata == 3

    def test_unequal_shares_are_weighted_back(self) -> None:
        """Half of the sample comes from a tenth of the set."""
        names = np.asarray(["a"] * 50 + ["b"] * 50, dtype=object)
        found = stratified_mean(np.asarray([0.0] * 50 + [1.0] * 50), names, {"a": 900, "b": 100})
        assert found.mean == pytest.approx(0.1)

    def test_a_single_observation_is_put_to_the_next_stratum(self) -> None:
        names = np.asarray(["a"] * 5 + ["b"] + ["c"] * 5, dtype=object)
        found = stratified_mean(np.arange(11.0), names, {"a": 50, "b": 10, "c": 40})
        assert found.n_strata == 2
        assert math.isfinite(found.se)

    def test_the_whole_set_has_no_uncertainty(self) -> None:
        found = full_set_change(compared(frame([1.0] * 20), frame([0.0] * 5 + [1.0] * 15)).scores[0], _one(20))
        assert found is not None
        assert (found.delta, found.se, found.interval.low, found.interval.high) == (-0.25, 0.0, -0.25, -0.25)

    def test_no_flip_in_a_sample_is_no_certainty(self) -> None:
        found = full_set_change(compared(frame([1.0] * 50), frame([1.0] * 50)).scores[0], _one(1000))
        assert found is not None
        assert -0.1 < found.interval.low < -0.05
        assert found.interval.high == pytest.approx(-found.interval.low)

    def test_infra_errors_are_left_out(self) -> None:
        outcomes = ["infra_error"] * 10 + ["ok"] * 40
        scores = compared(frame([1.0] * 50), frame([0.0] * 50, outcome=outcomes)).scores[0]
        found = full_set_change(scores, _one(100))
        assert found is not None
        assert (found.n, found.delta) == (40, -1.0)


def _one(total: int) -> Design:
    return Design({"reasoning/toy": "all"}, {"all": total})


@pytest.mark.parametrize(("n", "least"), [(60, 0.94), (200, 0.94), (600, 0.94)])
def test_coverage_of_the_full_sets_change(n: int, least: float) -> None:
    """Strata that lose between 0 and 40 %: the interval holds the change of the whole set in 95 % of samples.

    400 samples of a set of 1,500 items in 12 strata; the bound allows for their noise (1.1 points).
    """
    rng = np.random.default_rng(11)
    sizes = {f"s{h}": 40 + 15 * h for h in range(12)}
    names = np.asarray([s for s, size in sizes.items() for _ in range(size)], dtype=object)
    lost = {s: rng.uniform(0.0, 0.4) if h % 3 == 0 else 0.01 for h, s in enumerate(sizes)}
    base = (rng.uniform(size=names.size) < 0.7).astype(float)
    flip = rng.uniform(size=names.size) < np.asarray([lost[s] for s in names])
    candidate = np.where(flip, 0.0, base)
    candidate = np.where(rng.uniform(size=names.size) < 0.03, 1.0, candidate)
    truth = float((candidate - base).mean())
    whole = compared(
        frame(base.tolist(), stratum=names.tolist()), frame(candidate.tolist(), stratum=names.tolist()), bootstrap=10
    ).scores[0]
    order = np.asarray([int(key.content_hash, 16) for key in whole.keys])
    items = [Item(ItemKey("toy", f"{i:06x}"), "reasoning/toy", {}, "", "", stratum=s) for i, s in enumerate(names)]
    hits = 0
    for seed in range(400):
        drawn = sample(items, n, seed)
        chosen = {int(i.key.content_hash, 16) for i in drawn.items}
        part = whole.pick(np.asarray([i in chosen for i in order]))
        found = full_set_change(part, Design(drawn.stratum_of, drawn.sizes))
        assert found is not None
        hits += found.interval.low <= truth <= found.interval.high
    assert hits / 400 >= least
