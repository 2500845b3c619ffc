"""The connection to Ray: one per process however many engines use it, quiet, and closed by the last of them
only if it was opened here."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forgetbench.errors import ModelLoadError

MOST_ACTORS = 8
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CLIENT_TRIES = 3
_NO_CLIENT_SERVER = "Initialization failure from server"
"""Ray 2.60, util/client/worker.py: what follows is the error there, of a process that died or is a zombie by now."""
_lock = threading.Lock()
_users = 0
"""Engines that use a connection which was opened here."""


def ray_module() -> Any:
    """Ray, imported on first use. It is not to tell its makers about the user's runs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    return ray


def connect(address: str | None, runtime_env: Mapping[str, Any], where: str) -> tuple[bool, bool]:
    """Join or start a cluster, unless this process has joined one.

    Returns whether this call is to be paired with `disconnect`, and whether it was this call that connected
    (only then `runtime_env` is in force). Raises ModelLoadError when no cluster answers.
    """
    global _users
    with _lock:
        ray = ray_module()
        if ray.is_initialized():
            _users += _users > 0
            return _users > 0, False
        options: dict[str, Any] = {"runtime_env": dict(runtime_env)} if runtime_env else {}
        if address is None or "://" not in address:
            options |= {"include_dashboard": False}
        try:
            with _own_sigterm():
                _init(ray, address, options)
        except Exception as error:  # ConnectionError, RuntimeError, ValueError, grpc's own
            told = f" at {address}" if address else ""
            raise ModelLoadError(
                f"{where}.address: no Ray cluster can be used{told} ({reason(error)}); "
                "start one with `ray start --head`, or set `address: local`"
            ) from None
        _show_raylet_lines(ray, False)
        _users = 1
        return True, True


def _init(ray: Any, address: str | None, options: Mapping[str, Any]) -> None:
    """`ray.init`, again where the head's server for ray:// could not start a process for this client.

    That process is forked from a server with gRPC threads and dies now and then at its start (1 of 25 connections
    in a loop on two cores); the next try is given another. A failed client also leaves this process in client mode,
    in which every later `ray.init` fails an assertion: it is taken back.
    """
    for tries_left in reversed(range(_CLIENT_TRIES)):
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR", **options)
            return
        except Exception as error:
            if address is None or "://" not in address:
                raise
            ray.util.disconnect()
            if not tries_left or _NO_CLIENT_SERVER not in str(error):
                raise


def disconnect() -> None:
    """Close the connection when its last user leaves; a cluster that it started ends with it."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            ray = ray_module()
            with _own_sigterm():
                ray.shutdown()
            _show_raylet_lines(ray, True)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray puts its own SIGTERM handler in place; the one of this process, which saves its work, comes back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


def _show_raylet_lines(ray: Any, show: bool) -> None:
    """Forty lines of Ray's internals per lost node are not for the user's terminal: the engine says it in one.

    Ray has no public switch for them (`log_to_driver` is about actors' output only).
    """
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "_worker_logs_enabled"):
        worker._worker_logs_enabled = show


def capacity(nodes: Sequence[Mapping[str, Any]], cpus: float, gpus: float) -> int:
    """How many actors fit, node by node (an actor never spans two). `nodes`: as `ray.nodes()` tells."""
    total = 0
    for node in nodes:
        if node.get("Alive"):
            have = node.get("Resources", {})
            fits = [have.get(kind, 0.0) // wanted for kind, wanted in (("CPU", cpus), ("GPU", gpus)) if wanted > 0]
            total += int(min(fits, default=MOST_ACTORS))
    return total


def gpu_count(nodes: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(node.get("Resources", {}).get("GPU", 0.0) for node in nodes if node.get("Alive")))


def describe(nodes: Sequence[Mapping[str, Any]]) -> str:
    """`2 nodes, 8 CPUs, 4 GPUs`."""
    alive = [node for node in nodes if node.get("Alive")]
    cpus = sum(node.get("Resources", {}).get("CPU", 0.0) for node in alive)
    return f"{len(alive)} nodes, {cpus:g} CPUs, {gpu_count(alive):g} GPUs"


def reason(error: BaseException) -> str:
    """Ray's reason for an error as one short line. Its texts hold ids, process numbers and tracebacks."""
    if type(error).__name__ == "ActorUnavailableError":
        return "its process or node is gone"
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip() and line[0] != "\t"]
    if any(line.startswith("Traceback") for line in lines) or "in its creation task" in str(error):
        lines = lines[-1:]
    kept = [line for line in lines if not line.startswith("The actor died unexpectedly before")] or lines
    return " ".join(kept)[:300].strip() or type(error).__name__
