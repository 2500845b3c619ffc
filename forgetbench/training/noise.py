"""NEFTune: uniform noise on the input embeddings, its size set by each document's own length.

Source: Jain et al., "NEFTune: Noisy Embeddings Improve Instruction Finetuning", arXiv 2310.05914: noise uniform in
[-1, 1], scaled by alpha / sqrt(L d). Taken over a packed row, L would be the row's length, and the noise of a short
document several times too small; here L is the length of its own document.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def scales(documents: torch.Tensor, width: int, alpha: float) -> torch.Tensor:
    """alpha / sqrt(length of the token's document * width), float32, of the shape of `documents`; padding (-1): 0."""
    import torch

    flat = documents.flatten()
    real = flat >= 0
    lengths = torch.bincount(flat[real], minlength=1)
    own = lengths[flat.clamp_min(0)].float().clamp_min(1)
    scale = alpha / (own * width).sqrt()
    return torch.where(real, scale, torch.zeros_like(scale)).view(documents.shape)


def generator(device: torch.device, *key: int) -> torch.Generator:
    """Random numbers that depend on the key alone (seed, step, ...), so that a resumed run draws the same."""
    import torch

    seed = int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device=device).manual_seed(seed)


@contextmanager
def neftune(model: Any, documents: torch.Tensor, alpha: float, random: torch.Generator) -> Iterator[None]:
    """Within it, the input embeddings of `model` carry the noise. `documents` [rows, length]: see collate."""
    import torch

    def add(_: Any, __: Any, embedded: Any) -> Any:
        noise = torch.rand(embedded.shape, generator=random, device=embedded.device, dtype=torch.float32) * 2 - 1
        return embedded + (noise * scales(documents, embedded.shape[-1], alpha)[..., None]).to(embedded.dtype)

    handle = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
