"""Frontier and intervals: against loops and scipy, planted worlds, error rates, invariances. About 15 s."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.arms.estimate import Design, estimate, macro_draws
from forgetbench.arms.frontier import Arm, Frontier, frontier
from forgetbench.errors import UsageError
from tests.arms import made

pytestmark = pytest.mark.unit


def compared(arms: tuple[Arm, ...], **more: object) -> Frontier:
    return frontier(arms, made.TARGET, made.GENERAL, **{"draws": 400, **more})  # type: ignore[arg-type]


def _mean(point, kind: str) -> float:  # type: ignore[no-untyped-def]
    """Macro average by loops over dictionaries."""
    by_cell: dict[tuple[str, str], list[float]] = {}
    for c in point.cells:
        if (c.task_type == "support/route") == (kind == "target"):
            by_cell[c.view, c.task_type] = [float(v) for v in c.candidate]
    return sum(sum(v) / len(v) for v in by_cell.values()) / len(by_cell)


@pytest.mark.parametrize("at", [0.6, "best", "common"])
def test_matched_scores_against_a_loop(at: float | str) -> None:
    arms = made.arms(made.USUAL)
    found = compared(arms, at=at)
    base_target, base_general = _mean(arms[-1].paths[0][0], "target"), _mean(arms[-1].paths[0][0], "general")
    assert found.base_target == pytest.approx(base_target)
    assert found.base_general == pytest.approx(base_general)
    top = {a.name: min(max(_mean(p, "target") for p in path) for path in a.paths) for a in arms if not a.noop}
    wanted = {0.6: 0.6, "best": base_target + 0.9 * (max(top.values()) - base_target), "common": min(top.values())}[at]
    assert found.at == pytest.approx(wanted)
    for arm, stand in zip(arms, found.stands, strict=True):
        labels, generals, reached = [], [], 0
        for path in arm.paths:
            targets = [_mean(p, "target") for p in path]
            first = next((i for i, t in enumerate(targets) if t >= wanted - 1e-9), None)
            reached += first is not None
            i = targets.index(max(targets)) if first is None else first
            labels.append(path[i].label)
            generals.append(_mean(path[i], "general") - base_general)
        assert stand.at == tuple(labels)
        assert stand.reached == reached
        assert stand.reaches == (reached == 3)
        assert stand.general.seed_values == pytest.approx(generals)
        assert stand.general.value == pytest.approx(sum(generals) / 3)
        assert len(stand.again) == (3 if stand.reaches else 0)
        assert all(0.0 < share <= 1.0 for share in stand.again)


def test_interpolation_stands_at_exactly_the_target() -> None:
    arms = made.arms(made.USUAL)
    plain, found = compared(arms, at=0.7), compared(arms, at=0.7, interpolate=True)
    for arm, stand, before in zip(arms, found.stands, plain.stands, strict=True):
        if not stand.reaches:
            assert stand.general == before.general  # nothing is extrapolated
            continue
        assert stand.target.seed_values == pytest.approx([0.7 - found.base_target] * 3)
        for path, value in zip(arm.paths, stand.general.seed_values, strict=True):
            targets = [_mean(p, "target") for p in path]
            i = next(i for i, t in enumerate(targets) if t >= 0.7)
            a, b = (_mean(p, "general") for p in path[i - 1 : i + 1])
            share = (0.7 - targets[i - 1]) / (targets[i] - targets[i - 1])
            assert value == pytest.approx(a + share * (b - a) - found.base_general)


def test_seed_intervals_against_scipy() -> None:
    for stand in compared(made.arms(made.USUAL)).stands[:-1]:
        values = stand.general.seed_values
        low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert stand.general.seeds is not None
        assert (stand.general.seeds.low, stand.general.seeds.high) == pytest.approx((low, high))
        # Both sources: wider than either, by Welch's rule for a sum of two variances.
        a, b = stand.general.seed_se, stand.general.item_se
        assert a is not None
        n = 178  # clusters of the general items: two items each, views of one item together
        df = (a**2 + b**2) ** 2 / (a**4 / 2 + b**4 / (n - 1))
        reach = scipy.stats.t.ppf(0.975, df) * math.hypot(a, b)
        assert stand.general.both.high - stand.general.value == pytest.approx(reach, rel=0.02)
        assert (
            stand.general.both.high - stand.general.both.low > stand.general.items.high - stand.general.items.low - 0.01
        )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_item_error_against_the_influence_of_each_cluster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.repeat(np.arange(3), [60, 80, 40])
    clusters = np.concatenate([np.arange(60) // 2, np.arange(80) % 30, 100 + np.arange(40)])  # two cells share clusters
    values = rng.normal(size=(180, 2)) + 0.8 * rng.normal(size=200)[clusters][:, None]
    design = Design(cells, clusters, 3)
    draws = macro_draws(design, values, 4000, seed)
    means = np.stack([values[cells == c].mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(design.weights @ values, means.mean(axis=0))
    np.testing.assert_allclose(draws.mean(axis=0), means.mean(axis=0), atol=4 * draws.std() / math.sqrt(4000) + 0.01)
    influence: dict[int, np.ndarray] = {}
    for i, (cell, cluster) in enumerate(zip(cells.tolist(), clusters.tolist(), strict=True)):
        own = (values[i] - means[cell]) / (3 * (cells == cell).sum())
        influence[cluster] = influence.get(cluster, np.zeros(2)) + own
    own = np.stack(list(influence.values()))
    variance = (own**2).sum(axis=0) * len(own) / (len(own) - 1)
    np.testing.assert_allclose(draws.std(axis=0), np.sqrt(variance), rtol=0.08)


def test_item_intervals_hold_where_entities_span_task_types() -> None:
    """40 entities, each asked in some of 5 task_types; what is lost is lost wherever it is asked."""
    rng = np.random.default_rng(1)
    truth, ses, values, covered = -0.3 * 0.95, [], [], 0
    for _ in range(200):
        asked = rng.random((40, 5)) < 0.5
        asked[~asked.any(axis=1), 0] = True
        lost = rng.random(40) < 0.3
        clusters, cells = np.nonzero(asked)
        answers = -(lost[clusters] & (rng.random(cells.size) < 0.95)).astype(float)
        design = Design(cells, clusters, 5)
        draws = macro_draws(design, answers[:, None], 400)[:, 0]
        value = float(design.weights @ answers)
        found = estimate([value], draws, design.n_clusters)
        ses.append(found.item_se)
        values.append(value)
        covered += found.items.low <= truth <= found.items.high
    assert np.mean(ses) == pytest.approx(np.std(values), rel=0.1)  # within strata of like entities: 0.64 of it
    assert covered >= 0.91 * 200  # 0.74 there


def test_small_task_types_keep_their_items_in_every_draw() -> None:
    """A mean of 6 task_types with 4 items each, none shared: their variance is that of samples of 4."""
    rng = np.random.default_rng(3)
    cells = np.repeat(np.arange(6), 4)
    design = Design(cells, np.arange(24), 6)
    ratios = []
    for _ in range(60):
        values = rng.normal(size=24) + 5.0 * cells
        draws = macro_draws(design, values[:, None], 500)[:, 0]
        assert np.isfinite(draws).all()
        ratios.append(draws.var())
    assert np.mean(ratios) == pytest.approx(1 / 24, rel=0.15)


def test_one_seed_has_no_interval_over_seeds() -> None:
    found = compared(made.arms(made.USUAL, seeds=1))
    assert all(s.general.seeds is None and s.general.both == s.general.items for s in found.stands)
    assert any("One seed" in note for note in found.notes)
    alone = estimate([0.5], np.asarray([0.4, 0.5, 0.6]), 3)
    assert alone.seed_se is None


def test_planted_arms_are_told_apart() -> None:
    found = compared(made.arms(made.USUAL, passes=["replay 20 %", "full at a tenth of the rate"]))
    assert found.unbeaten == ("replay 20 %",)
    assert found.acceptable == ("replay 20 %",)  # the slow one passes and does not reach the target
    assert set(found.beaten_by("full")) == {"replay 20 %", "replay 5 %", "kl"}
    assert "replay 20 %" in found.beaten_by("lora")  # better in both
    assert found.beaten_by("full at a tenth of the rate") == ()  # gained less, kept more
    reach = {s.arm for s in found.stands if s.reaches}
    assert reach == {"full", "replay 20 %", "replay 5 %", "kl"}
    front = [arm for arm, _ in found.front]
    assert front[0] == ""
    assert "lora" not in front


def test_an_arm_that_reaches_in_some_seeds_does_not_reach() -> None:
    full, *rest = made.arms(made.USUAL)
    weak = replace(full, paths=(full.paths[0], full.paths[1], full.paths[2][:1] * 3))
    found = compared((weak, *rest), at=0.8)
    assert (found.stands[0].reached, found.stands[0].reaches) == (2, False)
    assert found.stands[0].again == ()


def test_the_no_op_is_never_acceptable_and_one_failed_seed_is_enough() -> None:
    arms = made.arms(made.USUAL, passes=["kl"])
    assert compared(arms).acceptable == ("kl",)
    kl = next(a for a in arms if a.name == "kl")
    broken = replace(kl, paths=(*kl.paths[:2], tuple(replace(p, state="INCONCLUSIVE") for p in kl.paths[2])))
    assert compared(tuple(broken if a.name == "kl" else a for a in arms)).acceptable == ()
    assert all(s.states == ("PASS",) * 3 for s in compared(arms).stands if s.noop)


def test_nothing_gained_is_nothing_to_match() -> None:
    arms = made.arms({"flat": [(0.0, 0.9), (0.0, 0.8)]})
    for at in ("best", "common"):
        found = compared(arms, at=at)
        assert found.at is None
        assert found.unbeaten == found.acceptable == ()
    with pytest.raises(UsageError, match="is not above the base's target score"):
        compared(made.arms(made.USUAL), at=0.01)
    with pytest.raises(UsageError, match="none was finished"):
        compared(made.arms({}))


def test_items_without_a_score_are_left_out_of_every_arm() -> None:
    full, *rest = made.arms(made.USUAL)
    point = full.paths[0][1]
    holed = tuple(
        replace(c, candidate=np.where(np.arange(c.base.size) < 6, math.nan, c.candidate)) for c in point.cells
    )
    paths = ((full.paths[0][0], replace(point, cells=holed), full.paths[0][2]), *full.paths[1:])
    found = compared((replace(full, paths=paths), *rest))
    assert found.items == (54, 162)
    assert "24 items" in found.notes[0]


def test_equal_arms_are_rarely_told_apart() -> None:
    """Two recipes of equal worth, seeds that differ: each is shown to beat the other in at most 2.5 % (nominal)."""
    beats = total = 0
    for run in range(100):
        names = {f"a{run}": [(0.9, 0.8)], f"b{run}": [(0.9, 0.8)]}
        found = compared(made.arms(names, n=40, wobble=0.06, noop=False), at=0.5, draws=200)
        beats += sum(v.beats for v in found.versus)
        total += 2
    assert beats / total <= 0.035


def test_seed_noise_alone_would_be_missed_by_items() -> None:
    """The same worlds: intervals that hold the seeds fixed tell equal arms apart far too often."""
    wrong = 0
    for run in range(60):
        names = {f"a{run}": [(0.9, 0.8)], f"b{run}": [(0.9, 0.8)]}
        found = compared(made.arms(names, n=120, wobble=0.1, noop=False), at=0.5, draws=200)
        wrong += found.versus[0].general.items.low > 0 or found.versus[0].general.items.high < 0
    assert wrong / 60 > 0.15


@given(st.permutations(range(7)), st.sampled_from(["best", "common", 0.5]))
@settings(max_examples=8, deadline=None)
def test_the_order_of_the_arms_changes_nothing(order: list[int], at: float | str) -> None:
    arms = made.arms(made.USUAL)
    one, two = compared(arms, at=at), compared(tuple(arms[i] for i in order), at=at)
    assert {s.arm: s for s in one.stands} == {s.arm: s for s in two.stands}
    assert {(v.arm, v.other): v for v in one.versus} == {(v.arm, v.other): v for v in two.versus}
    assert (one.front, one.at, one.why) == (two.front, two.at, two.why)
    assert set(one.unbeaten) == set(two.unbeaten)


@given(st.floats(0.2, 0.5), st.floats(0.05, 0.12))
@settings(max_examples=5, deadline=None)
def test_a_dominated_arm_changes_neither_front_nor_the_others(target: float, general: float) -> None:
    arms = made.arms(made.USUAL)
    worse = made.arms({"worse": [(target / 2, general), (target, general / 2)]}, noop=False)
    one, two = compared(arms), compared((*arms, *worse))
    assert two.front == one.front
    assert two.at == one.at
    assert two.stands[:-1] == one.stands
    assert two.unbeaten == one.unbeaten
    assert "replay 20 %" in two.beaten_by("worse")


def test_the_front_against_all_pairs() -> None:
    found = compared(made.arms(made.USUAL))
    means = {("", "base"): (0.0, 0.0)}
    for s in found.stands:
        for spots in zip(*s.paths, strict=True):
            means[s.arm, spots[0].label] = tuple(np.mean([[p.target, p.general] for p in spots], axis=0))  # type: ignore[assignment]
    for key, (x, y) in means.items():
        held = any(a >= x and b >= y and (a, b) != (x, y) for a, b in means.values())
        assert (key in found.front) == (not held) or (x, y) == (0.0, 0.0)
    places = [means[key] for key in found.front]
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(places))


def test_no_cycle_of_arms_that_beat_each_other() -> None:
    found = compared(made.arms(made.USUAL))
    beats = {(v.arm, v.other) for v in found.versus if v.beats}
    assert not any((b, a) in beats for a, b in beats)
