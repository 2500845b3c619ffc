"""vLLM's own OpenAI-compatible server on a tiny checkpoint, started once a session for those who ask for it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines import tiny

START_SECONDS = 150
MODEL = "tiny"


@dataclass(frozen=True)
class Server:
    base_url: str
    model: str
    folder: Path
    """The checkpoint that it serves."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """vLLM's CPU build: in one process, on one thread, without the network."""
    return {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def start(folder: Path, log: Path, *flags: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server and wait until it is healthy; (process, base_url)."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(64 << 20), "--max-num-seqs", "16", *flags]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment(), stdout=out, stderr=out, start_new_session=True)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return process, f"http://127.0.0.1:{port}/v1"
        except OSError:
            time.sleep(0.3)
    stop(process)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Llama whose tokenizer writes BOS and which has a chat template. conftest.py imports it, so that all tests
    beside it share one server.

    A platform without a build of vLLM for it cannot run these tests, and says so."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here (it has no wheel for this platform)")
    root = tmp_path_factory.mktemp("vllm_server")
    folder = tiny.save(root / "model", "llama", bos=True)
    process, base_url = start(folder, root / "log.txt", "--enable-prompt-tokens-details")
    try:
        yield Server(base_url, MODEL, folder)
    finally:
        stop(process)
