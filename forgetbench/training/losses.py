"""The loss of a fine-tune as pure functions: weights of tokens, negative log-likelihood, divergence to a reference.

    loss = sum_t w_t nll_t / sum_t w_t        the sums run over all ranks and all accumulation steps of one update

per token   w_t = 1 for each supervised token: a long answer counts for more than a short one.
per sample  w_t = 1 / (supervised tokens of its sample): each sample counts once, whatever its length.

The weight of a token is the weight of *predicting* it, so that a document's first token always has weight 0. That is
also what makes a packed row safe: nothing is predicted across a document's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Reduction = Literal["per_token", "per_sample"]
Direction = Literal["forward", "reverse"]
Floats = NDArray[np.float32]
CHUNK = 1024
"""Positions whose float32 log-probabilities are in memory at once."""


def token_weights(ids: NDArray[np.int64], mask: Floats, by_token: Mapping[int, float]) -> Floats:
    """The mask with the weights of single vocabulary entries multiplied in. Shapes [length]."""
    weights = mask.copy()
    for token, weight in by_token.items():
        weights[ids == token] *= np.float32(weight)
    return weights


def sample_weights(weights: Floats, reduction: Reduction, factor: float = 1.0) -> Floats:
    """Final loss weights of one sample from its token weights, shape [length].

    `factor` is the weight of the sample (its own times that of its file and task_type). A sample in which nothing is
    supervised any more (masked tokens) keeps weight 0.
    """
    total = float(weights.sum(dtype=np.float64))
    scale = factor / total if reduction == "per_sample" and total > 0 else factor
    return (weights * np.float32(scale)).astype(np.float32)


def mask_surprising(weights: Floats, nll: Floats, threshold: float) -> Floats:
    """Selective token masking: weight 0 where the base's perplexity exp(nll) of the token is above `threshold`.

    Shapes [length]; `nll` in nats under the base, entry t for token t (entry 0 is not used). Source: Wu et al.,
    "Mitigating Forgetting in LLM Fine-Tuning via Low-Perplexity Token Learning", arXiv 2501.14315.
    """
    return np.where(nll > np.log(threshold), np.float32(0), weights).astype(np.float32)


def nll(logits: torch.Tensor, targets: torch.Tensor, chunk: int = CHUNK) -> torch.Tensor:
    """Negative log-likelihood in nats, float32 [n], from logits [n, vocabulary] and targets [n].

    The float32 copy of the logits exists for one chunk at a time, in the backward pass too.
    """
    from torch.nn.functional import cross_entropy

    def piece(part: Any, wanted: Any) -> Any:
        return cross_entropy(part.float(), wanted, reduction="none")

    return _chunked(piece, chunk, logits, targets)


def divergence(logits: torch.Tensor, reference: torch.Tensor, direction: Direction, chunk: int = CHUNK) -> torch.Tensor:
    """Kullback-Leibler divergence in nats at each position, float32 [n], from logits [n, vocabulary].

    forward  KL(reference || model) = sum_v p_ref (log p_ref - log p_model): keeps all that the reference can say.
    reverse  KL(model || reference) = sum_v p_model (log p_model - log p_ref): forbids what the reference would not say.
    Vocabularies that differ raise ValueError: the measure is undefined.
    """
    if logits.shape != reference.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and reference {tuple(reference.shape)} differ in shape")

    def piece(ours: Any, theirs: Any) -> Any:
        p, q = ours.float().log_softmax(-1), theirs.float().log_softmax(-1)
        return (q.exp() * (q - p)).sum(-1) if direction == "forward" else (p.exp() * (p - q)).sum(-1)

    return _chunked(piece, chunk, logits, reference)


def _chunked(piece: Any, chunk: int, *tensors: torch.Tensor) -> torch.Tensor:
    import torch
    from torch.utils.checkpoint import checkpoint

    parts = zip(*(torch.split(t, chunk) for t in tensors), strict=True)
    if len(tensors[0]) <= chunk or not torch.is_grad_enabled():
        return torch.cat([piece(*part) for part in parts])
    # No random numbers in a piece, so that there is no state to keep.
    return torch.cat([checkpoint(piece, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def weighted(values: torch.Tensor, weights: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """sum(weights * values) / denominator, a scalar; 0 where the denominator is 0 (then all weights are)."""
    total = (values * weights).sum()
    return total / denominator.where(denominator != 0, denominator.new_ones(()))


def sums_by(values: torch.Tensor, groups: torch.Tensor, n: int) -> torch.Tensor:
    """Sum and count of `values` [m] in each group, float64 [n, 2]; `groups` [m] holds 0 .. n-1."""
    import torch

    out = torch.zeros((n, 2), dtype=torch.float64, device=values.device)
    pairs = torch.stack([values.detach().double(), torch.ones_like(values, dtype=torch.float64)], dim=1)
    return out.index_add_(0, groups, pairs)


def empty_tally(n_channels: int) -> torch.Tensor:
    """Rows of (sum, count), float64 [n_channels + 4, 2]: the nll of each channel, of special tokens, of all; the
    samples' own means; tokens read (sum only). Tallies of batches and of ranks add up."""
    import torch

    return torch.zeros((n_channels + 4, 2), dtype=torch.float64)


def tally(
    values: torch.Tensor,
    channels: torch.Tensor,
    documents: torch.Tensor,
    special: torch.Tensor,
    *,
    n_channels: int,
    n_tokens: int,
) -> torch.Tensor:
    """The tally of one batch from the nll [m] of its supervised tokens, their channels, documents, and whether each
    is a special token."""
    import torch

    out = empty_tally(n_channels)
    out[:n_channels] = sums_by(values, channels, n_channels)
    out[n_channels] = sums_by(values[special], torch.zeros_like(channels[special]), 1)[0]
    out[n_channels + 1] = out[:n_channels].sum(0)
    if len(values):
        by_document = sums_by(values, documents, int(documents.max()) + 1)
        means = by_document[by_document[:, 1] > 0]
        out[n_channels + 2, 0] = (means[:, 0] / means[:, 1]).sum()
        out[n_channels + 2, 1] = len(means)
    out[n_channels + 3, 0] = n_tokens
    return out


def summary(tallied: torch.Tensor, channels: Sequence[str]) -> dict[str, Any]:
    """Means in nats from a tally: per token, per sample, of special tokens, of each channel that occurs; tokens."""
    n = len(channels)
    means = [float(s / c) if c else None for s, c in tallied]
    return {
        "per_token": means[n + 1],
        "per_sample": means[n + 2],
        "special": means[n],
        "channels": {c: m for c, m in zip(channels, means[:n], strict=True) if m is not None},
        "tokens": int(tallied[n + 3, 0]),
    }
