"""Taking answers out of the response cache, and giving their space back to the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from forgetbench.engines.cache_file import transaction
from forgetbench.errors import UsageError

_CHUNK = 5000
"""Entries removed in one transaction, pages given back in one: another process may write in between."""
SHORTEST_PREFIX = 6
"""Hex digits of a checkpoint's digest that count as naming it."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was taken out, or would be."""

    removed: int
    """Answers."""
    bytes: int
    """Of them, as stored."""
    file_before: int
    """Bytes on disk."""
    file_after: int


def sources_of(connection: sqlite3.Connection, checkpoint: str, where: str) -> list[int]:
    """Ids of the sources whose alias it is, or whose digest begins so. Raises UsageError when there is none."""
    rows = connection.execute("SELECT id, alias, checkpoint FROM sources ORDER BY id").fetchall()
    is_prefix = len(checkpoint) >= SHORTEST_PREFIX
    found = [i for i, alias, digest in rows if alias == checkpoint or (is_prefix and digest.startswith(checkpoint))]
    if not found:
        known = ", ".join(sorted({alias for _, alias, _ in rows})) or "none: it is empty"
        raise UsageError(where, f"holds no answers of '{checkpoint}'", f"aliases in it: {known}")
    return found


def unused(connection: sqlite3.Connection, before: int | None, sources: Sequence[int] | None) -> list[tuple[int, int]]:
    """(id, bytes) of the entries of these sources (None: of all) last used on an earlier day than `before`."""
    conditions, values = ["1"], list[int]()
    if before is not None:
        conditions.append("used < ?")
        values.append(before)
    if sources is not None:
        conditions.append(f"source IN ({','.join('?' * len(sources))})")
        values.extend(sources)
    return connection.execute(f"SELECT id, size FROM entries WHERE {' AND '.join(conditions)}", values).fetchall()


def live_bytes(connection: sqlite3.Connection) -> int:
    """How large the file is once its free pages are given back."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages - free) * int(size)


def beyond(connection: sqlite3.Connection, max_bytes: int, gone: set[int]) -> list[tuple[int, int]]:
    """(id, bytes) of what has to go so that the file shrinks to `max_bytes`, the longest unused first.

    `gone` are entries that are as good as removed. Each entry counts with its share of the whole file, pages and
    index included.
    """
    live = live_bytes(connection)
    if live <= max_bytes:
        return []
    rows = connection.execute("SELECT id, size FROM entries ORDER BY used, id").fetchall()
    left = sum(size for i, size in rows if i not in gone)
    allowed = sum(size for _, size in rows) * max_bytes / live
    chosen: list[tuple[int, int]] = []
    for i, size in rows:
        if left <= allowed:
            break
        if i not in gone:
            chosen.append((i, size))
            left -= size
    return chosen


def remove(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Take these entries out, and the sources that have none left."""
    for start in range(0, len(ids), _CHUNK):
        some = [(i,) for i in ids[start : start + _CHUNK]]
        with transaction(connection):
            connection.executemany("DELETE FROM payloads WHERE id=?", some)
            connection.executemany("DELETE FROM entries WHERE id=?", some)
    with transaction(connection):
        connection.execute("DELETE FROM sources WHERE id NOT IN (SELECT source FROM entries)")


def shrink(connection: sqlite3.Connection) -> None:
    """Give free pages back to the disk. Another process that reads meanwhile may put that off until it ends."""
    while True:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if not free:
            break
        connection.execute(f"PRAGMA incremental_vacuum({_CHUNK})").fetchall()
        (now_free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if now_free >= free:
            break
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
