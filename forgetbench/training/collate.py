"""Rows of documents to tensors, and the measurement that no document sees its neighbour.

There is never an attention mask. transformers builds the block mask of a packed row from position_ids that begin again
at 0, but only where no mask is given and no cache is in use: an all-ones mask, or use_cache=True (the default of a
model), lets each document read the ones before it, silently (`isolation` measures it). Without packing rows are padded
on the right, where causal attention needs no mask either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from forgetbench.training.losses import Floats
from forgetbench.training.packing import Batch, Row

if TYPE_CHECKING:
    import torch

Leak = Literal["wrapped", "ones_mask", "cache"]
"""Known ways to lose the isolation: positions that run on, an all-ones mask, the cache switched on."""


@dataclass(frozen=True, slots=True)
class Document:
    """One sample as the loss wants it."""

    ids: NDArray[np.int64]
    """[length]"""
    weights: Floats
    """[length], of predicting each token; entry 0 is 0."""
    channel: int = 0
    """Index of its task_type among the run's."""


def collate(documents: Sequence[Document], rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    """Tensors [rows, longest row] of one batch.

    input_ids; position_ids, from 0 in each document; weights (float32); documents, numbered through the batch;
    channels. Padding has weight 0, document and channel -1, and positions of its own from 0.
    """
    import torch

    lengths = [sum(len(documents[d].ids) for d in row) for row in rows]
    shape = (len(rows), max(lengths))
    ids = np.full(shape, pad_id, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    numbers = np.full(shape, -1, dtype=np.int64)
    channels = np.full(shape, -1, dtype=np.int64)
    number = 0
    for r, row in enumerate(rows):
        at = 0
        for d in row:
            document = documents[d]
            here = slice(at, at + len(document.ids))
            ids[r, here] = document.ids
            positions[r, here] = np.arange(len(document.ids))
            weights[r, here] = document.weights
            weights[r, at] = 0.0
            numbers[r, here] = number
            channels[r, here] = document.channel
            at, number = here.stop, number + 1
        positions[r, at:] = np.arange(shape[1] - at)
    arrays = {
        "input_ids": ids,
        "position_ids": positions,
        "weights": weights,
        "documents": numbers,
        "channels": channels,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Collator:
    """What the data loader calls with a list of one `Batch`."""

    def __init__(self, documents: Sequence[Document], pad_id: int) -> None:
        self.documents, self.pad_id = documents, pad_id

    def __call__(self, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
        (batch,) = batches
        return collate(self.documents, batch.rows, self.pad_id)


def model_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the model is called with, in training and everywhere else."""
    return {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}


def isolation(
    model: Any, first: Sequence[int], second: Sequence[int], other: Sequence[int], leak: Leak | None = None
) -> float:
    """Largest absolute change of a document's logits when the document before it in its row changes.

    `second` is read behind `first` and behind `other`, which must be as long as `first`; 0.0 is isolated. One row of
    len(first) + len(second) tokens is read twice. `leak` breaks the isolation in a known way, so that one can see
    that the measurement catches it. Raises ValueError where the two first documents differ in length or not at all.
    """
    import torch

    if len(first) != len(other) or list(first) == list(other) or not second:
        raise ValueError("isolation needs two different documents of the same length, and one behind them")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    read = []
    try:
        for before in (first, other):
            pair = [Document(np.asarray(ids), np.zeros(len(ids), np.float32)) for ids in (before, second)]
            inputs = model_inputs({k: v.to(device) for k, v in collate(pair, [(0, 1)], 0).items()})
            if leak == "wrapped":
                inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1], device=device)[None]
            elif leak == "ones_mask":
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            elif leak == "cache":
                inputs["use_cache"] = True
            with torch.no_grad():
                read.append(model(**inputs).logits[0, len(first) :].float())
    finally:
        model.train(was_training)
    return float((read[0] - read[1]).abs().max())
