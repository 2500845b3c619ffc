"""A judgement as target and general score: against loops over the items, and its invariances. Under a second."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.analysis.types import PairedScores
from forgetbench.arms.score import Selection, cells_of, score
from forgetbench.errors import UsageError
from forgetbench.types import ItemKey

pytestmark = pytest.mark.unit


def scores(task: str, task_types: list[str], base: list[float], candidate: list[float], **more: object) -> PairedScores:
    n = len(base)
    clusters = more.pop("clusters", list(range(n)))
    settings: dict[str, object] = {
        "view": "ability", "metric": "acc", "decode_id": "greedy", "primary": True, "binary": True, "single": True,
        **more,
    }  # fmt: skip
    return PairedScores(
        task=task,
        task_types=np.asarray(task_types, dtype=object),
        strata=np.asarray([None] * n, dtype=object),
        clusters=np.asarray(clusters, dtype=np.int64),
        base=np.asarray(base, dtype=float),
        candidate=np.asarray(candidate, dtype=float),
        base_outcomes=np.zeros((n, 6), dtype=np.int64),
        candidate_outcomes=np.zeros((n, 6), dtype=np.int64),
        n_choices=np.full(n, math.nan),
        keys=np.asarray([ItemKey(task, f"{i:04d}") for i in range(n)], dtype=object),
        base_flags=np.zeros((n, 4), dtype=np.int64),
        candidate_flags=np.zeros((n, 4), dtype=np.int64),
        base_samples=np.ones(n),
        candidate_samples=np.ones(n),
        **settings,  # type: ignore[arg-type]
    )


def cells(*parts: PairedScores):  # type: ignore[no-untyped-def]
    return cells_of(SimpleNamespace(scores=parts))  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_macro_average_against_a_loop_over_the_items(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    kinds = [str(k) for k in rng.choice(["x/a", "x/b", "y/c", "z/d"], n)]
    base, candidate = rng.random(n).round(3), rng.random(n).round(3)
    candidate[rng.random(n) < 0.2] = math.nan
    selection = Selection("general", ("x", "y/*"))
    by_type: dict[str, list[tuple[float, float]]] = {}
    for kind, b, c in zip(kinds, base, candidate, strict=True):
        if kind[0] in "xy" and not math.isnan(c):
            by_type.setdefault(kind, []).append((b, c))
    half = n // 2
    parts = [scores("one", kinds[:half], [*base[:half]], [*candidate[:half]])] if half else []
    found = cells(*parts, scores("two", kinds[half:], [*base[half:]], [*candidate[half:]]))
    if not by_type:
        with pytest.raises(UsageError, match="no scored items of x, y"):
            score(found, selection)
        return
    made = score(found, selection)
    means = [tuple(sum(r[i] for r in rows) / len(rows) for i in (0, 1)) for rows in by_type.values()]
    assert made.base == pytest.approx(sum(m[0] for m in means) / len(means))
    assert made.candidate == pytest.approx(sum(m[1] for m in means) / len(means))
    assert made.delta == pytest.approx(made.candidate - made.base)
    assert made.n == sum(len(rows) for rows in by_type.values())


def test_greedy_answers_of_the_deciding_metric_alone() -> None:
    found = cells(
        scores("t", ["x/a"], [1.0], [0.0]),
        scores("t", ["x/a"], [1.0], [0.7], decode_id="T0.8/p1/K4"),
        scores("t", ["x/a"], [1.0], [0.2], metric="other", primary=False),
    )
    assert score(found, Selection("target")).candidate == 0.0
    sampled = cells(scores("t", ["x/a"], [1.0], [0.7], decode_id="T0.8/p1/K4"))
    assert score(sampled, Selection("target")).candidate == pytest.approx(0.7)


def test_each_view_is_a_task_type_of_its_own() -> None:
    found = cells(scores("t", ["x/a"] * 2, [1, 1], [1, 1]), scores("t", ["x/a"] * 2, [1, 1], [0, 1], view="chat"))
    assert score(found, Selection("g", views=("ability", "chat"))).candidate == pytest.approx(0.75)
    assert score(found, Selection("g", views=("chat",))).candidate == pytest.approx(0.5)
    with pytest.raises(
        UsageError, match=r"general: no scored items of the rest in the view as_used; .* x/a \(ability\)"
    ):
        score(found, Selection("general", views=("as_used",)))


def test_items_are_in_order_of_their_keys_and_clusters_named_by_their_first() -> None:
    one = scores("t", ["x/a", "x/b", "x/a"], [1, 0, 0], [0, 1, 1], clusters=[7, 3, 7])
    (a, b) = cells(one)
    (c, d) = cells(one.pick(np.asarray([2, 1, 0])))
    assert a.keys == c.keys == ("t:0000#0", "t:0002#0")
    assert a.clusters == c.clusters == ("t:0000#0", "t:0000#0")
    assert b.clusters == d.clusters == ("t:0001#0",)
    np.testing.assert_array_equal(a.candidate, c.candidate)


def test_what_is_left_out_wins_over_what_is_taken() -> None:
    selection = Selection("general", ("x",), without=("x/a",))
    assert selection.takes("ability", "x/b")
    assert not selection.takes("ability", "x/a")
    assert not selection.takes("ability", "y/b")
    assert not selection.takes("chat", "x/b")
