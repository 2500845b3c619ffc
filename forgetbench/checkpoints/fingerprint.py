"""Digests of files, remembered so that a second look costs a stat instead of a read.

A file is the same file as long as (real path, size, mtime_ns, ctime_ns, inode) stay the same: ctime cannot be
set back by `touch` or by unpacking an archive, and a replaced file has another inode. A hub cache names its
large blobs by their sha256, so those need no reading at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_SHA256_NAME = re.compile(r"[0-9a-f]{64}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  path TEXT, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, sha256 TEXT,
  PRIMARY KEY (path));
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT);
"""


def default_cache_dir() -> Path:
    """FORGETBENCH_CACHE, or the user's cache folder. Nothing in it is ever needed: deleting it costs time
    only."""
    explicit = os.environ.get("FORGETBENCH_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forgetbench"


def digest_json(value: Any) -> str:
    """16 hex digits of sha256 over canonical JSON."""
    blob = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(blob.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sha256_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class FingerprintStore:
    """Remembers sha256 of files, and small facts derived from file contents (keyed by those contents'
    digest).

    SQLite, one statement per transaction: safe with several processes. A store that cannot be opened, read or
    written (read-only disk, locked, damaged) is ignored, since all it saves is time.
    """

    def __init__(self, cache_dir: Path | None = None) -> None:
        self.file = (cache_dir or default_cache_dir()) / "fingerprints.sqlite3"

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection | None]:
        connection: sqlite3.Connection | None = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.file, timeout=5.0, isolation_level=None)
            connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error):
            if connection is not None:
                connection.close()
            connection = None
        try:
            yield connection
        finally:
            if connection is not None:
                connection.close()

    def _fetch(self, sql: str, args: tuple[Any, ...]) -> str | None:
        with self._connect() as connection:
            if connection is None:
                return None
            try:
                row = connection.execute(sql, args).fetchone()
            except sqlite3.Error:
                return None
            return str(row[0]) if row else None

    def _store(self, sql: str, args: tuple[Any, ...]) -> None:
        with self._connect() as connection:
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute(sql, args)

    def sha256(self, path: Path) -> str:
        """sha256 of a file's content, 64 hex digits. Raises OSError when it cannot be read."""
        real = Path(os.path.realpath(path))
        if real.parent.name == "blobs" and path.is_symlink() and _SHA256_NAME.fullmatch(real.name):
            return real.name
        before = real.stat()
        key = (str(real), before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino)
        known = self._fetch(
            "SELECT sha256 FROM files WHERE path=? AND size=? AND mtime_ns=? AND ctime_ns=? AND inode=?", key
        )
        if known is not None:
            return known
        digest = sha256_file(real)
        after = real.stat()
        # A file written again within one tick of the clock would keep its times: remember none that young.
        tick_ns = 2_000_000_000 if before.st_mtime_ns % 1_000_000_000 == 0 else 50_000_000
        young = time.time_ns() - before.st_ctime_ns < tick_ns
        moved = (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != key[1:4]
        if not young and not moved:
            self._store("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?)", (*key, digest))
        return digest

    def fact(self, key: str, compute: Callable[[], Any]) -> Any:
        """A JSON value derived from contents whose digest is in `key`; computed once, then remembered."""
        known = self._fetch("SELECT value FROM facts WHERE key=?", (key,))
        if known is not None:
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(known)
        value = compute()
        self._store("INSERT OR REPLACE INTO facts VALUES (?,?)", (key, json.dumps(value)))
        return value
