"""Runs the faulty endpoint's suite in a process that may be killed: python -m tests.engines.endpoint_runner OUT URL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines import openai_client
from forgetbench.engines.registry import make_engine
from forgetbench.execute import execute
from forgetbench.planning.plan import build_plan
from forgetbench.runs.store import Run
from tests.runs import fakes

N_ITEMS = 40


def served(url: str, cache: Path, **args: Any) -> Checkpoint:
    said = {"base_url": url, "model": "m", "fingerprint": "f", "concurrency": 8, "timeout": 0.8, **args}
    return resolve(ModelSpec("served", engine="openai", engine_args=said), cache)


def run(out: Path, url: str, n: int = N_ITEMS, **kwargs: Any) -> Run:
    point = served(url, out / "cache")
    jobs = fakes.jobs(n)
    engine = make_engine(point)
    return execute(build_plan(jobs, point), jobs, point, lambda: engine, out / "run", **kwargs)


if __name__ == "__main__":
    openai_client._FIRST_PAUSE = 0.01
    run(Path(sys.argv[1]), sys.argv[2])
