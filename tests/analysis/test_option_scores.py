from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from forgetbench.analysis.option_scores import (
    OptionScores,
    bins_of,
    calibrated_error,
    calibration_error,
    judged,
    option_measures,
)
from tests.analysis.null_worlds import options

pytestmark = pytest.mark.unit


def test_probabilities_against_scipy() -> None:
    scores = options(0)
    found = judged(scores.base, scores.gold)
    p = softmax(scores.base, axis=1)
    assert found.confidence == pytest.approx(p.max(axis=1))
    assert found.gold == pytest.approx(p[np.arange(len(p)), scores.gold])
    assert found.correct.tolist() == (p.argmax(axis=1) == scores.gold).tolist()
    assert found.brier == pytest.approx(
        [((row - np.eye(4)[g]) ** 2).sum() for row, g in zip(p, scores.gold, strict=True)]
    )


def test_options_that_an_item_lacks_count_for_nothing() -> None:
    short, padded = np.log([[0.6, 0.4]]), np.array([[*np.log([0.6, 0.4]), -np.inf]])
    one, two = judged(short, np.array([1])), judged(padded, np.array([1]))
    assert np.array(one) == pytest.approx(np.array(two))


def test_calibration_error_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    confidence, correct = rng.random(100), (rng.random(100) < 0.5).astype(float)
    order = np.argsort(confidence)
    expected = sum(abs(correct[b].mean() - confidence[b].mean()) * 10 for b in np.split(order, 10)) / 100
    assert calibration_error(confidence, correct) == pytest.approx(expected)
    assert np.bincount(bins_of(confidence)).tolist() == [10] * 10


def test_equal_confidences_share_a_bin() -> None:
    confidence = np.repeat([0.3, 0.9], [70, 30])
    assert len(set(bins_of(confidence).tolist())) == 2
    correct = (np.random.default_rng(2).random(100) < 0.5).astype(float)
    order = np.random.default_rng(3).permutation(100)
    assert calibration_error(confidence, correct) == pytest.approx(calibration_error(confidence[order], correct[order]))


def test_what_a_calibrated_model_shows() -> None:
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.3, 1.0, 400)
    shown = [calibration_error(confidence, (rng.random(400) < confidence).astype(float)) for _ in range(400)]
    assert np.mean(shown) == pytest.approx(calibrated_error(confidence), rel=0.05)


def test_an_overconfident_candidate() -> None:
    scores = options(5, items=600)
    found = {m.name: m for m in option_measures(OptionScores(scores.base, 4 * scores.base, scores.gold, scores.labels))}
    for name in ("calibration_error", "overconfidence", "brier"):
        assert found[name].proven, name
        assert found[name].difference > 0.0, name


def test_the_right_answer_moves_before_accuracy_does() -> None:
    rng = np.random.default_rng(6)
    gold = np.zeros(200, dtype=np.int64)
    base = np.column_stack([np.full(200, -1.0), np.full(200, -5.0)])
    candidate = base + np.column_stack([-1.0 + 0.2 * rng.normal(size=200), np.zeros(200)])
    scores = OptionScores(base, candidate, gold, np.arange(200))
    assert (judged(base, gold).correct == judged(candidate, gold).correct).all()
    found = {m.name: m for m in option_measures(scores)}
    assert found["answer_logprob"].proven
    assert found["answer_logprob"].candidate == pytest.approx(candidate[:, 0].mean())
    assert found["answer_probability"].proven


def test_identical_scores_and_order() -> None:
    scores = options(7)
    for m in option_measures(OptionScores(scores.base, scores.base, scores.gold, scores.labels)):
        assert m.difference == 0.0
        assert m.delta is not None
        assert m.delta.low <= 0.0 <= m.delta.high
    order = np.random.default_rng(8).permutation(len(scores.gold))
    shuffled = OptionScores(scores.base[order], scores.candidate[order], scores.gold[order], scores.labels)
    doubled = OptionScores(
        *(np.repeat(x, 2, axis=0) for x in (scores.base, scores.candidate, scores.gold, scores.labels))
    )
    for other in (shuffled, doubled):
        for one, two in zip(option_measures(scores), option_measures(other), strict=True):
            assert (two.base, two.candidate) == (pytest.approx(one.base), pytest.approx(one.candidate)), one.name


@pytest.mark.parametrize("gold", [[4, 0], [-1, 0], [0], [1, 0]])
def test_what_cannot_be_scored(gold: list[int]) -> None:
    scores = np.array([[-1.0, -np.inf, -2.0], [-1.0, -1.0, -1.0]])
    with pytest.raises(ValueError):
        OptionScores(scores, scores, np.array(gold), np.arange(len(gold)))


def test_errors_of_one_size_in_opposite_directions_are_no_proof_of_sameness() -> None:
    """Every item differs, each side is off by as much: nothing that is left out moves the change."""
    sure, unsure = np.log([0.7, 0.3]), np.log([0.3, 0.7])
    scores = OptionScores(np.tile(sure, (20, 1)), np.tile(unsure, (20, 1)), np.zeros(20, dtype=np.int64), np.arange(20))
    found = option_measures(scores)[0]
    assert found.name == "calibration_error"
    assert found.delta is not None
    assert found.delta.low < found.difference < found.delta.high
    flipped = OptionScores(np.tile(sure, (20, 1)), np.tile(sure, (20, 1)), np.zeros(20, dtype=np.int64), np.arange(20))
    same = option_measures(flipped)[0].delta
    assert same is not None
    assert same.low < 0.0 < same.high
