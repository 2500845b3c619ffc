"""One side's weights as the model computes with them: shards, an adapter on top, a head that is the embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forgetbench.checkpoints.checkpoint import NONE, Checkpoint
from forgetbench.drift.adapter import Adapter, LowRank, open_adapter
from forgetbench.drift.groups import ends_elsewhere, is_embedding, is_head, ties
from forgetbench.drift.shards import SIZES, Entry, Shards, open_shards
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


_SLICE = 1 << 22
"""Values read at a time to compare two tensors."""


@dataclass(frozen=True)
class Side:
    """A checkpoint as far as its weights go."""

    alias: str
    folder: Path
    adapter: Path | None = None
    tokenizer: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    digest: str | None = None
    """Of the weight files: sides that share it hold the same bytes, before adapters."""


def side_of(point: Checkpoint) -> Side:
    """Raises UsageError for a checkpoint that has no weights here (endpoint, script)."""
    if point.spec.served.engine in ("openai", "scripted") or not point.parts or point.parts.get("weights") == NONE:
        raise UsageError(
            f"model '{point.alias}'",
            f"has no weights to read (engine: {point.spec.served.engine})",
            "name a model whose `path` is a folder with safetensors",
        )
    return Side(
        point.alias, point.folder, point.adapter_folder, point.tokenizer_folder, point.config, point.parts["weights"]
    )


class Weights:
    """Tensors by name, a slice of rows at a time."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.shards: Shards = open_shards(side.folder)
        self.adapter: Adapter | None = None
        self._alias: dict[str, str] = {}
        self._copies = self._copied(self.shards, {n: n for n in self.shards.entries})
        self._saved_copies: frozenset[str] = frozenset()
        if side.adapter is not None:
            self.adapter = open_adapter(side.adapter, self.shards.entries.keys(), side.config)
            self._saved_copies = self._copied(self.adapter.shards, self.adapter.replaced)
            for name, change in self.adapter.changes.items():
                if name not in self.names:  # a head that is the embedding: with an adapter of its own it no longer is
                    self.tie(name)
                entry = self.entry(name)
                if not self.readable(name):  # packed: its shape is not the matrix's
                    continue
                if (entry.rows, entry.columns) != (change.left.shape[0], change.right.shape[1]):
                    raise UsageError(
                        str(side.adapter),
                        f"changes {name} as {change.left.shape[0]} x {change.right.shape[1]}, which is {entry.shape}",
                        "name the base that it was made for",
                    )

    @property
    def names(self) -> set[str]:
        replaced = set(self.adapter.replaced) if self.adapter else set()
        return (self.shards.entries.keys() - self._copies) | (replaced - self._saved_copies) | self._alias.keys()

    @property
    def embedding(self) -> str | None:
        return next((n for n in sorted(self.names) if is_embedding(n)), None)

    @property
    def tied(self) -> bool:
        """Whether the head is the embedding: there is no tensor of its own for it."""
        return not any(is_head(n) or ends_elsewhere(n) for n in self.names) and self.embedding is not None

    @property
    def own_head(self) -> str | None:
        """A head with values of its own though config.json makes it the embedding: transformers 5 computes with it
        all the same (`PreTrainedModel.tie_weights`)."""
        return next((n for n in sorted(self.names - self._alias.keys()) if is_head(n) and ties(self.side.config)), None)

    def _copied(self, shards: Shards, names: Mapping[str, str]) -> frozenset[str]:
        """A head that is stored beside the embedding that it is tied to, with the same values: one tensor. `names`:
        what a tensor is called -> its name in the shards."""
        embedding = next((n for n in sorted(names) if is_embedding(n)), None)
        head = next((n for n in sorted(names) if is_head(n)), None)
        if embedding is None or head is None or not ties(self.side.config):
            return frozenset()
        return frozenset([head]) if _equal(shards, names[embedding], names[head]) else frozenset()

    def tie(self, head: str) -> None:
        """Let the head's name mean the embedding."""
        if self.embedding is not None:
            self._alias[head] = self.embedding

    @property
    def apart(self) -> bool:
        """Whether an adapter changes the embedding and the output head apart though they are tied (one alone, each by
        factors of its own, or each saved with other values): with it they are no longer one tensor."""
        if (
            self.adapter is None
            or self.adapter.tying
            or any(is_head(n) for n in self.shards.entries.keys() - self._copies)
        ):
            return False
        touched = [n for n in {*self.adapter.changes, *self.adapter.replaced} if is_embedding(n) or is_head(n)]
        return bool(touched) and not self._saved_copies  # both saved whole and alike: what a resized vocabulary leaves

    def _stored(self, name: str) -> tuple[Shards, str]:
        """Where a tensor lies, without what an adapter adds to it."""
        if self.adapter and name in self.adapter.replaced:
            return self.adapter.shards, self.adapter.replaced[name]
        if name not in self._alias:
            return self.shards, name
        # What goes in may be changed: what comes out is read off the embedding as it was, unless the two are kept tied.
        tying = self.adapter is not None and self.adapter.tying
        return self._stored(self._alias[name]) if tying else (self.shards, self._alias[name])

    def entry(self, name: str) -> Entry:
        shards, stored = self._stored(name)
        return shards.entries[stored]

    def change(self, name: str) -> LowRank | None:
        """What an adapter adds to the stored tensor."""
        if self.adapter is None:
            return None
        if name in self._alias and name not in self.adapter.changes and self.adapter.tying:
            name = self._alias[name]
        return self.adapter.changes.get(name)

    def readable(self, name: str) -> bool:
        return self.entry(name).dtype in SIZES

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Rows start to stop as float32, adapter included: (stop - start, columns)."""
        shards, stored = self._stored(name)
        change, values = self.change(name), shards.read(stored, start, stop)
        if change is not None:
            values = values + change.left[start:stop] @ change.right
        return values


def _equal(shards: Shards, one: str, other: str) -> bool:
    """Whether two tensors hold the same values, read a slice at a time."""
    a, b = shards.entries[one], shards.entries[other]
    if a.dtype not in SIZES or (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    step = max(1, _SLICE // max(a.columns, 1))
    return all(
        np.array_equal(shards.read(one, i, min(i + step, a.rows)), shards.read(other, i, min(i + step, a.rows)))
        for i in range(0, a.rows, step)
    )


def same_stored(base: Weights, candidate: Weights, name: str) -> bool:
    """Whether both sides take a tensor from the same bytes, so that only adapters tell them apart."""
    a, b = base.entry(name), candidate.entry(name)
    if (a.dtype, a.shape, a.offset) != (b.dtype, b.shape, b.offset):
        return False
    if a.file.resolve() == b.file.resolve():
        return True
    stored = a.file.parent == base.side.folder and b.file.parent == candidate.side.folder
    same = base.side.digest is not None and base.side.digest == candidate.side.digest
    return stored and same and a.file.name == b.file.name
