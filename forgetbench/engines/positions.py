"""What a Read asks at each position, computed from logits: one way for every engine that has logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import torch

from forgetbench.engines.reading import Position, Wanted

_BLOCK = 2**20
"""Entries of a [positions, vocab] float32 tensor that are worked on at a time: what a CPU's caches hold (4 MiB)."""
_GPU_BLOCK = 2**24
_BINS = 1024
_PER_NAT = 32
"""Log-probabilities down to -32 nats fall into bins of 1/32 nat, all others into the last."""


@torch.inference_mode()
def read_positions(logits: torch.Tensor, wanted: Sequence[Wanted]) -> list[Position]:
    """What is wanted at each of the positions, logits [positions, vocab] in float32, as the model gave them.

    Entropies and nuclei are of the temperature-1 distribution: -sum p ln p in nats, and the size of the smallest set
    of likeliest tokens whose mass reaches `nucleus` (Holtzman et al. 2020, section 3.1).
    """
    rows = max(1, (_BLOCK if logits.device.type == "cpu" else _GPU_BLOCK) // logits.shape[-1])
    found: list[Position] = []
    for start in range(0, len(wanted), rows):
        found += _block(torch.log_softmax(logits[start : start + rows], dim=-1), wanted[start : start + rows])
    return found


def _block(logprobs: torch.Tensor, wanted: Sequence[Wanted]) -> Iterator[Position]:
    device, vocabulary = logprobs.device, logprobs.shape[-1]
    tokens = torch.tensor([w.token for w in wanted], device=device)
    own = logprobs.gather(1, tokens[:, None])[:, 0].tolist()
    masses = logprobs.exp()
    entropies = -(masses * logprobs).sum(dim=-1)
    if bool(entropies.isnan().any()):  # a token of no mass at all, or a model that gives nan
        entropies = torch.special.entr(masses).sum(dim=-1)
    limits = torch.tensor([w.nucleus for w in wanted], dtype=torch.float64, device=device)
    sizes = _nucleus_sizes(logprobs, masses, limits).tolist()
    m = min(max(w.top_m for w in wanted), vocabulary)
    values, ids = logprobs.topk(m, dim=-1) if m else (logprobs[:, :0], tokens[:, None][:, :0])
    argmax = (ids[:, 0] if m else logprobs.argmax(dim=-1)).tolist()
    # [positions, m + 1]: the mass of the first 0, 1, ... m tokens.
    first = torch.nn.functional.pad(values.double().exp().cumsum(dim=-1), (1, 0)).tolist()
    at, nats = _at(logprobs, wanted), entropies.tolist()
    for i, (w, top, top_ids) in enumerate(zip(wanted, values.tolist(), ids.tolist(), strict=True)):
        n = min(w.top_m, vocabulary)
        tail = max(0.0, 1.0 - first[i][n])
        yield Position(own[i], nats[i], sizes[i], argmax[i], top_ids[:n], top[:n], tail, at[i])


def _nucleus_sizes(logprobs: torch.Tensor, masses: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Sizes [positions]. Only the bin in which the mass reaches the limit is sorted, a few tokens of many."""
    device, (rows, vocabulary) = logprobs.device, logprobs.shape
    bins = (logprobs * -_PER_NAT).nan_to_num_(0.0, _BINS, 0.0).clamp_(0, _BINS - 1).long()
    by_bin = torch.zeros(rows, _BINS, dtype=torch.float64, device=device).scatter_add_(1, bins, masses.double())
    upto = by_bin.cumsum(dim=-1)
    # Rounding may keep the mass of all tokens below a nucleus of 1: then the last bin.
    last = (upto < limits[:, None]).sum(dim=-1, keepdim=True).clamp(max=_BINS - 1)
    before = upto.gather(1, last) - by_bin.gather(1, last)
    row, token = (bins == last).nonzero(as_tuple=True)
    order = masses[row, token].argsort(descending=True)
    order = order[row[order].argsort(stable=True)]  # by row, in falling order of mass
    row, mass = row[order], masses[row[order], token[order]].double()
    running = mass.cumsum(0)
    ends = torch.bincount(row, minlength=rows).cumsum(0)
    # What the rows before have summed up to.
    offsets = torch.nn.functional.pad(running, (1, 0))[torch.nn.functional.pad(ends, (1, 0))[:-1]]
    short = running - offsets[row] + before[row, 0] < limits[row]
    inside = torch.bincount(row, weights=short.double(), minlength=rows).long()
    return ((bins < last).sum(dim=-1) + inside + 1).clamp(max=vocabulary)


def _at(logprobs: torch.Tensor, wanted: Sequence[Wanted]) -> Sequence[Sequence[float]]:
    """The log-probabilities of the wanted ids of each position."""
    rows = [i for i, w in enumerate(wanted) for _ in w.at]
    if not rows:
        return [()] * len(wanted)
    ids = [token for w in wanted for token in w.at]
    flat = logprobs[torch.tensor(rows, device=logprobs.device), torch.tensor(ids, device=logprobs.device)].tolist()
    ends = accumulate((len(w.at) for w in wanted), initial=0)
    return [flat[a:b] for a, b in pairwise(ends)]
