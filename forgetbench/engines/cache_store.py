"""Responses by key in one SQLite file that any number of processes share. What a key means is cache.py's matter.

What is promised: a response that `flush` returned after is found by every process, also after a kill -9 (a power
cut may take the last ones). A response still waiting is lost with its process, and asked again: at most `BATCH`
or a second's worth. A payload that changed on disk is not served: its checksum tells, it is removed and asked
again.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from forgetbench.engines import cache_prune
from forgetbench.engines.cache_file import as_usage_error, open_file, size_on_disk, transaction
from forgetbench.engines.cache_prune import Pruned
from forgetbench.errors import UsageError
from forgetbench.runs.codec import decode, encode
from forgetbench.types import Response

BATCH = 200
"""Responses stored at once, at the least."""
INTERVAL = 1.0
"""Seconds that one waits at the most."""
LOOKUP = 500
"""Keys in one query."""
_BACKLOG = 50 * BATCH
_DAY = 86_400
_CRC = 4
_PLAIN, _ZLIB = b"\0", b"\1"


@dataclass(frozen=True, slots=True)
class Source:
    """Who answered: what `cache ls` lists and `cache prune --model` names."""

    checkpoint: str
    """Digest."""
    alias: str
    engine: str
    """The engine's identity as canonical JSON."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """What the file holds of one source."""

    checkpoint: str
    alias: str
    engine: Mapping[str, str]
    count: int
    bytes: int
    """Of the responses as stored, without pages and index."""
    first_written: int
    """Seconds since 1970, as `last_written`."""
    last_written: int
    last_used: int
    """Seconds since 1970, midnight UTC of the day."""


