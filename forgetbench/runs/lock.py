"""Advisory locks between processes.

Two processes on one run could not harm each other's responses (each appends to its own segments), but both
would ask the same questions. So a task folder is locked while its questions are asked, and a second process
waits, finds the answers on disk, and goes on.

POSIX record locks (lockf), not flock: they belong to the process alone, so that a child that an engine forked
and that outlives a kill -9 cannot keep the lock. The kernel drops them when the process dies; nothing is ever
stale. Where the file system has no locks, work goes on without them, which costs time and no data; so it does in a
folder that nothing can be written to, where there is nothing to guard.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_HELD = {errno.EACCES, errno.EAGAIN}
_READ_ONLY = {errno.EACCES, errno.EROFS}
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def _owner(fd: int) -> str:
    try:
        return os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"
    except OSError:
        return "another process"


@contextlib.contextmanager
def locked(path: Path, *, on_wait: Callable[[str], None] | None = None, poll: float = 0.1) -> Iterator[None]:
    """Hold the lock file `path`; wait while another process holds it (Ctrl-C ends the wait).

    `on_wait` is called once, with the owner as text, when there is something to wait for. Not re-entrant, and
    no lock between threads of one process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as e:
        if e.errno not in _READ_ONLY or os.access(path.parent, os.W_OK):
            raise
        yield
        return
    try:
        told = False
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                if e.errno in _UNSUPPORTED:
                    break
                if e.errno not in _HELD:
                    raise
                if not told and on_wait is not None:
                    on_wait(_owner(fd))
                told = True
                time.sleep(poll)
                continue
            # For the other's message only; a full disk must not fail here.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            break
        yield
    finally:
        os.close(fd)
