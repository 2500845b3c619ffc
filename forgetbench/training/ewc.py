"""Elastic weight consolidation: weights that matter to what the base can do are held near to where they were.

    penalty = lambda / 2 * sum_i F_i (theta_i - theta_i of the base)^2
    F_i     = mean over samples of (d/dtheta_i sum_t log p(y_t | before t))^2, y_t drawn from the base itself

Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3, with the
diagonal of the Fisher information. The labels are drawn from the base, not read from the file: with the file's own ones
(the "empirical Fisher") the weights of what the base knows best would count least.

Memory: F and the base's weights, both float32, beside the model: 8 bytes a parameter more on each device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.training import noise, reference
from forgetbench.training.collate import Document, collate

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

FILE = "fisher.safetensors"


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the weights were, and how much each is held there."""

    fisher: Tensors
    """By parameter, of its shape."""
    theta: Tensors
    weight: float
    """lambda."""

    def to(self, device: Any) -> Anchor:
        def moved(tensors: Tensors) -> Tensors:
            return {name: tensor.to(device) for name, tensor in tensors.items()}

        return Anchor(moved(self.fisher), moved(self.theta), self.weight)

    def penalty(self, model: Any) -> torch.Tensor:
        """lambda / 2 sum F (theta - theta_base)^2 of the model's weights, a scalar with gradients."""
        import torch

        class Held(torch.autograd.Function):
            # Its derivative is written out: autograd would keep theta - theta_base of every weight until the backward.
            @staticmethod
            def forward(ctx: Any, parameter: torch.Tensor, name: str) -> torch.Tensor:
                ctx.save_for_backward(parameter)
                ctx.name = name
                return (parameter - self.theta[name]).square_().mul_(self.fisher[name]).sum() * (self.weight / 2)

            @staticmethod
            def backward(ctx: Any, *outer: torch.Tensor) -> Any:
                (parameter,) = ctx.saved_tensors
                apart = (parameter - self.theta[ctx.name]).mul_(self.fisher[ctx.name])
                return apart.mul_(self.weight * outer[0]), None

        parts = [Held.apply(p, name) for name, p in model.named_parameters() if name in self.fisher]  # type: ignore[no-untyped-call]
        return torch.stack(parts).sum()


def anchored(model: Any, fisher: Tensors, weight: float) -> Anchor:
    """The anchor at the model's weights as they are now."""
    theta = {name: p.detach().clone() for name, p in model.named_parameters() if name in fisher}
    return Anchor(fisher, theta, weight)


def fisher(model: Any, documents: Sequence[Document], seed: int) -> dict[str, torch.Tensor]:
    """The diagonal of the Fisher information by parameter, float32, from the places of the documents that have a
    weight. One sample at a time: one forward and backward pass each. Labels depend on the seed and the sample's number.

    Raises ValueError without documents.
    """
    import torch

    if not documents:
        raise ValueError("the Fisher information needs at least one sample")
    was_training, keeps = model.training, reference.keeps_columns(model)
    device = next(model.parameters()).device
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in wanted.items()}
    model.eval()
    try:
        for number, document in enumerate(documents):
            batch = {k: v.to(device) for k, v in collate([document], [(0,)], 0).items()}
            columns = (batch["weights"][0, 1:] > 0).nonzero()[:, 0]
            if not len(columns):
                continue
            logprobs = reference.logits_at(model, batch, columns, keeps=keeps)[0].float().log_softmax(-1)
            random = noise.generator(device, seed, 6, number)
            labels = torch.multinomial(logprobs.detach().exp(), 1, generator=random)
            gradients = torch.autograd.grad(logprobs.gather(-1, labels).sum(), list(wanted.values()), allow_unused=True)
            for name, gradient in zip(wanted, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.float().square()
    finally:
        model.train(was_training)
    return {name: value / len(documents) for name, value in total.items()}


def kept_fisher(folder: Path, model: Any, documents: Sequence[Document], seed: int) -> dict[str, torch.Tensor]:
    """The Fisher information of a run: measured once, then read from `folder`, so that a resumed run has the same."""
    from safetensors.torch import load_file, save_file

    file = folder / FILE
    if not file.is_file():
        found = {name: value.cpu().contiguous() for name, value in fisher(model, documents, seed).items()}
        half = file.with_suffix(".half")
        save_file(found, str(half))
        os.replace(half, file)
    return dict(load_file(str(file)))
