"""Tensors out of safetensors shards, a slice of rows at a time.

Slices are read with `pread` and not mapped: mapped pages would count as this process's memory until the kernel takes
them back, and the peak could not be stated. Format: safetensors README, section 'Format' (little-endian, row-major).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.checkpoints.files import one_line, read_json, safetensors_header, weight_files
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
"""Bytes of the types that are weights as they stand. Every other type needs its quantiser to be read."""
_CURE = "copy or download the checkpoint again"


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor in a file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Of its first byte in the file."""

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def columns(self) -> int:
        """Values in a row: all axes after the first taken as one."""
        count = 1
        for extent in self.shape[1:]:
            count *= extent
        return count


class Shards:
    """The tensors of one folder by name."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = dict(entries)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Rows start to stop of a tensor as float32, (stop - start, columns). Raises UsageError where the file
        cannot be read, KeyError for a name or type that is not here."""
        entry = self.entries[name]
        stop = entry.rows if stop is None else stop
        size = SIZES[entry.dtype]
        wanted = (stop - start) * entry.columns * size
        try:
            raw = _pread(entry.file, entry.offset + start * entry.columns * size, wanted)
        except OSError as error:
            raise UsageError(str(entry.file), f"cannot be read ({one_line(error)})", "check disk and file") from None
        return _floats(raw, entry.dtype).reshape(stop - start, entry.columns)


def open_shards(folder: Path, stem: str = "model") -> Shards:
    """Read the headers of a folder's safetensors. Raises UsageError for missing, cut or contradictory shards, and for
    weights in another format."""
    files = weight_files(folder, stem, "pytorch_model" if stem == "model" else stem)
    if files[0].suffix != ".safetensors":
        raise UsageError(
            str(files[0]), "is not safetensors, so that it cannot be read in slices", "save it with safe_serialization"
        )
    entries: dict[str, Entry] = {}
    for file in files:
        for name, entry in _entries(file):
            if name in entries:
                raise UsageError(str(file), f"holds {name}, as {entries[name].file.name} does", _CURE)
            entries[name] = entry
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file() and files[0].name != f"{stem}.safetensors":
        for name, shard in read_json(index, _CURE)["weight_map"].items():
            if name not in entries or entries[name].file.name != shard:
                raise UsageError(str(index), f"puts {name} into {shard}, which does not hold it", _CURE)
    return Shards(entries)


def _entries(file: Path) -> Iterator[tuple[str, Entry]]:
    header = safetensors_header(file)
    with file.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
    for name, told in header.items():
        if name == "__metadata__":
            continue
        try:
            shape = tuple(int(extent) for extent in told["shape"])
            begin, end = (int(offset) for offset in told["data_offsets"])
            entry = Entry(file, str(told["dtype"]), shape, 8 + length + begin)
        except (KeyError, TypeError, ValueError):
            raise UsageError(f"{file}: {name}", "has no readable dtype, shape and offsets", _CURE) from None
        held = entry.rows * entry.columns * SIZES.get(entry.dtype, 0)
        if entry.dtype in SIZES and (end - begin != held or begin < 0):
            raise UsageError(f"{file}: {name}", f"holds {end - begin} bytes, its shape says {held}", _CURE)
        yield name, entry


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    handle = os.open(file, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _pread(file: Path, offset: int, size: int) -> NDArray[np.uint8]:
    """`size` bytes from `offset` on; one read returns at most 2 GiB."""
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    with _opened(file) as handle:
        while done < size:
            got = os.preadv(handle, [view[done:]], offset + done)
            if got == 0:
                raise OSError("the file became shorter while it was read")
            done += got
    return np.frombuffer(buffer, dtype=np.uint8)


def _floats(raw: NDArray[np.uint8], dtype: str) -> Floats:
    if dtype == "BF16":  # the upper half of a float32
        wide = raw.view("<u2").astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]
    return raw.view(kind).astype(np.float32, copy=False)
