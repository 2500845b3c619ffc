"""The fork-server: the first process of the sandbox. For each program it forks a judge and a candidate.

    harness --stdin--> server             header (program), then the tests
                       judge  <--------- reads the tests itself, so that the server never holds them: what the
                                         server holds, the candidate inherits
    harness <--stdout- judge, server      the judge's verdict; then the server's own account of the run

Candidate and judge share one socket and nothing else. With root outside they are two users, neither of them
the server's; without root they are one user, and only the judge's being non-dumpable keeps them apart.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from . import candidate, judge
from .codec import pack, read_exactly, read_frame

_TICK = 0.05
_READY, _JUDGED, _GONE = b"R", b"V", b"G"
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Server:
    def __init__(self, config: dict[str, Any]) -> None:
        self.memory: int = config["memory"]
        self.processes: int = config["processes"]
        self.file_bytes: int = config["file_bytes"]
        self.files: int = config["files"]
        self.folder: str = config["folder"]
        self.users: dict[str, int] | None = config["users"]
        self.isolated: bool = config["isolated"]
        """Whether this is the first process of a namespace of its own: only then may it kill all others."""
        self.page = os.sysconf("SC_PAGE_SIZE")

    def loop(self) -> None:
        _send({"ready": True, "pid": os.getpid()})
        gc.collect()
        gc.freeze()
        while True:
            try:
                header = read_frame(lambda n: os.read(0, n))
            except EOFError:
                return
            self.run(header)

    def run(self, header: dict[str, Any]) -> None:
        for_judge, for_candidate = socket.socketpair()
        status, report = os.pipe()
        judge_pid = os.fork()
        if judge_pid == 0:
            for_candidate.close()
            os.close(status)
            self.be_judge(header, for_judge.detach(), report)
        os.close(report)
        for_judge.close()
        if os.read(status, 1) != _READY:
            os._exit(3)  # the tests may be half read: nothing after them could be understood
        start = time.monotonic()
        candidate_pid = os.fork()
        if candidate_pid == 0:
            os.close(status)
            self.be_candidate(header, for_candidate.detach())
        for_candidate.close()
        end, why = self.watch(status, judge_pid, candidate_pid, start + header["wall"])
        seconds = time.monotonic() - start
        os.close(status)
        self.kill(judge_pid, candidate_pid)
        self.clean()
        _send({"id": header["id"], "end": end, "why": why, "seconds": seconds})

    def be_judge(self, header: dict[str, Any], channel: int, report: int) -> NoReturn:
        try:
            tests = read_exactly(lambda n: os.read(0, n), header["tests_bytes"]).decode("utf-8", "surrogatepass")
            out = os.dup(1)
            os.set_inheritable(out, False)
            self.limit("judge", header["wall"])
            _null()
            os.write(report, _READY)
            outcome, why = judge.judge(channel, tests, header["own"], header["shared"])
            if outcome == judge.GONE:
                os.write(report, _GONE)
            else:
                # One write of at most PIPE_BUF bytes: whole or not at all, should the judge be killed here.
                os.write(out, pack({"id": header["id"], "outcome": outcome, "why": _short(why)}))
                os.write(report, _JUDGED)
        finally:
            os._exit(0)

    def be_candidate(self, header: dict[str, Any], channel: int) -> NoReturn:
        try:
            os.setsid()
            _null()
            os.dup2(channel, 3)
            os.closerange(4, 256)
            self.limit("candidate", header["wall"])
            candidate.serve(3, header["program"])
        except BrokenPipeError:
            pass
        finally:
            os._exit(0)

    def limit(self, who: str, wall: float) -> None:
        """Limits first, then another user (root would not be bound by the limit on processes)."""
        cpu = math.ceil(wall)

        def at_most(what: int, soft: int, hard: int) -> None:
            # A limit that is lower already (a container's) stays.
            known = resource.getrlimit(what)[1]
            limits = [min(v, known) if known != resource.RLIM_INFINITY else v for v in (soft, hard)]
            resource.setrlimit(what, (limits[0], limits[1]))

        at_most(resource.RLIMIT_CORE, 0, 0)
        at_most(resource.RLIMIT_AS, self.memory, self.memory)
        at_most(resource.RLIMIT_CPU, cpu, cpu + 1)
        at_most(resource.RLIMIT_FSIZE, self.file_bytes, self.file_bytes)
        at_most(resource.RLIMIT_NOFILE, 64, 64)
        at_most(resource.RLIMIT_MEMLOCK, 0, 0)
        at_most(resource.RLIMIT_MSGQUEUE, 0, 0)
        if self.isolated:  # outside a namespace the user's other processes would count
            at_most(resource.RLIMIT_NPROC, self.processes, self.processes)
        if self.users is not None:
            os.setgroups([])
            os.setresgid(*[self.users[who]] * 3)
            os.setresuid(*[self.users[who]] * 3)
        os.umask(0o077)
        os.chdir(self.folder)
        if who == "judge":
            _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

    def watch(self, status: int, judge_pid: int, candidate_pid: int, deadline: float) -> tuple[str, str]:
        """How the run ended, apart from what the judge says: "judged", or an outcome and why."""
        while True:
            readable, _, _ = select.select([status], [], [], max(0.0, min(_TICK, deadline - time.monotonic())))
            if readable:
                said = os.read(status, 1)
                if said == _JUDGED:
                    return "judged", ""
                if said == _GONE:
                    return _candidate_end(candidate_pid)
                return self.judge_end(judge_pid)
            if time.monotonic() >= deadline:
                return "timeout", "the time limit"
            problem = self.over_limit(judge_pid, candidate_pid)
            if problem:
                return "oom", problem

    def over_limit(self, *mine: int) -> str:
        """RLIMIT_AS binds each process alone; this binds all of them together. Looked at every 50 ms."""
        pids = [p for p in os.listdir("/proc") if p.isdigit() and p != "1"] if self.isolated else map(str, mine)
        pages = 0
        for pid in pids:
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm", "rb") as f:
                pages += int(f.read().split()[1])
        if pages * self.page > self.memory:
            return f"more than {self.memory >> 20} MiB in all its processes"
        if self.isolated:
            disk = os.statvfs(self.folder)
            if disk.f_files - disk.f_ffree > self.files:
                return f"more than {self.files} files"
        return ""

    def judge_end(self, pid: int) -> tuple[str, str]:
        """The judge ended without a word. As another user the candidate cannot have killed it."""
        _, how = os.waitpid(pid, 0)
        if os.WIFSIGNALED(how) and os.WTERMSIG(how) == signal.SIGXCPU:
            return "timeout", "the time limit, in the tests"
        if self.users is None and os.WIFSIGNALED(how):
            return "crash", "the judge was killed"
        return "infra_error", f"the judge ended with status {how}"

    def kill(self, *mine: int) -> None:
        """End everything that the run started, and wait for it."""
        if self.isolated:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all but this one: it is the first process of the namespace
        else:
            for pid in mine:
                for send in (os.killpg, os.kill):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        send(pid, signal.SIGKILL)
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return
            if not self.isolated:
                _kill_children()

    def clean(self) -> None:
        """An empty folder for the next program; where that cannot be had, an end to this server."""
        try:
            for entry in os.scandir(self.folder):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        except (OSError, RecursionError):
            if os.listdir(self.folder):
                os._exit(4)


def _candidate_end(pid: int) -> tuple[str, str]:
    """What became of a program that does not answer any more."""
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        done, how = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFEXITED(how):
                return "crash", f"the program ended its process (exit code {os.WEXITSTATUS(how)})"
            number = os.WTERMSIG(how)
            if number == signal.SIGXCPU:
                return "timeout", "the time limit"
            return "crash", f"the program's process died of {signal.Signals(number).name}"
        time.sleep(0.002)
    return "protocol", "the program closed its channel"


def _kill_children() -> None:
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as f:
        for pid in f.read().split():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)


def _short(text: str) -> str:
    """At most 600 characters that take at most 3,600 bytes of ASCII JSON."""
    text = text[:600]
    return text if len(json.dumps(text)) <= 3600 else text[:300]


def _null() -> None:
    """Standard streams of a run lead nowhere: what a program prints is neither kept nor limited otherwise."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def _send(message: dict[str, Any]) -> None:
    os.write(1, pack(message))


def main(config: str) -> None:
    """Runs until its standard input ends."""
    with contextlib.suppress(ImportError):
        import numpy  # noqa: F401  (the tests of the plus benchmarks use it: loaded once, not for each program)
    settings = json.loads(config)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not settings["isolated"]:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sys.setrecursionlimit(1000)
    Server(settings).loop()
