"""One arm and seed in a process of its own: `python -m forgetbench.arms.worker`.

Not multiprocessing: a spawned child would run the caller's main module again, and one that is killed for memory would
break the pool of the others. A pickled job comes in on stdin, its outcome goes to a file: libraries print to stdout.

Stdin stays open as long as the parent lives. Its end is the parent's, however that died (kill -9, out of memory), and
ends the worker: one that lived on would train beside the next call's in the same folders.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = tuple[Callable[..., Any], tuple[Any, ...]]


class Workers:
    """Children that are ended together."""

    def __init__(self) -> None:
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function(*arguments)` returns in a child. Raises ChildProcessError where it died."""
        with tempfile.TemporaryDirectory(prefix="forgetbench-") as folder:
            answer = Path(folder) / "answer"
            with self._lock:
                if self._closed:
                    raise ChildProcessError("ended")
                command = [sys.executable, "-m", "forgetbench.arms.worker", str(answer)]
                child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr)
                self._alive.add(child)
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it died: its exit code says so
                child.stdin.write(pickle.dumps((function, arguments)))
                child.stdin.flush()
            child.wait()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            with self._lock:
                self._alive.discard(child)
            if child.returncode != 0:
                raise ChildProcessError(f"exit code {child.returncode}")
            return pickle.loads(answer.read_bytes())

    def close(self) -> None:
        """End what is still running; nothing starts any more."""
        with self._lock:
            self._closed = True
            for child in self._alive:
                child.terminate()


def _end_with_parent() -> None:
    # Not sys.stdin: a thread that waits in it holds its lock when the interpreter ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    function, arguments = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        found = function(*arguments)
    except KeyboardInterrupt:
        sys.exit(130)  # the parent tells the user
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
