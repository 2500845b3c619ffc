"""Hostile programs: no wrong verdict, nothing outside touched, and the next program is judged rightly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forgetbench.scoring.sandbox import Limits, Program, Sandbox

from .hostile import PROGRAMS, TESTS, Hostile

pytestmark = pytest.mark.slow

RIGHT = Program("def f(x): return x + 1", TESTS, own=("f",))
INSPECT = """
def f(x):
    import os
    pids = sorted(int(p) for p in os.listdir("/proc") if p.isdigit())
    return [len(pids), os.listdir("/tmp")]
"""


class World:
    """What stands outside the sandbox."""

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "secret"
        self.secret.write_text("untouched", encoding="utf-8")
        self.secret.chmod(0o666)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.server.accept()[0].close()
            except OSError:
                return
            self.connections += 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("outside"))
    socket.create_connection(("127.0.0.1", made.port), 1).close()  # it can be reached from here
    while made.connections == 0:
        time.sleep(0.01)
    yield made
    made.server.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    os.environ["FORGETBENCH_TEST_SECRET"] = "hunter2"
    made = Sandbox(Limits(wall_seconds=1.5, memory=512 << 20))
    problem = made.problem()
    if problem is not None:
        if os.environ.get("CI"):
            pytest.fail(f"no sandbox: {problem}; run scripts/sandbox.sh")
        pytest.skip(f"no sandbox: {problem}")
    yield made
    made.close()
    del os.environ["FORGETBENCH_TEST_SECRET"]


@pytest.mark.parametrize("hostile", PROGRAMS, ids=lambda h: h.name)
def test_hostile(hostile: Hostile, sandbox: Sandbox, world: World) -> None:
    seen = world.connections
    source = hostile.source.replace("{SECRET!r}", repr(str(world.secret))).replace("{PORT}", str(world.port))
    result = sandbox.run(Program(source, TESTS, own=("f",)))
    assert result.outcome in hostile.outcomes, result
    assert result.seconds < 4
    assert world.secret.read_text(encoding="utf-8") == "untouched"
    assert world.connections == seen
    # What comes after is judged rightly, in an empty folder, with server, judge and candidate as only processes.
    assert sandbox.run(RIGHT).outcome == "pass"
    after = sandbox.run(Program(INSPECT, "assert f(1) == [3, []]", own=("f",)))
    assert after.outcome == "pass", after


@pytest.mark.parametrize("name", ["tests_in_frames", "tests_in_memory"])
def test_a_hunt_finds_tests_that_are_there(name: str, sandbox: Sandbox) -> None:
    """The same programs succeed where tests run in the program's own process: they are no blanks, and `weak` is."""
    [hunt] = [h for h in PROGRAMS if h.name == name]
    result = sandbox.run(Program(hunt.source, TESTS, own=("f",), shared=True))
    assert (result.outcome, result.integrity) == ("pass", "weak")


def test_enough_kinds() -> None:
    assert len({h.name for h in PROGRAMS}) == len(PROGRAMS) >= 34
    assert all("pass" not in h.outcomes and "infra_error" not in h.outcomes for h in PROGRAMS)


def test_nothing_is_left(sandbox: Sandbox) -> None:
    """After the server's end no process of any program runs; a harness that is killed takes the server along."""
    code = (
        "import os, sys, time\nfrom forgetbench.scoring.sandbox import Program, Sandbox\ns = Sandbox()\n"
        "assert s.problem() is None\nprint(s._server.pid, flush=True)\n"
        "s.run(Program('import time\\ntime.sleep(60)', '', wall_seconds=60))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    server = int(child.stdout.readline())
    descendants = _descendants(server)
    child.kill()
    child.wait()
    child.stdout.close()
    _gone({server, *descendants})


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid:
            found |= {int(path.parent.name), *_descendants(int(path.parent.name))}
    return found


def _gone(pids: set[int]) -> None:
    assert len(pids) >= 2
    end = time.monotonic() + 5
    alive: Any = pids
    while alive and time.monotonic() < end:
        alive = {p for p in pids if Path(f"/proc/{p}").exists()}
        time.sleep(0.05)
    assert not alive
