"""Forward passes over prompts that share beginnings: a prefix is computed once, its tails as batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from forgetbench.engines.hf_meter import Meter
from forgetbench.engines.hf_model import HFModel
from forgetbench.engines.prefix import common_prefix


class Prefiller:
    """Holds the keys and values of one prefix, cut back and extended as batches go by."""

    def __init__(self, model: HFModel, meter: Meter) -> None:
        self.model, self.meter = model, meter
        self._held: tuple[int, ...] = ()
        self._kv: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forget(self) -> None:
        """Drop what is held (memory ran out, or the work is done)."""
        self._held, self._kv = (), []

    def forward(
        self,
        rows: Sequence[tuple[int, ...]],
        shared: int,
        wanted: Sequence[tuple[int, int]],
        *,
        keep_cache: bool = False,
    ) -> tuple[torch.Tensor, Any]:
        """Compute rows that agree in their first `shared` tokens.

        `wanted` are (row, position) pairs with position >= shared. Returns float32 logits [len(wanted), vocab],
        and with `keep_cache` the cache whose keys and values are [rows, heads, longest row, size] (else None).
        Rows are padded on the right, where a causal model cannot look, so that no mask is needed.
        """
        device = self.model.device
        self._hold(rows[0][:shared])
        self.meter.computed_tokens += sum(len(r) - shared for r in rows)
        width = max(len(r) for r in rows) - shared
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row) - shared] = torch.tensor(row[shared:])
        where = torch.tensor(wanted, device=device)
        inputs: dict[str, Any] = {"input_ids": ids.to(device), "use_cache": False}
        cache = None
        if shared or keep_cache:
            cache = self.model.new_cache()
            for layer, (keys, values) in enumerate(self._kv if shared else ()):
                cache.update(
                    keys[..., :shared, :].expand(len(rows), -1, -1, -1),
                    values[..., :shared, :].expand(len(rows), -1, -1, -1),
                    layer,
                )
            positions = torch.arange(shared, shared + width, device=device)
            inputs |= {
                "past_key_values": cache,
                "use_cache": True,
                "position_ids": positions.expand(len(rows), -1),
            }
        logits = self.model.logits(where[:, 0], where[:, 1] - shared, **inputs)
        return logits, cache if keep_cache else None

    def in_pieces(self, row: tuple[int, ...], shared: int, wanted: Sequence[int], most: int) -> Iterator[torch.Tensor]:
        """Compute one row whose logits would be too many at once: float32 logits [most or fewer, vocab], in order.

        `wanted`: rising positions, none below `shared`. Each token is computed once, against the keys and values of
        those before it; where the architecture keeps none by position, the beginning anew for each piece.
        """
        device = self.model.device
        self._hold(row[:shared])
        cache, done = self.model.new_cache(), shared
        for layer, (keys, values) in enumerate(self._kv if shared else ()):
            cache.update(keys[..., :shared, :], values[..., :shared, :], layer)
        for start in range(0, len(wanted), most):
            places = wanted[start : start + most]
            end = places[-1] + 1
            if not self.model.shares_prefix:
                cache, done = self.model.new_cache(), 0
            self.meter.computed_tokens += end - done
            yield self.model.logits(
                torch.zeros(len(places), dtype=torch.long, device=device),
                torch.tensor(places, device=device) - done,
                input_ids=torch.tensor([row[done:end]], device=device),
                position_ids=torch.arange(done, end, device=device)[None],
                past_key_values=cache,
                use_cache=True,
            )
            done = end

    def _hold(self, prefix: tuple[int, ...]) -> None:
        """Have the keys and values of `prefix` ready, cutting back and extending what is there."""
        if not prefix:
            return
        common = common_prefix(self._held, prefix)
        if common == len(prefix):
            return
        if 2 * common < len(prefix):
            # Without a cache the causal kernel skips half of the work, which beats reusing a short beginning.
            common = 0
        cache = self.model.new_cache()
        for layer, (keys, values) in enumerate(self._kv if common else ()):
            cache.update(keys[..., :common, :], values[..., :common, :], layer)
        device = self.model.device
        zero = torch.zeros(1, dtype=torch.long, device=device)
        self.model.logits(
            zero,
            zero,
            input_ids=torch.tensor([prefix[common:]], device=device),
            position_ids=torch.arange(common, len(prefix), device=device)[None],
            past_key_values=cache,
            use_cache=True,
        )
        self.meter.computed_tokens += len(prefix) - common
        self._held = prefix
        self._kv = [(layer.keys, layer.values) for layer in cache.layers]
