"""The tensors of one batch being generated: prefill, one step, dropping finished rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from forgetbench.engines.hf_model import GrowingLayer, HFModel

_COMPACT_AT = 0.75
"""Finished rows are dropped once no more than this share of a batch is alive: dropping copies the cache."""


class Batch:
    """Prompts of one batch, left-padded, and the cache that grows with their answers.

    `prompts` has one entry per row; equal ones are computed once and their keys and values copied.
    """

    def __init__(self, model: HFModel, prompts: Sequence[tuple[int, ...]]) -> None:
        self.model = model
        self._prompts = prompts
        self._cache: Any = model.new_cache()
        self._mask: torch.Tensor | None = None
        self._lengths = torch.tensor([len(p) for p in prompts], device=model.device)
        """Tokens of each row that are in the cache: the next token's position."""

    def prefill(self) -> torch.Tensor:
        """Logits [rows, vocab] of each row's first new token."""
        device = self.model.device
        distinct = list(dict.fromkeys(self._prompts))
        longest = max(len(p) for p in distinct)
        ids = torch.zeros(len(distinct), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(distinct):
            ids[i, longest - len(prompt) :] = torch.tensor(prompt)
            mask[i, longest - len(prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        padded = bool((mask == 0).any())
        rows = torch.arange(len(distinct), device=device)
        logits = self.model.logits(
            rows,
            torch.full_like(rows, longest - 1),
            input_ids=ids,
            attention_mask=mask if padded else None,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        number = {prompt: i for i, prompt in enumerate(distinct)}
        index = torch.tensor([number[p] for p in self._prompts], device=device)
        if len(distinct) < len(self._prompts):
            self._cache.batch_select_indices(index)
        self._mask = mask[index] if padded else None
        return logits[index]

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Feed one token per row; logits [rows, vocab] of the next."""
        device = self.model.device
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=-1)
        rows = torch.arange(len(tokens), device=device)
        logits = self.model.logits(
            rows,
            torch.zeros_like(rows),
            input_ids=torch.tensor(tokens, device=device)[:, None],
            attention_mask=self._mask,
            position_ids=self._lengths[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._lengths = self._lengths + 1
        return logits

    def should_compact(self, alive: int, rows: int) -> bool:
        return alive <= _COMPACT_AT * rows

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows, and the columns on the left that are padding for all that stay."""
        index = torch.tensor(rows, device=self.model.device)
        self._lengths = self._lengths[index]
        drop = 0
        if self._mask is not None:
            self._mask = self._mask[index]
            if self.model.shares_prefix:
                drop = int((self._mask.sum(dim=0) == 0).sum())
            self._mask = self._mask[:, drop:]
            if bool((self._mask == 1).all()):
                self._mask = None
        for layer in self._cache.layers:
            if isinstance(layer, GrowingLayer):
                layer.select(index, drop)
            else:
                layer.batch_select_indices(index)
