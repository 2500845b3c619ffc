"""Choosing next tokens, and what is recorded about the choice.

A sample must be the same alone or inside a batch. So each row has random numbers of its own (a
torch.Generator on the CPU, seeded with the sample's seed, whatever the device), and tokens are drawn by
inverting the cumulated distribution in token order, in float64: rounding noise of another batch shape moves a
boundary by 1e-7, not the order of candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from forgetbench.types import TopTokens

_BLOCK = 256


class UniformStream:
    """Uniform numbers in [0, 1) from a seed. Drawn in blocks, so that the k-th does not depend on a limit."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._block: list[float] = []
        self._next = 0

    def draw(self) -> float:
        if self._next >= len(self._block):
            self._block = torch.rand(_BLOCK, generator=self._generator, dtype=torch.float64).tolist()
            self._next = 0
        value = self._block[self._next]
        self._next += 1
        return value


@dataclass(slots=True)
class Chosen:
    """One step of a batch; lists are by row."""

    tokens: list[int]
    logprobs: list[float]
    """Natural log, raw distribution (temperature 1, untruncated)."""
    entropies: list[float] | None
    """Nats, raw distribution."""
    top: list[TopTokens] | None


def nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero what lies outside each row's nucleus: the smallest set of likeliest tokens whose mass reaches
    top_p.

    probabilities [rows, vocab], top_p [rows]. Not renormalised. Source: Holtzman et al. 2020, section 3.1.
    """
    ordered, places = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p[:, None], ordered, 0.0)
    return torch.zeros_like(probabilities).scatter_(-1, places, kept)


def choose(
    logits: torch.Tensor,
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    streams: Sequence[UniformStream | None],
    *,
    entropy: bool,
    top_m: int,
) -> Chosen:
    """Next token of each row from float32 logits [rows, vocab]. Temperature 0 is greedy."""
    logprobs = torch.log_softmax(logits, dim=-1)
    tokens = logits.argmax(dim=-1)
    drawn = [i for i, t in enumerate(temperatures) if t > 0]
    if drawn:
        index = torch.tensor(drawn, device=logits.device)
        heat = torch.tensor([temperatures[i] for i in drawn], dtype=torch.float64, device=logits.device)
        weights = torch.softmax(logits[index].double() / heat[:, None], dim=-1)
        if any(top_ps[i] < 1 for i in drawn):
            limits = torch.tensor([top_ps[i] for i in drawn], dtype=torch.float64, device=logits.device)
            weights = nucleus(weights, limits)
        cumulated = weights.cumsum(dim=-1)
        uniforms = [stream.draw() for i in drawn if (stream := streams[i]) is not None]
        points = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None]
        picked = torch.searchsorted(cumulated, points * cumulated[:, -1:], right=True)
        tokens[index] = picked[:, 0].clamp(max=logits.shape[-1] - 1)
    picked_logprobs = logprobs.gather(1, tokens[:, None])[:, 0]
    return Chosen(
        tokens=tokens.tolist(),
        logprobs=picked_logprobs.tolist(),
        entropies=torch.special.entr(logprobs.exp()).sum(dim=-1).tolist() if entropy else None,
        top=_top(logprobs, top_m) if top_m else None,
    )


def _top(logprobs: torch.Tensor, m: int) -> list[TopTokens]:
    values, ids = logprobs.topk(min(m, logprobs.shape[-1]), dim=-1)
    tails = (1.0 - values.double().exp().sum(dim=-1)).clamp(min=0.0)
    return [
        TopTokens(ids=tuple(i), logprobs=tuple(v), tail_mass=t)
        for i, v, t in zip(ids.tolist(), values.tolist(), tails.tolist(), strict=True)
    ]
