"""Two optimisers side by side: Muon for the matrices inside the layers, AdamW for the rest.

Muon (K. Jordan, 2024) steps along the nearest orthogonal matrix to the momentum. Here it makes the small base
*steady*: AdamW alone learnt facts and no copying from one seed, the reverse from the next. Written out rather
than taken from torch.optim because matrices of one shape go through Newton-Schulz as one batch, which halves
its time on a CPU.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

MOMENTUM = 0.95
_ITERATIONS = 4  # Jordan takes 5; at this size an iteration is 7 % of a step's time
_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic of Jordan's post


def orthogonal(stack: Any) -> Any:
    """Newton-Schulz on a stack of matrices that are not taller than wide."""
    x = stack / (stack.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * (gram @ gram)) @ x
    return x


class Optimiser:
    """`step(scale)` moves every parameter by its learning rate times `scale`, then forgets the gradients."""

    def __init__(self, model: Any, lr: float, matrix_lr: float | None, weight_decay: float = 0.1) -> None:
        import torch

        self.lr, self.matrix_lr, self.weight_decay = lr, matrix_lr, weight_decay
        matrices: list[Any] = []
        others: list[Any] = []
        for name, parameter in model.named_parameters():
            inside = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if inside and matrix_lr else others).append(parameter)
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)
        by_shape: dict[tuple[int, int], list[Any]] = defaultdict(list)
        for parameter in matrices:
            by_shape[(min(parameter.shape), max(parameter.shape))].append(parameter)
        self._stacks = list(by_shape.values())
        self._momenta = [torch.zeros(len(s), *sorted(s[0].shape)) for s in self._stacks]
        self._all = [*matrices, *others]

    def step(self, scale: float) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_(self._all, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = self.lr * scale
        self._adam.step()
        with torch.no_grad():
            for stack, momentum in zip(self._stacks, self._momenta, strict=True):
                assert self.matrix_lr is not None
                wide = [p.grad if p.shape[0] <= p.shape[1] else p.grad.mT for p in stack]
                gradient = torch.stack(wide)
                momentum.lerp_(gradient, 1 - MOMENTUM)
                update = orthogonal(gradient.lerp(momentum, MOMENTUM))  # Nesterov's look ahead
                rate = self.matrix_lr * scale
                for parameter, move in zip(stack, update, strict=True):
                    tall = parameter.shape[0] > parameter.shape[1]
                    stretch = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                    parameter.mul_(1 - rate * self.weight_decay)
                    parameter.add_(move.mT if tall else move, alpha=-rate * stretch)
        for parameter in self._all:
            parameter.grad = None
