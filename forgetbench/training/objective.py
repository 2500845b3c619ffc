"""What a fine-tune reads, and what it is to minimise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forgetbench.training import losses
from forgetbench.training.collate import Document
from forgetbench.training.ewc import Anchor
from forgetbench.training.packing import Batch


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is trained on: documents with their final weights, and the batches of the whole run."""

    documents: Sequence[Document]
    channels: tuple[str, ...]
    """Names of the documents' channels: their task_types."""
    batches: Sequence[Batch]
    held_out: Sequence[Batch] = ()
    pad_id: int = 0

    def read(self, batches: int) -> list[tuple[str, int, int]]:
        """(task_type, tokens, supervised tokens) of each document of the first so many batches, as often as it is
        read."""
        documents = [self.documents[d] for b in self.batches[:batches] for row in b.rows for d in row]
        return [(self.channels[d.channel], len(d.ids), int((d.weights > 0).sum())) for d in documents]


@dataclass(frozen=True, slots=True)
class Objective:
    """What is added to the weighted loss."""

    kl: losses.Direction | None = None
    kl_weight: float = 0.0
    kl_tokens: str = "supervised"
    """`supervised`: weighted as the loss is; `all`: every token of every document alike."""
    neftune_alpha: float = 0.0
    anchor: Anchor | None = None
    """Of EWC."""
    special_ids: tuple[int, ...] = ()
    """Their loss is logged apart."""
