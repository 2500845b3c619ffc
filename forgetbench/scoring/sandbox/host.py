"""The harness's side of the sandbox: start the server, hand it programs, notice when it fails."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.scoring.sandbox import bwrap
from forgetbench.scoring.sandbox.inside.codec import ProtocolError, pack, read_frame
from forgetbench.scoring.sandbox.types import Integrity, Limits, Program, Result

_GRACE = 15.0
"""Seconds beyond a program's own limit after which the server itself counts as stuck."""
_START = 30.0
CURE = (
    "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap) and let it make namespaces (in Docker: "
    "--security-opt seccomp=unconfined --cap-add SYS_ADMIN; Ubuntu 24.04: an AppArmor profile for bwrap), leave the "
    "code tasks out of the suite, or accept the risk with --unsafe-exec"
)


class _DeadError(Exception):
    """The server ended, is stuck or talks nonsense."""


class Sandbox:
    """Runs one program after another. Threads take turns; the server starts with the first program."""

    def __init__(self, limits: Limits | None = None, *, unsafe: bool = False) -> None:
        self.limits = limits or Limits()
        self.unsafe = unsafe
        """No bubblewrap: limits and the two processes only."""
        self._server: subprocess.Popen[bytes] | None = None
        self._errors: Path | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._count = 0

    def run(self, program: Program) -> Result:
        """What came of the program. A server that fails is started anew and asked once more, then it is an
        infra_error. Raises UsageError: there is no sandbox here."""
        with self._lock:
            problem = ""
            for _ in range(2):
                if self._server is None:
                    problem = self._start()
                    if problem:
                        continue
                try:
                    return self._run(program)
                except _DeadError as e:
                    problem = f"the sandbox failed: {e}"
                    self._stop()
            return Result("infra_error", problem)

    def problem(self) -> str | None:
        """Why no program can be run here; None: a canary program ran, and it could not leave."""
        with self._lock:
            if self._server is None:
                problem = self._start()
                if problem:
                    return problem
        right = self.run(Program(_CANARY, "assert canary(2) == [3, '']", own=("canary",)))
        if self.unsafe:
            return None if right.outcome in ("pass", "fail") else right.why
        wrong = self.run(Program(_CANARY, "assert canary(2) == [4, '']", own=("canary",)))
        if (right.outcome, wrong.outcome) != ("pass", "fail"):
            self.close()
            return f"a harmless program gave {right.outcome} ({right.why}) and {wrong.outcome} ({wrong.why})"
        return None

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _start(self) -> str:
        """Start the server; what went wrong, or an empty text."""
        root = os.geteuid() == 0
        self._folder = tempfile.TemporaryDirectory(prefix="forgetbench-", ignore_cleanup_errors=True)
        base = Path(self._folder.name)
        self._errors = base / "errors"
        folder = bwrap.TMP if not self.unsafe else str(base / "programs")
        if self.unsafe:
            (base / "programs").mkdir()
        user = 50_000 + 2 * (os.getpid() % 5_000)  # of no one else: RLIMIT_NPROC counts a user's processes
        config = json.dumps(
            {
                "memory": self.limits.memory,
                "processes": self.limits.processes,
                "file_bytes": self.limits.disk,
                "files": self.limits.files,
                "folder": folder,
                "users": {"judge": user, "candidate": user + 1} if root and not self.unsafe else None,
                "isolated": not self.unsafe,
            }
        )
        try:
            self._server = self._spawn(config, root)
            ready = self._receive(time.monotonic() + _START)
        except (OSError, _DeadError) as e:
            problem = self._said() or str(e)
            self._stop()
            return problem
        if ready.get("ready") is True and (self.unsafe or ready.get("pid") == 1):
            return ""
        self._stop()
        return "the sandbox has no process namespace of its own"

    def _spawn(self, config: str, root: bool) -> subprocess.Popen[bytes]:
        assert self._errors is not None
        read = None
        if self.unsafe:
            path = str(Path(__file__).parent)
            found = bwrap.libraries()
            command = bwrap.python_command(config, path, str(found[0].parent) if found else path)
        else:
            program = shutil.which("bwrap")
            if program is None:
                raise _DeadError("bwrap is not installed")
            filter_program = bwrap.seccomp_filter()
            if filter_program is not None:
                read, write = os.pipe()
                os.write(write, filter_program)
                os.close(write)
            command = bwrap.command(program, config, root=root, tmp_bytes=self.limits.disk, seccomp_fd=read)
        try:
            with open(self._errors, "wb") as errors:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    bufsize=0,
                    env=bwrap.ENVIRONMENT,
                    cwd="/",
                    pass_fds=() if read is None else (read,),
                    start_new_session=True,
                )
        finally:
            if read is not None:
                os.close(read)

    def _said(self) -> str:
        """The last line that bwrap or the server wrote to its standard error."""
        with contextlib.suppress(OSError):
            if self._errors is not None:
                lines = self._errors.read_text("utf-8", "replace").strip().splitlines()
                return lines[-1][:300] if lines else ""
        return ""

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.kill()  # bwrap's --die-with-parent takes all that is inside with it
            server.wait()
            for stream in (server.stdin, server.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _run(self, program: Program) -> Result:
        self._count += 1
        number = self._count
        tests = program.tests.encode("utf-8", "surrogatepass")
        header: dict[str, Any] = {
            "id": number,
            "program": program.source,
            "own": list(program.own),
            "shared": program.shared,
            "tests_bytes": len(tests),
            "wall": program.wall_seconds or self.limits.wall_seconds,
        }
        deadline = time.monotonic() + header["wall"] + _GRACE
        self._send(pack(header) + tests, deadline)
        integrity: Integrity = "weak" if program.shared else "separate"
        verdict: dict[str, Any] | None = None
        while True:
            message = self._receive(deadline)
            if message.get("id") != number:
                raise _DeadError("an answer to another question")
            if "outcome" in message:
                verdict = message
                continue
            seconds = float(message.get("seconds", 0.0))
            if message.get("end") != "judged":
                return Result(message["end"], str(message.get("why", "")), seconds, integrity)
            if verdict is None:
                raise _DeadError("a run without a verdict")
            return Result(verdict["outcome"], str(verdict["why"]), seconds, integrity)

    def _send(self, data: bytes, deadline: float) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        stream = self._server.stdin.fileno()
        rest = memoryview(data)
        try:
            while rest:
                if not select.select([], [stream], [], max(0.0, deadline - time.monotonic()))[1]:
                    raise _DeadError("it takes no input")
                rest = rest[os.write(stream, rest[:65536]) :]
        except OSError as e:
            raise _DeadError(self._said() or f"it ended ({e.strerror})") from None

    def _receive(self, deadline: float) -> dict[str, Any]:
        assert self._server is not None
        assert self._server.stdout is not None
        stream = self._server.stdout.fileno()

        def read(n: int) -> bytes:
            if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise _DeadError("it does not answer")
            return os.read(stream, n)

        try:
            message = read_frame(read)
        except (EOFError, ProtocolError) as e:
            raise _DeadError(self._said() or str(e)) from None
        if not isinstance(message, dict):
            raise _DeadError("nonsense")
        return message


_CANARY = """
def canary(x):
    import os, socket
    out = []
    for path in ("/canary", "/usr/canary", "/dev/canary", "/dev/shm/canary"):
        try:
            open(path, "w").close()
            out.append(path)
        except OSError:
            pass
    try:
        socket.create_connection(("127.0.0.1", 9), 0.2)
        out.append("network")
    except PermissionError:
        pass
    except OSError as e:
        if e.errno != 111:
            out.append(str(e))
    if os.getuid() == 0:
        out.append("root")
    return [x + 1, ", ".join(out)]
"""
"""Does something, and tries to leave. (A socket that is refused is as good: there is no one on the loopback.)"""

_shared: dict[bool, Sandbox] = {}
_guard = threading.Lock()


def get_sandbox(*, unsafe: bool = False) -> Sandbox:
    """The process's sandbox, tried out once. Raises UsageError with the cure where there is none."""
    with _guard:
        known = _shared.get(unsafe)
        if known is None:
            known = Sandbox(unsafe=unsafe)
            problem = known.problem()
            if problem is not None:
                known.close()
                raise UsageError("code tasks", f"there is no sandbox to run generated programs in: {problem}", CURE)
            _shared[unsafe] = known
            atexit.register(known.close)
        return known
