"""A plain training loop: rows in, loss on the chosen tokens, warmup and cosine, a line of progress.

Rows are padded on the right and attention is causal, so that padding changes nothing before it and no mask
is needed. One row holds one text: nothing leaks between texts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Log = Callable[[str], None]
Batch = tuple[Any, Any]
"""Token ids [rows, length], and the weight of predicting each of them (same shape; column 0 is not used)."""


@dataclass(frozen=True)
class Schedule:
    steps: int
    lr: float
    matrix_lr: float | None = None
    warmup: float = 0.05
    floor: float = 0.05
    weight_decay: float = 0.1

    def scale(self, step: int) -> float:
        """Linear up, then a cosine down to `floor`."""
        up = max(1, round(self.steps * self.warmup))
        if step < up:
            return (step + 1) / up
        done = (step - up) / max(1, self.steps - up)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))


def weighted_loss(model: Any, ids: Any, weights: Any) -> Any:
    """Mean negative log-likelihood under `weights`; the vocabulary is projected only where it counts."""
    from torch.nn.functional import cross_entropy

    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    target, weight = ids[:, 1:], weights[:, 1:]
    counted = weight > 0
    loss = cross_entropy(model.lm_head(hidden[counted]), target[counted], reduction="none")
    return (loss * weight[counted]).sum() / weight[counted].sum()


def fit(model: Any, batches: Iterator[Batch], schedule: Schedule, log: Log, name: str) -> list[float]:
    """Train in place; returns the loss of every step."""
    import torch

    from forgetbench.demo.optim import Optimiser

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more make a model of this size slower, and on a busy machine far slower
    model.train()
    optimiser = Optimiser(model, schedule.lr, schedule.matrix_lr, schedule.weight_decay)
    losses: list[float] = []
    start, told = time.monotonic(), 0.0
    for step in range(schedule.steps):
        ids, weights = next(batches)
        loss = weighted_loss(model, ids, weights)
        loss.backward()
        optimiser.step(schedule.scale(step))
        losses.append(float(loss.detach()))
        spent = time.monotonic() - start
        if spent - told > 5 or step + 1 == schedule.steps:
            told = spent
            left = spent / (step + 1) * (schedule.steps - step - 1)
            recent = sum(losses[-20:]) / len(losses[-20:])
            done = f"step {step + 1}/{schedule.steps}"
            log(f"{name}: {done}, loss {recent:.3f}, {spent:.0f} s, {left:.0f} s left")
    model.eval()
    torch.set_num_threads(threads)
    return losses


def pad_rows(rows: Sequence[Sequence[int]], weights: Sequence[Sequence[float]], pad_id: int) -> Batch:
    import torch

    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    weight = torch.zeros((len(rows), length))
    for i, (row, w) in enumerate(zip(rows, weights, strict=True)):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        weight[i, : len(w)] = torch.tensor(w, dtype=torch.float)
    return ids, weight
