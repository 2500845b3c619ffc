"""Choosing tokens: the nucleus, the distribution drawn from, and the random numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.engines.sampling import Chosen, UniformStream, choose, nucleus

pytestmark = pytest.mark.unit


@given(weights=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12), top_p=st.floats(0.05, 1.0))
@settings(max_examples=200, deadline=None)
def test_nucleus_is_the_smallest_set_that_reaches_top_p(weights: list[float], top_p: float) -> None:
    probabilities = torch.tensor([weights], dtype=torch.float64)
    probabilities /= probabilities.sum()
    kept = nucleus(probabilities, torch.tensor([top_p], dtype=torch.float64))[0]
    inside = sorted(kept[kept > 0].tolist(), reverse=True)
    assert inside == sorted(probabilities[0].tolist(), reverse=True)[: len(inside)]
    assert sum(inside) >= top_p - 1e-9
    assert sum(inside[:-1]) < top_p


def draw(logits: torch.Tensor, temperature: float, top_p: float, seeds: range) -> Chosen:
    rows = len(seeds)
    return choose(
        logits.expand(rows, -1),
        [temperature] * rows,
        [top_p] * rows,
        [UniformStream(s) for s in seeds],
        entropy=True,
        top_m=0,
    )


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5]])
    counts = torch.bincount(torch.tensor(draw(logits, 0.7, 1.0, range(20_000)).tokens), minlength=5)
    expected = torch.softmax(logits[0].double() / 0.7, -1) * 20_000
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 18.5  # 99.9 % point at 4 degrees of freedom


def test_draws_stay_in_the_nucleus() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    drawn = draw(logits, 1.0, 0.8, range(500))
    assert set(drawn.tokens) == {0, 1}
    # Statistics are of the raw distribution, whatever was drawn from.
    raw = torch.log_softmax(logits[0], -1)
    assert drawn.logprobs == pytest.approx([raw[t].item() for t in drawn.tokens])
    assert drawn.entropies == pytest.approx([-(raw.exp() * raw).sum().item()] * 500)


def test_greedy_rows_beside_sampled_ones() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0]]).repeat(3, 1)
    mixed = choose(logits, [0.0, 5.0, 0.0], [1.0] * 3, [None, UniformStream(4), None], entropy=False, top_m=0)
    assert (mixed.tokens[0], mixed.tokens[2]) == (1, 1)
    assert mixed.entropies is None


def test_impossible_tokens_are_never_drawn_and_add_no_entropy() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    drawn = draw(logits, 1.0, 1.0, range(300))
    assert set(drawn.tokens) == {1, 3}
    assert drawn.entropies == pytest.approx([math.log(2)] * 300)


def test_a_stream_repeats_and_does_not_depend_on_how_far_it_is_read() -> None:
    one, two = UniformStream(9), UniformStream(9)
    first = [one.draw() for _ in range(600)]
    assert first == [two.draw() for _ in range(600)]
    assert len(set(first)) == 600
    assert all(0 <= u < 1 for u in first)
    assert UniformStream(2**63 - 1).draw() != UniformStream(10).draw()
