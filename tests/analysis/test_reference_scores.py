"""P(answer | question): against scipy and direct means, what changes nothing, and what moves first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp

from forgetbench.analysis.reference_scores import LEAST, ReferenceScores, log_of_sum, reference_measures
from tests.analysis.null_worlds import references

pytestmark = pytest.mark.unit


def found(scores: ReferenceScores) -> dict[str, tuple[float, float]]:
    return {m.name: (m.base or 0.0, m.candidate) for m in reference_measures(scores)}


@given(st.lists(st.floats(-700.0, 0.0), min_size=1, max_size=8))
def test_the_log_of_a_sum_is_scipys(logprobs: list[float]) -> None:
    values = np.asarray(logprobs)
    assert log_of_sum(values) == pytest.approx(min(0.0, float(logsumexp(values))), abs=1e-12)


def test_answers_that_are_impossible() -> None:
    assert log_of_sum(np.asarray([-np.inf, -np.inf])) == -np.inf
    assert log_of_sum(np.asarray([-np.inf, -1.0])) == pytest.approx(-1.0)


def test_values_against_direct_means() -> None:
    scores = references(3)
    made = found(scores)
    kept = [i for i, right in enumerate(scores.both_right) if right]
    for side, values, tokens in ((0, scores.base, scores.base_tokens), (1, scores.candidate, scores.candidate_tokens)):
        assert made["reference_logprob"][side] == pytest.approx(sum(values) / len(values))
        assert made["reference_logprob_per_token"][side] == pytest.approx(
            sum(v / t for v, t in zip(values, tokens, strict=True)) / len(values)
        )
        assert made["reference_probability"][side] == pytest.approx(sum(2.718281828459045**v for v in values) / 120)
        assert made["kept_reference_logprob"][side] == pytest.approx(sum(values[i] for i in kept) / len(kept))


def test_the_interval_of_many_items_is_about_students() -> None:
    scores = references(4, items=400)
    d = scores.candidate - scores.base
    expected = stats.t.interval(0.95, 399, d.mean(), stats.sem(d))
    delta = reference_measures(scores)[0].delta
    assert delta is not None
    width = expected[1] - expected[0]
    assert (delta.low, delta.high) == (
        pytest.approx(expected[0], abs=0.15 * width),
        pytest.approx(expected[1], abs=0.15 * width),
    )


def test_it_moves_before_an_answer_flips() -> None:
    base = references(5)
    right = base.base > -0.5
    candidate = np.where(right, base.base - 0.1, base.base)
    scores = replace(base, candidate=candidate, both_right=right)
    made = {m.name: m for m in reference_measures(scores)}
    for name in ("reference_logprob", "reference_probability", "kept_reference_logprob"):
        assert made[name].proven, name
        assert made[name].difference < 0.0, name
    assert made["kept_reference_logprob"].difference == pytest.approx(-0.1)


def test_order_changes_nothing_and_equal_sides_show_nothing() -> None:
    scores = references(6)
    order = np.random.default_rng(1).permutation(120)
    arrays = ("base", "candidate", "base_tokens", "candidate_tokens", "labels", "both_right")
    shuffled = replace(scores, **{name: getattr(scores, name)[order] for name in arrays})
    for name, values in found(scores).items():
        assert found(shuffled)[name] == pytest.approx(values)
    for m in reference_measures(replace(scores, candidate=scores.base)):
        assert m.difference == 0.0
        assert not m.proven


def test_the_tasks_that_lost_most_are_named() -> None:
    scores = references(7)
    tasks = tuple("abcd"[i % 4] for i in range(120))
    candidate = scores.base - np.asarray(["abcd".index(t) for t in tasks])
    (first, *_) = reference_measures(replace(scores, tasks=tasks, candidate=candidate))
    assert first.examples == ("d: -3.00 nats on 30 items", "c: -2.00 nats on 30 items", "b: -1.00 nats on 30 items")
    assert reference_measures(scores)[0].examples == ()


def test_few_items_tell_nothing() -> None:
    assert reference_measures(references(8, items=LEAST - 1)) == ()
    few = replace(references(9), both_right=np.arange(120) < LEAST - 1)
    assert [m.name for m in reference_measures(few)] == [
        "reference_logprob",
        "reference_probability",
        "reference_logprob_per_token",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        {"base": np.full(120, 0.1)},
        {"candidate": np.full(120, -np.inf)},
        {"base": np.full(119, -1.0)},
        {"base_tokens": np.zeros(120)},
        {"tasks": ()},
    ],
)
def test_what_is_no_log_probability(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(references(1), **broken)  # type: ignore[arg-type]
