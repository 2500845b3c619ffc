"""Safetensors written slice by slice: shards of a bounded size, their index, no tensor held whole.

All sizes are known before the first byte, so that a shard's header is written first and the data follows in its order.
Format: safetensors README, section 'Format'; names and index: transformers' save_pretrained.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forgetbench.checkpoints.files import one_line
from forgetbench.drift.shards import SIZES, Entry
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bytes = NDArray[np.uint8]

SHARD = 5_000_000_000
"""Bytes of tensors in a file: at most, but for a single tensor that is larger."""
BUFFER = 1 << 24
TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Names of the types in torch and in config.json."""
_WHOLE = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_WHOLE |= {"F8_E4M3": 1, "F8_E5M2": 1}
BYTES = SIZES | _WHOLE
"""Of one value of each type that can be taken over."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        count = BYTES[self.dtype]
        for extent in self.shape:
            count *= extent
        return count


@dataclass(frozen=True, slots=True)
class Shard:
    file: str
    slots: tuple[Slot, ...]


def layout(slots: Sequence[Slot], limit: int = SHARD) -> tuple[Shard, ...]:
    """Tensors to files, in order: a file ends before the tensor that would make it larger than `limit` bytes."""
    groups: list[list[Slot]] = [[]]
    held = 0
    for slot in slots:
        if groups[-1] and held + slot.size > limit:
            groups.append([])
            held = 0
        groups[-1].append(slot)
        held += slot.size
    if len(groups) == 1:
        return (Shard("model.safetensors", tuple(groups[0])),)
    count = len(groups)
    return tuple(Shard(f"model-{i:05}-of-{count:05}.safetensors", tuple(g)) for i, g in enumerate(groups, 1))


def write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """Name each tensor's file; nothing where there is one file only."""
    if len(shards) == 1:
        return
    told = {
        "metadata": {"total_size": sum(slot.size for shard in shards for slot in shard.slots)},
        "weight_map": {slot.name: shard.file for shard in shards for slot in shard.slots},
    }
    text = json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


@contextmanager
def opened(folder: Path, shard: Shard) -> Iterator[Any]:
    """A file with its header written, for the tensors' bytes in the order of its slots; made durable at the end."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for slot in shard.slots:
        header[slot.name] = {"dtype": slot.dtype, "shape": list(slot.shape), "data_offsets": [at, at + slot.size]}
        at += slot.size
    blob = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    blob += b" " * (-len(blob) % 8)  # data begin at a multiple of 8
    with (folder / shard.file).open("wb") as handle:
        handle.write(struct.pack("<Q", len(blob)) + blob)
        yield handle
        if handle.tell() != 8 + len(blob) + at:
            raise RuntimeError(f"{shard.file}: {handle.tell()} bytes written, {8 + len(blob) + at} announced")
        handle.flush()
        os.fsync(handle.fileno())


def raw(entry: Entry, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of rows start to stop, at most `BUFFER` at a time. Raises UsageError where the file cannot be read."""
    row = entry.columns * BYTES[entry.dtype]
    left = ((entry.rows if stop is None else stop) - start) * row
    try:
        with entry.file.open("rb", buffering=0) as handle:
            handle.seek(entry.offset + start * row)
            while left > 0:
                part = handle.read(min(left, BUFFER))
                if not part:
                    raise OSError("the file became shorter while it was read")
                left -= len(part)
                yield part
    except OSError as error:
        raise UsageError(str(entry.file), f"cannot be read ({one_line(error)})", "check disk and file") from None


def encode(values: Floats, dtype: str, name: str) -> memoryview:
    """float32 as little-endian bytes of a type, rounded to the nearest, ties to even. Raises UsageError for what is
    no finite number there."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(getattr(torch, TORCH[dtype]))
    if not bool(torch.isfinite(tensor).all()):
        raise UsageError(
            name,
            f"merged values are NaN or too large for {TORCH[dtype]}",
            "look for NaN in the inputs, or name a wider type with --dtype",
        )
    stored: Bytes = tensor.reshape(-1).view(torch.uint8).numpy()
    return stored.data


def same_bytes(entries: Sequence[Entry]) -> bool:
    """Whether all entries have one type, one shape and the same bytes."""
    first = entries[0]
    if any((e.dtype, e.shape) != (first.dtype, first.shape) for e in entries):
        return False
    return all(a == b for e in entries[1:] for a, b in zip(raw(first), raw(e), strict=True))
