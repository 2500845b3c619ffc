"""The loss against loops written out, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.training import losses

pytestmark = pytest.mark.unit


def _logits(n: int, v: int, seed: int) -> torch.Tensor:
    return torch.randn(n, v, generator=torch.Generator().manual_seed(seed)) * 3


def test_nll_is_that_of_a_loop() -> None:
    logits, targets = _logits(9, 7, 1), torch.tensor([0, 6, 3, 3, 1, 2, 5, 4, 0])
    expected = [
        math.log(sum(math.exp(x) for x in row)) - row[t]
        for row, t in zip(logits.double().tolist(), targets.tolist(), strict=True)
    ]
    assert losses.nll(logits, targets).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_divergence_is_that_of_a_loop(direction: losses.Direction) -> None:
    ours, theirs = _logits(5, 6, 2), _logits(5, 6, 3)

    def probabilities(row: list[float]) -> list[float]:
        total = sum(math.exp(x) for x in row)
        return [math.exp(x) / total for x in row]

    expected = []
    for a, b in zip(ours.double().tolist(), theirs.double().tolist(), strict=True):
        p, q = probabilities(a), probabilities(b)
        left, right = (q, p) if direction == "forward" else (p, q)
        expected.append(sum(x * math.log(x / y) for x, y in zip(left, right, strict=True)))
    assert losses.divergence(ours, theirs, direction).tolist() == pytest.approx(expected, rel=1e-5)


def test_forward_and_reverse_are_not_the_same_and_both_are_zero_at_the_reference() -> None:
    ours, theirs = _logits(5, 6, 2), _logits(5, 6, 3)
    assert not torch.allclose(losses.divergence(ours, theirs, "forward"), losses.divergence(ours, theirs, "reverse"))
    for direction in ("forward", "reverse"):
        assert losses.divergence(ours, ours, direction).abs().max() < 1e-6


def test_divergence_of_other_vocabularies_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        losses.divergence(_logits(2, 5, 0), _logits(2, 6, 0), "forward")


@pytest.mark.parametrize("what", ["nll", "forward", "reverse"])
def test_chunks_change_neither_value_nor_gradient(what: str) -> None:
    reference, targets = _logits(11, 6, 4), torch.arange(11) % 6
    found = []
    for chunk in (3, 100):
        logits = _logits(11, 6, 5).requires_grad_()
        if what == "nll":
            values = losses.nll(logits, targets, chunk)
        else:
            values = losses.divergence(logits, reference, what, chunk)  # type: ignore[arg-type]
        (values * torch.arange(1.0, 12.0)).sum().backward()
        found.append((values.detach(), logits.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-6, atol=1e-7)


@given(st.lists(st.integers(0, 1), min_size=2, max_size=12), st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_per_sample_weights_sum_to_the_samples_weight(mask: list[int], factor: float) -> None:
    weights = losses.sample_weights(np.asarray(mask, dtype=np.float32), "per_sample", factor)
    assert float(weights.sum()) == pytest.approx(factor if any(mask) else 0.0, rel=1e-5)
    assert ((weights > 0) == (np.asarray(mask) > 0)).all()


def test_token_weights_multiply_the_mask_and_keep_what_is_not_learnt() -> None:
    ids, mask = np.array([5, 7, 5, 8]), np.array([0, 1, 1, 1], dtype=np.float32)
    assert losses.token_weights(ids, mask, {5: 0.25, 8: 0.0}).tolist() == [0, 1, 0.25, 0]
    assert mask.tolist() == [0, 1, 1, 1]


def test_masking_goes_by_perplexity_not_by_its_logarithm() -> None:
    nll = np.log(np.array([1.0, 2.4, 2.6, 50.0])).astype(np.float32)
    masked = losses.mask_surprising(np.array([0, 1, 1, 0.5], dtype=np.float32), nll, 2.5)
    assert masked.tolist() == [0, 1, 0, 0]


def test_the_weighted_mean_is_a_loops_and_zero_where_nothing_counts() -> None:
    values, weights = torch.tensor([1.0, 4.0, 2.0]), torch.tensor([0.5, 0.0, 1.5])
    assert float(losses.weighted(values, weights, weights.sum())) == pytest.approx((0.5 + 3.0) / 2.0)
    assert float(losses.weighted(values, weights * 0, torch.tensor(0.0))) == 0.0


def test_a_summary_is_that_of_loops() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(30)
    channels, documents = rng.integers(0, 2, 30), rng.integers(0, 4, 30)
    special = rng.random(30) < 0.3
    tally = losses.tally(
        *(torch.from_numpy(a) for a in (values, channels, documents, special)), n_channels=3, n_tokens=77
    )
    twice = losses.summary(tally + tally, ["a", "b", "c"])
    one = losses.summary(tally, ["a", "b", "c"])
    assert one["per_token"] == pytest.approx(values.mean())
    assert one["per_sample"] == pytest.approx(np.mean([values[documents == d].mean() for d in range(4)]))
    assert one["special"] == pytest.approx(values[special].mean())
    assert one["channels"] == pytest.approx({"a": values[channels == 0].mean(), "b": values[channels == 1].mean()})
    assert (one["tokens"], twice["tokens"]) == (77, 154)
    assert twice["per_sample"] == pytest.approx(one["per_sample"])
