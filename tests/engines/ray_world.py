"""What the tests of the Ray engine stand on: a cluster of two nodes on this machine, and scripts that keep a log."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines.ray_engine import RayEngine
from forgetbench.types import Request, Response
from tests.engines.conftest import generate

_SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}


@dataclass(frozen=True)
class World:
    cluster: Any
    second: Any
    """The node beside the head."""
    client_port: int

    @property
    def address(self) -> str:
        return str(self.cluster.address)


@contextlib.contextmanager
def two_nodes() -> Iterator[World]:
    """A head and a second node, one CPU each, and a server for ray:// on the head."""
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {**_SMALL, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield World(cluster, cluster.add_node(**_SMALL), port)
    finally:
        cluster.shutdown()


_SCRIPT = """
import os, time
from pathlib import Path
here = Path({folder!r})

def answer(request):
    with (here / "log").open("a") as log:
        log.write(f"{{os.getpid()}} {{request.request_id}}\\n")
    text = request.prompt.text
    time.sleep({delay})
    if "poison" in text:
        time.sleep({dying})
        os._exit(1)
    if "once" in text and not (here / "happened").exists():
        (here / "happened").touch()
        raise SystemExit("the card fell off the bus")
    return f"<{{text}}>"
"""


class Scripted:
    """A scripted model that logs what it is asked, by process."""

    def __init__(self, folder: Path, delay: float = 0.0, dying: float = 0.0) -> None:
        """Seconds for each answer, and before a poisoned request ends the process."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.script = folder / "script.py"
        self.script.write_text(_SCRIPT.format(folder=str(folder), delay=delay, dying=dying))

    def checkpoint(self) -> Checkpoint:
        args = {"engine": "scripted", "engine_args": {"script": str(self.script)}}
        return resolve(ModelSpec("s", engine="ray", engine_args=args))

    def engine(self, address: str, **args: Any) -> RayEngine:
        checkpoint = self.checkpoint()
        return RayEngine(checkpoint, **{**checkpoint.spec.engine_args, "address": address, **args})

    def asked(self) -> Counter[str]:
        """How often each request reached a script."""
        return Counter(line.split()[1] for line in self._log())

    def processes(self) -> set[str]:
        return {line.split()[0] for line in self._log()}

    def _log(self) -> list[str]:
        file = self.folder / "log"
        return file.read_text().splitlines() if file.is_file() else []


def questions(count: int, word: str = "question") -> list[Request]:
    return [generate(f"{word}{i:03}", f"{word} {i:03}", 99) for i in range(count)]


def by_id(responses: list[Response], requests: list[Request]) -> dict[str, Response]:
    """Every request answered exactly once, or the test fails."""
    assert sorted(r.request_id for r in responses) == sorted(r.request_id for r in requests)
    return {r.request_id: r for r in responses}
