r"""Responses on disk: append-only segments, one per process and task folder.

A line is `crc32 json\n`, the crc as 8 lower-case hex digits over the JSON. A process only ever appends to
segments that it created itself, so that a torn tail left by a killed process stays at the end of a dead file:
readers skip it, nobody repairs it, and two processes can write at the same time without harm.

What is promised: a response passed to `on_stored` survives kill -9 and, as far as the disk keeps its word,
a power cut. A byte that changed later costs the lines it lies in, each of them reported, no other. A response
may be stored twice (two processes, or a copy between tasks): readers take the first final one.
What is not promised: that responses still in the buffer (at most 100, at most 200 ms old) survive a kill.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from forgetbench.errors import ForgetbenchError
from forgetbench.runs.codec import decode, encode, peek
from forgetbench.runs.files import fdatasync, fsync_dir, full_disk_is_one_line, write_all
from forgetbench.types import Response

BATCH = 100
INTERVAL = 0.2
_BACKLOG = 50 * BATCH
_CRC = 9  # 8 hex digits and a space

# Inside a JSON string every quote is escaped, so that no model output can imitate the start of a line.
_START = re.compile(rb'[0-9a-f]{8} \{"id":"')


@dataclass(frozen=True, slots=True)
class Location:
    """Where a stored response lies; `offset` and `length` (bytes) are those of its JSON, without the crc."""

    path: Path
    offset: int
    length: int
    final: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that could not be used. `torn`: the last line of a killed process, no cause for worry."""

    path: Path
    line: int
    """Counted from 1."""
    kind: Literal["torn", "corrupt"]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind} line ignored; what it held is asked again"


def pack(response: Response) -> bytes:
    """A response as the line that is stored."""
    blob = encode(response)
    return b"%08x %s\n" % (zlib.crc32(blob), blob)


def _valid(line: bytes) -> bool:
    # Compared as text: int(x, 16) would take an upper-case digit for its lower-case one.
    return line[8:9] == b" " and line[:8] == b"%08x" % zlib.crc32(line[_CRC:])


def _split(line: bytes) -> Iterator[tuple[int, bytes]]:
    """The (offset, stored line) that can be saved from a damaged line: a lost newline joins two good ones."""
    starts = [m.start() for m in _START.finditer(line)]
    for start, end in zip(starts, [*starts[1:], len(line) + 1], strict=False):
        part = line[start : end - 1]
        if _valid(part):
            yield start, part


def scan_segment(path: Path) -> tuple[list[tuple[str, Location]], list[Damage]]:
    """(request id, location) of every intact line in file order, and what was not intact."""
    found: list[tuple[str, Location]] = []
    damage: list[Damage] = []
    offset = 0
    with path.open("rb") as f:
        for number, line in enumerate(f, start=1):
            body = line.removesuffix(b"\n")
            whole = _valid(body)
            for start, part in [(0, body)] if whole else _split(body):
                request_id, final = peek(part[_CRC:])
                where = Location(path, offset + start + _CRC, len(part) - _CRC, final)
                found.append((request_id, where))
            if not whole:
                damage.append(Damage(path, number, "corrupt" if line.endswith(b"\n") else "torn"))
            offset += len(line)
    return found, damage


@dataclass
class ResponseIndex:
    """Which responses a task folder holds. Only places are kept in memory; responses are read on demand."""

    locations: dict[str, Location] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)

    def add(self, request_id: str, where: Location) -> None:
        """The first final response wins; until there is one, the last failed one is kept as evidence."""
        known = self.locations.get(request_id)
        if known is None or not known.final:
            self.locations[request_id] = where

    def has_final(self, request_id: str) -> bool:
        known = self.locations.get(request_id)
        return known is not None and known.final

    @contextlib.contextmanager
    def reader(self) -> Iterator[Callable[[str], Response]]:
        """A function from request id to response, with its files open meanwhile. KeyError: not stored."""
        with contextlib.ExitStack() as stack:
            files: dict[Path, BinaryIO] = {}

            def read(request_id: str) -> Response:
                where = self.locations[request_id]
                if where.path not in files:
                    files[where.path] = stack.enter_context(where.path.open("rb"))
                f = files[where.path]
                f.seek(where.offset - _CRC)
                line = f.read(where.length + _CRC)
                if not _valid(line):
                    raise ForgetbenchError(f"{where.path}: changed while it was read; run the same command again")
                return decode(line[_CRC:])

            yield read


