"""The file of the response cache: opened, checked, and made where there is none.

SQLite in WAL mode: any number of processes read while one writes, and a killed one leaves nothing to repair.
Not for a network file system that several machines write to at once: WAL needs shared memory.

Nothing here opens the file but SQLite: closing any other handle of it would drop the locks that SQLite holds for
this process (POSIX locks belong to the process).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from forgetbench.errors import UsageError

APPLICATION_ID = 0x46474243
"""FGBC: tells this file from any other SQLite file."""
VERSION = 1
"""Of the tables. Raise it when they change: a file of another version is not used."""
BUSY_SECONDS = 30.0
"""How long a statement waits for another process's write."""

# Narrow rows apart from the payloads, so that listing, pruning and marking as used read and write little.
_TABLES = """
CREATE TABLE sources (
  id INTEGER PRIMARY KEY, checkpoint TEXT NOT NULL, alias TEXT NOT NULL, engine TEXT NOT NULL,
  UNIQUE (checkpoint, alias, engine));
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, source INTEGER NOT NULL, written INTEGER NOT NULL,
  used INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE TABLE payloads (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);
"""
_REMOVE = "remove it: forgetbench cache prune --all"


class NotACacheError(UsageError):
    """The file is whole and somebody else's: it must not be removed."""


class UnreadableError(UsageError):
    """The file was a cache and cannot be used any more: damaged, or another version's."""


class NoSpaceError(UsageError):
    """The disk is full. Taking answers out needs some room too: then the file can only be removed whole."""


def open_file(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread under the caller's lock.

    Raises UsageError, one line, when the file cannot be used; it is then left as it was.
    """
    connection: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        _prepare(connection, path)
    except (OSError, sqlite3.Error, UsageError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, UsageError):
            raise
        raise as_usage_error(path, error) from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if _is_new(connection, path):
                _make(connection)
            # NORMAL in WAL mode: a power cut may lose the last answers written, never damage the file.
            connection.execute("PRAGMA synchronous=NORMAL")
            return
        except sqlite3.OperationalError as error:
            # Two processes that make the file at once: the change to WAL mode does not wait by itself.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether there are no tables yet. Raises UsageError for a file that is not ours or not of our version."""
    connection.execute("BEGIN")  # one look: another process may be making the tables
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if application == 0 and version == 0 and tables == 0:
        return True
    if application != APPLICATION_ID:
        raise NotACacheError(str(path), "is an SQLite file of something else", "move it away")
    if version != VERSION:
        by = "a newer" if version > VERSION else "an older"
        raise UnreadableError(
            str(path), f"was written by {by} forgetbench (format {version}, this one: {VERSION})", _REMOVE
        )
    return False


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA page_size=8192")
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # prune gives space back without a second copy of the file
    connection.execute("PRAGMA journal_mode=WAL")
    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone() == (0,):  # else another process was quicker
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; waits for another process's write before it begins."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
        raise


def as_usage_error(path: Path, error: Exception) -> UsageError:
    """What went wrong with the file, in one line with its cure."""
    if isinstance(error, OSError):
        return UsageError(str(path), f"cannot be opened ({error.strerror})", "check the folder's permissions")
    reason = " ".join(str(error).split())
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest tells kinds of one error apart
    if code == sqlite3.SQLITE_FULL:
        return NoSpaceError(str(path), "no space left on the disk", "free some, or: forgetbench cache prune --all")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UsageError(str(path), f"another process kept it locked for {BUSY_SECONDS:.0f} s", "try again later")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return UnreadableError(str(path), f"is damaged ({reason})", _REMOVE)
    if isinstance(error, sqlite3.OperationalError) and code in (
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_IOERR,
    ):
        return UsageError(str(path), f"cannot be read and written ({reason})", "check the disk and its permissions")
    return UnreadableError(str(path), f"cannot be used ({reason})", _REMOVE)


def remove_file(path: Path) -> int:
    """Delete a cache that cannot be read, with what SQLite left beside it; bytes freed. Raises UsageError."""
    freed = 0
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        file = path.with_name(name)
        try:
            freed += file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            cure = "check the folder's permissions"
            raise UsageError(str(file), f"cannot be removed ({error.strerror})", cure) from error
    return freed


def size_on_disk(path: Path) -> int:
    """Bytes of the file and of what SQLite keeps beside it."""
    names = (path.name, f"{path.name}-wal", f"{path.name}-shm")
    files = [path.with_name(name) for name in names]
    return sum(f.stat().st_size for f in files if f.exists())
