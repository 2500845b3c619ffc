"""Workers live no longer than who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

PARENT = """
import sys
from forgetbench.arms.worker import Workers
from tests.arms.test_worker import linger
Workers().call(linger, sys.argv[1])
"""


def linger(told: str) -> None:
    """What a worker does here: say its id, and stay."""
    Path(f"{told}.tmp").write_text(str(os.getpid()))
    Path(f"{told}.tmp").rename(told)
    time.sleep(120)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # whom nobody waits for is dead all the same


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(told)], env=env)
    until = time.monotonic() + 60
    while not told.exists() and parent.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    worker = int(told.read_text())
    assert _alive(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 20
    while _alive(worker) and time.monotonic() < until:
        time.sleep(0.05)
    lives = _alive(worker)
    if lives:
        os.kill(worker, signal.SIGKILL)
    assert not lives
