"""Writing files so that a crash at any point leaves the old content or the new one, never a mixture."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from forgetbench.errors import ForgetbenchError

_FULL = {errno.ENOSPC, errno.EDQUOT}

# macOS has no fdatasync; fsync does the same and more.
fdatasync = getattr(os, "fdatasync", os.fsync)


class DiskFullError(ForgetbenchError):
    """No room to store results. What was stored before stays valid, and the same command resumes."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: no space left on the disk; free some and run the same command again: "
            "every answer stored so far is kept"
        )


@contextlib.contextmanager
def full_disk_is_one_line(path: Path) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into DiskFullError(path); let every other error through."""
    try:
        yield
    except OSError as e:
        if e.errno in _FULL:
            raise DiskFullError(path) from e
        raise


def safe_name(name: str) -> str:
    """A name that is one harmless path component: task and alias names may hold slashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "_"


def write_all(fd: int, blob: bytes) -> None:
    """os.write until everything is written: a write may be short."""
    view = memoryview(blob)
    while view:
        view = view[os.write(fd, view) :]


def fsync_dir(folder: Path) -> None:
    """Make a new or renamed name in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def atomic_write(path: Path, blob: bytes) -> None:
    """tmp + fsync + rename + fsync of the folder. Raises DiskFullError; `path` is then as before."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with full_disk_is_one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            try:
                write_all(fd, blob)
                os.fsync(fd)
            finally:
                os.close(fd)
            tmp.replace(path)
        except BaseException:
            tmp.unlink(missing_ok=True)
            raise
        fsync_dir(path.parent)


def remove_stale(folder: Path, age_seconds: float = 3600.0) -> None:
    """Remove what a killed `atomic_write` left in `folder`; a young one may be another process at work."""
    for tmp in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - tmp.stat().st_mtime > age_seconds:
                tmp.unlink()
