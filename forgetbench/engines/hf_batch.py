"""The tensors of one batch being generated: prefill, one step, dropping finished rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from forgetbench.engines.hf_model import GrowingLayer
from forgetbench.engines.hf_prefill import Prefiller
from forgetbench.engines.prefix import Budget, Row, Target, group_rows, merge_rows

_COMPACT_AT = 0.75
"""Finished rows are dropped once no more than this share of a batch is alive: dropping copies the cache."""


class Batch:
    """Prompts of one batch, one entry per row, and the cache that grows with their answers.

    In the cache rows end together: a shorter prompt has padding on its left, hidden by a mask.
    """

    def __init__(self, prefiller: Prefiller, budget: Budget, prompts: Sequence[tuple[int, ...]]) -> None:
        self.model = prefiller.model
        self._prefiller, self._budget = prefiller, budget
        self._prompts = prompts
        self._cache: Any = self.model.new_cache()
        self._mask: torch.Tensor | None = None
        """[rows, columns of the cache], 0 at padding; None where there is none."""
        self._lengths = torch.tensor([len(p) for p in prompts], device=self.model.device)
        """Tokens of each row that are in the cache: the next token's position."""
        self.computed = [0] * len(prompts)
        """Prompt tokens that went through the model for each row (equal prompts and a shared beginning: the first)."""

    def prefill(self) -> torch.Tensor:
        """Logits [rows, vocab] of each row's first new token. Equal prompts are computed once."""
        longest = max(len(p) for p in self._prompts)
        mask = torch.zeros(len(self._prompts), longest, dtype=torch.long)
        for i, prompt in enumerate(self._prompts):
            mask[i, longest - len(prompt) :] = 1
        if bool((mask == 0).any()):
            self._mask = mask.to(self.model.device)
        return self._prefill_shared(longest) if self.model.shares_prefix else self._prefill_padded(longest)

    def _prefill_shared(self, longest: int) -> torch.Tensor:
        """Compute prompts without padding or with little, and set their keys and values side by side."""
        places: dict[tuple[int, ...], list[int]] = {}
        for i, prompt in enumerate(self._prompts):
            places.setdefault(prompt, []).append(i)
        rows = {p: Row(p, [Target(p, len(p) - 1, (0,))]) for p in places}
        first: list[torch.Tensor] = [torch.empty(0)] * len(self._prompts)
        for group in group_rows(merge_rows(rows), self._budget):
            wanted = [(i, t.start) for i, row in enumerate(group.rows) for t in row.targets]
            before = self._prefiller.meter.computed_tokens
            logits, cache = self._prefiller.forward([r.ids for r in group.rows], group.shared, wanted, keep_cache=True)
            owners = [(i, t.owner) for i, row in enumerate(group.rows) for t in row.targets]
            tails = [len(r.ids) - group.shared for r in group.rows]
            for row, tail in zip(group.rows, tails, strict=True):
                self.computed[places[row.targets[0].owner][0]] += tail
            first_place = places[group.rows[0].targets[0].owner][0]
            self.computed[first_place] += self._prefiller.meter.computed_tokens - before - sum(tails)
            for number, (i, prompt) in enumerate(owners):
                for place in places[prompt]:
                    first[place] = logits[number]
                    self._copy(cache, i, place, len(prompt), longest)
        for layer in self._cache.layers:
            layer.show(longest)
        return torch.stack(first)

    def _copy(self, source: Any, row: int, place: int, length: int, longest: int) -> None:
        """Put a prompt's keys and values into a row of the batch's cache, at the right end."""
        for number, layer in enumerate(source.layers):
            if number == len(self._cache.layers):
                self._cache.layers.append(GrowingLayer.with_room(layer.keys, layer.values, len(self._prompts), longest))
            self._cache.layers[number].put(
                place, longest - length, layer.keys[row, :, :length], layer.values[row, :, :length]
            )

    def _prefill_padded(self, longest: int) -> torch.Tensor:
        """One masked forward pass, for architectures whose state is not keys and values by position."""
        device = self.model.device
        ids = torch.zeros(len(self._prompts), longest, dtype=torch.long)
        for i, prompt in enumerate(self._prompts):
            ids[i, longest - len(prompt) :] = torch.tensor(prompt)
        self.computed = [len(prompt) for prompt in self._prompts]
        self._prefiller.meter.computed_tokens += sum(self.computed)
        columns = torch.arange(longest, device=device)[None]
        rows = torch.arange(len(self._prompts), device=device)
        return self.model.logits(
            rows,
            torch.full_like(rows, longest - 1),
            input_ids=ids.to(device),
            attention_mask=self._mask,
            position_ids=(columns - (longest - self._lengths)[:, None]).clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
        )

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
        """Whether to drop finished rows now. Recurrent states cannot be cut, so there rows stay to the end."""
        return alive == 0 or (self.model.shares_prefix and alive <= _COMPACT_AT * rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows, and the columns on the left that are padding for all that stay."""
        index = torch.tensor(rows, device=self.model.device)
        self._lengths = self._lengths[index]
        drop = 0
        if self._mask is not None:
            mask = self._mask[index]
            drop = int((mask.sum(dim=0) == 0).sum())
            self._mask = mask[:, drop:]
            if bool((self._mask == 1).all()):
                self._mask = None
        for layer in self._cache.layers:
            layer.select(index, drop)