def canonical(identity: Mapping[str, str]) -> str:
    """An engine's identity as text that does not depend on the order of its parts."""
    return json.dumps(dict(identity), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def pack(response: Response) -> bytes:
    """crc32 (4 bytes), how the rest is stored (1 byte), the response's line: compressed where that helps."""
    line = encode(response)
    small = zlib.compress(line, 1)  # higher levels: 1.5 times slower, 1 % smaller (digits of floats)
    body = _ZLIB + small if len(small) < len(line) else _PLAIN + line
    return zlib.crc32(body).to_bytes(_CRC, "big") + body


def unpack(payload: bytes) -> Response:
    """The response that `pack` stored. Raises ValueError when a byte of it has changed."""
    body = payload[_CRC:]
    if zlib.crc32(body).to_bytes(_CRC, "big") != payload[:_CRC]:
        raise ValueError("checksum")
    return decode(zlib.decompress(body[1:]) if body[:1] == _ZLIB else body[1:], keep_line=True)


class ResponseCache:
    """The file, open. Close it. May be used from several threads; each process opens its own.

    Every method raises UsageError, one line, when the file cannot be used (damaged, another version's, no space,
    no permission); what was stored before stays.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._connection = open_file(path)
        self._lock = threading.Lock()  # of the connection
        self._changed = threading.Condition()  # of what follows
        self._pending: list[tuple[float, bytes, Response, Source]] = []
        self._busy = False
        self._hurry = False
        self._closing = False
        self._error: UsageError | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Response]:
        """The responses that are stored, by key. A damaged one is removed and counts as not stored."""
        wanted = list(keys)
        found: dict[bytes, Response] = {}
        for start in range(0, len(wanted), LOOKUP):
            found.update(self._get(wanted[start : start + LOOKUP]))
        return found

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, Response]:
        today = self._today()
        found: dict[bytes, Response] = {}
        damaged: list[int] = []
        touched: list[int] = []
        marks = ",".join("?" * len(keys))
        query = (
            "SELECT e.id, e.key, e.used, p.payload FROM entries e JOIN payloads p ON p.id = e.id "
            f"WHERE e.key IN ({marks})"
        )
        with self._using() as connection:
            rows = connection.execute(query, keys).fetchall()
        for i, key, used, payload in rows:
            try:
                found[key] = unpack(payload)
            except (ValueError, TypeError, LookupError, zlib.error):
                damaged.append(i)
            else:
                if used < today:
                    touched.append(i)
        if damaged:
            with self._using() as connection:
                cache_prune.remove(connection, damaged)
        if touched:
            # Where that cannot be written they only look longer unused than they are.
            with contextlib.suppress(UsageError), self._using() as connection, transaction(connection):
                connection.executemany("UPDATE entries SET used=? WHERE id=?", [(today, i) for i in touched])
        return found

    def put(self, key: bytes, response: Response, source: Source) -> None:
        """Store it, soon, from a thread of its own. The first response of a key stays."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="response cache", daemon=True)
                self._thread.start()
            while len(self._pending) > _BACKLOG and self._error is None:
                self._changed.wait()
            self._raise()
            self._pending.append((time.monotonic(), key, response, source))
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything put so far is stored."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while (self._pending or self._busy) and self._error is None:
                self._changed.wait()
            self._hurry = False
            self._raise()

    def close(self) -> None:
        """Flush and close the file. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._connection.close()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while batch := self._take():
            error: UsageError | None = None
            try:
                self._store(batch)
            except UsageError as e:
                error = e
            except Exception as e:  # whatever it is, the caller's thread must see it
                error = UsageError(str(self.path), f"cannot store a response ({type(e).__name__}: {e})", "")
            with self._changed:
                self._busy = False
                if error is not None:
                    self._error = error
                    self._pending.clear()
                self._changed.notify_all()
            if error is not None:
                return

    def _take(self) -> list[tuple[float, bytes, Response, Source]]:
        """The next to store, once they are enough or old enough; empty when closed and done."""
        with self._changed:
            while not self._pending and not self._closing:
                self._changed.wait()
            while self._pending and len(self._pending) < BATCH and not (self._closing or self._hurry):
                left = self._pending[0][0] + INTERVAL - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            most = 5 * BATCH  # of a transaction that fails as a whole
            taken, self._pending = self._pending[:most], self._pending[most:]
            self._busy = bool(taken)
            return taken

    def _store(self, batch: Sequence[tuple[float, bytes, Response, Source]]) -> None:
        rows = [(key, pack(response), source) for _, key, response, source in batch]
        now, today = int(self._clock()), self._today()

        with self._using() as connection, transaction(connection):
            ids = {source: _source_id(connection, source) for source in dict.fromkeys(s for _, _, s in rows)}
            for key, payload, source in rows:
                cursor = connection.execute(
                    "INSERT INTO entries (key, source, written, used, size) VALUES (?,?,?,?,?) "
                    "ON CONFLICT (key) DO NOTHING",
                    (key, ids[source], now, today, len(payload)),
                )
                if cursor.rowcount:
                    connection.execute("INSERT INTO payloads VALUES (?,?)", (cursor.lastrowid, payload))

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone; what goes wrong with it is one line."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise as_usage_error(self.path, error) from error

    def _today(self) -> int:
        return int(self._clock()) // _DAY

    def ls(self) -> list[SourceRow]:
        """What the file holds, the latest used first."""
        query = (
            "SELECT s.checkpoint, s.alias, s.engine, count(*), sum(e.size), min(e.written), max(e.written), "
            "max(e.used) FROM sources s JOIN entries e ON e.source = s.id "
            "GROUP BY s.id ORDER BY max(e.used) DESC, max(e.written) DESC, s.id DESC"
        )
        with self._using() as connection:
            rows = connection.execute(query).fetchall()
        return [
            SourceRow(digest, alias, json.loads(engine), count, size, first, last, used * _DAY)
            for digest, alias, engine, count, size, first, last, used in rows
        ]

    def prune(
        self,
        *,
        older_than: int | None = None,
        max_bytes: int | None = None,
        checkpoint: str | None = None,
        all: bool = False,
        dry_run: bool = False,
    ) -> Pruned:
        """Take responses out and give their space back to the disk.

        `older_than` (days) takes those that were not used for so long, `checkpoint` (alias, or the beginning of a
        digest) those of one model; given both, those that both name. After that `max_bytes` takes the longest
        unused of any model until the file is no larger. `all` takes everything. With none of them nothing goes.
        """
        with self._using() as connection:
            before = size_on_disk(self.path)
            chosen: dict[int, int] = {}
            if all or older_than is not None or checkpoint is not None:
                sources = None
                if checkpoint is not None:
                    sources = cache_prune.sources_of(connection, checkpoint, str(self.path))
                day = None if older_than is None else self._today() - older_than + 1
                chosen = dict(cache_prune.unused(connection, day, sources))
            if max_bytes is not None:
                chosen |= cache_prune.beyond(connection, max_bytes, set(chosen))
            if not dry_run:
                cache_prune.remove(connection, list(chosen))
                cache_prune.shrink(connection)
                # What an entry's pages and index take is an estimate, and so may fall short.
                while max_bytes is not None and (more := dict(cache_prune.beyond(connection, max_bytes, set()))):
                    cache_prune.remove(connection, list(more))
                    cache_prune.shrink(connection)
                    chosen |= more
        return Pruned(len(chosen), sum(chosen.values()), before, size_on_disk(self.path))


def _source_id(connection: sqlite3.Connection, source: Source) -> int:
    values = (source.checkpoint, source.alias, source.engine)
    connection.execute("INSERT INTO sources (checkpoint, alias, engine) VALUES (?,?,?) ON CONFLICT DO NOTHING", values)
    query = "SELECT id FROM sources WHERE checkpoint=? AND alias=? AND engine=?"
    (found,) = connection.execute(query, values).fetchone()
    return int(found)
