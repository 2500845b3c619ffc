"""The base as a reference for KL and token masking: frozen weights, or a LoRA model with its adapter off."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from forgetbench.training.collate import model_inputs
from forgetbench.training.losses import Floats, nll

if TYPE_CHECKING:
    import torch


def is_lora(model: Any) -> bool:
    return hasattr(model, "disable_adapter")


def frozen(model: Any) -> Any:
    """A copy of the weights as they are now, in evaluation mode and without gradients."""
    import copy

    return copy.deepcopy(model).eval().requires_grad_(False)


@contextmanager
def adapter_off(model: Any) -> Iterator[Any]:
    """The base inside a peft model, in evaluation mode: neither the adapter nor any dropout is at work."""
    was_training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield model
    finally:
        model.train(was_training)


def keeps_columns(model: Any) -> bool:
    """Whether the model can compute its logits at chosen columns only (`logits_to_keep`)."""
    inner = model.get_base_model() if is_lora(model) else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def logits_at(model: Any, batch: Mapping[str, torch.Tensor], columns: torch.Tensor, *, keeps: bool) -> torch.Tensor:
    """Logits [rows, len(columns), vocabulary]: what stands at a column predicts the token after it.

    `model` may be wrapped (DDP, FSDP): it is called as a whole, so that the wrapper's hooks run.
    """
    if keeps:
        logits: torch.Tensor = model(**model_inputs(batch), logits_to_keep=columns).logits
        return logits
    whole: torch.Tensor = model(**model_inputs(batch)).logits
    return whole[:, columns]


def reference_logits(
    model: Any, copy: Any | None, batch: Mapping[str, torch.Tensor], columns: torch.Tensor, *, keeps: bool
) -> torch.Tensor:
    """The base's logits at the columns, without gradients: from the frozen `copy`, else from `model` (peft) with its
    adapter off."""
    import torch

    with torch.no_grad():
        if copy is not None:
            return logits_at(copy, batch, columns, keeps=keeps)
        with adapter_off(model) as base:
            return logits_at(base, batch, columns, keeps=keeps)


def document_nll(model: Any, batches: Iterable[Mapping[str, torch.Tensor]]) -> Iterator[Floats]:
    """Negative log-likelihood in nats of every token of every document under `model` as it is, in the order in which
    the batches hold them: float32 [length], entry 0 is 0 (nothing predicts a first token)."""
    import torch

    was_training = model.training
    model.eval()
    keeps = keeps_columns(model)
    device = next(model.parameters()).device
    try:
        for given in batches:
            batch = {name: tensor.to(device) for name, tensor in given.items()}
            ids, documents = batch["input_ids"], batch["documents"]
            columns = torch.arange(ids.shape[1] - 1, device=device)
            with torch.no_grad():
                values = torch.zeros(ids.shape, dtype=torch.float32, device=device)
                if len(columns):
                    logits = logits_at(model, batch, columns, keeps=keeps)
                    values[:, 1:] = nll(logits.flatten(0, 1), ids[:, 1:].flatten()).view(len(ids), -1)
            values[batch["position_ids"] == 0] = 0.0
            found, numbers = values.cpu().numpy(), documents.cpu().numpy()
            for number in range(int(numbers.max()) + 1):
                yield found[numbers == number].astype(np.float32)
    finally:
        model.train(was_training)