def scan_folder(folder: Path) -> ResponseIndex:
    """All segments of a `responses/` folder, oldest first. A folder that does not exist is empty."""
    index = ResponseIndex()
    for path in sorted(folder.glob("*.jsonl")):
        found, damage = scan_segment(path)
        index.damage.extend(damage)
        for request_id, where in found:
            index.add(request_id, where)
    return index


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that is now durable in one folder."""

    folder: Path
    request_id: str
    where: Location
    response: Response


class _Segment:
    """One file that this process appends to, made when the first line comes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self.size = 0
        fsync_dir(folder)

    def append(self, blob: bytes) -> None:
        write_all(self.fd, blob)
        fdatasync(self.fd)
        self.size += len(blob)


class SegmentWriter:
    """Appends responses from a thread of its own, so that the engine never waits for the disk.

    `on_stored` is called from that thread after fdatasync: what it reports is acknowledged. An error of the
    thread (a full disk: DiskFullError) is raised by the next call of `put`, `flush` or `close`.
    """

    def __init__(
        self,
        on_stored: Callable[[Sequence[Stored]], None],
        *,
        batch: int = BATCH,
        interval: float = INTERVAL,
    ) -> None:
        self._on_stored = on_stored
        self._batch, self._interval = batch, interval
        self._changed = threading.Condition()
        self._pending: list[tuple[float, tuple[Path, ...], Response]] = []
        self._busy = False
        self._hurry = 0
        self._closing = False
        self._error: BaseException | None = None
        self._segments: dict[Path, _Segment] = {}
        self._thread = threading.Thread(target=self._work, name="segments", daemon=True)
        self._thread.start()

    def put(self, folders: Sequence[Path], response: Response) -> None:
        """Store `response` in each folder, soon. Blocks only while the disk is far behind."""
        with self._changed:
            while len(self._pending) > _BACKLOG and self._error is None:
                self._changed.wait()
            self._raise()
            self._pending.append((time.monotonic(), tuple(folders), response))
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything put so far is durable and acknowledged."""
        with self._changed:
            self._hurry += 1
            self._changed.notify_all()
            try:
                while (self._pending or self._busy) and self._error is None:
                    self._changed.wait()
            finally:
                self._hurry -= 1
            self._raise()

    def close(self) -> None:
        """Flush and end the thread. Must be called; may be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        for segment in self._segments.values():
            os.close(segment.fd)
        self._segments.clear()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self) -> list[tuple[float, tuple[Path, ...], Response]]:
        """Wait for the next batch; empty when closed and done."""
        with self._changed:
            while not self._pending and not self._closing:
                self._changed.wait()
            while self._pending and len(self._pending) < self._batch and not (self._closing or self._hurry):
                left = self._pending[0][0] + self._interval - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken, self._pending = self._pending[: self._batch], self._pending[self._batch :]
            self._busy = bool(taken)
            return taken

    def _work(self) -> None:
        try:
            while taken := self._take():
                self._store([(folders, response) for _, folders, response in taken])
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
        except BaseException as e:  # whatever it is, the caller's thread must see it
            with self._changed:
                self._error, self._busy = e, False
                self._changed.notify_all()

    def _store(self, batch: list[tuple[tuple[Path, ...], Response]]) -> None:
        by_folder: dict[Path, list[tuple[bytes, Response]]] = {}
        for folders, response in batch:
            line = pack(response)
            for folder in folders:
                by_folder.setdefault(folder, []).append((line, response))
        for folder, lines in by_folder.items():
            with full_disk_is_one_line(folder):
                segment = self._segments.get(folder)
                if segment is None:
                    segment = self._segments[folder] = _Segment(folder)
                offset = segment.size
                segment.append(b"".join(line for line, _ in lines))
            stored = []
            for line, response in lines:
                final = peek(line[_CRC:])[1]
                where = Location(segment.path, offset + _CRC, len(line) - _CRC - 1, final)
                stored.append(Stored(folder, response.request_id, where, response))
                offset += len(line)
            self._on_stored(stored)
