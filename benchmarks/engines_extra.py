"""The two rows of the engine table that are about what need not be run again."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cache
from benchmarks.engines_side import CHILD_ENVIRONMENT
from benchmarks.engines_table import Bar, TableRow

NAMES = ("base", "first", "second")


def cached_row(work: Path, items: int, runs: int) -> TableRow:
    """A run all of whose answers are in the response cache (benchmarks/cache.py)."""
    folder = work / "cached"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _, again, size = cache.measure(folder, items, runs, lambda line: print(f"  {line}", flush=True))
    shutil.rmtree(folder, ignore_errors=True)
    seconds = [t.total for t in again]
    measure = f"everything cached, {again[0].records:,} records, seconds"
    bar = Bar("< 5", 5.0, at_least=False)
    return TableRow(measure, bar, statistics.median(seconds), min(seconds), max(seconds), f"cache {size / 1e6:.1f} MB")


def second_candidate_row(work: Path, models: Sequence[Path], data: Path, items: int, runs: int) -> TableRow:
    """`compare base second` where `compare base first` was run before, over what that one took.

    Whole commands, from the start of the process to its end. The folder of runs is removed between them, so that the
    base comes out of the response cache.
    """
    shares = []
    for _ in range(runs):
        folder = work / "second"
        shutil.rmtree(folder, ignore_errors=True)
        config = _workspace(folder, models, data, items)
        both = _compare(config, NAMES[1])
        shutil.rmtree(folder / ".forgetbench" / "runs")
        after = _compare(config, NAMES[2])
        print(f"  two runs {both:.1f} s, base cached {after:.1f} s", flush=True)
        shares.append(after / both)
        shutil.rmtree(folder, ignore_errors=True)
    bar = Bar("<= .52", 0.52, at_least=False)
    measure = "second candidate, base cached: share of the two-run cost"
    note = f"whole commands, transformers; TruthfulQA, {items} items"
    return TableRow(measure, bar, statistics.median(shares), min(shares), max(shares), note)


def _workspace(folder: Path, models: Sequence[Path], data: Path, items: int) -> Path:
    folder.mkdir(parents=True)
    suite = {"name": "speed", "views": ["ability"], "tasks": [{"task": "truthfulqa", "limit": items}]}
    settings = {
        "models": {
            name: {"path": str(path), "engine_args": {"device": "cpu", "threads": 1}}
            for name, path in zip(NAMES, models, strict=True)
        },
        "suite": "suite.yaml",
        "paths": {"data": str(data)},
    }
    (folder / "suite.yaml").write_text(json.dumps(suite), encoding="utf-8")
    (folder / "forgetbench.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return folder / "forgetbench.yaml"


def _compare(config: Path, candidate: str) -> float:
    """Seconds of the command. Raises RuntimeError where it ends otherwise than with a verdict."""
    command = [sys.executable, "-m", "forgetbench", "compare", NAMES[0], candidate, "--config", str(config)]
    begin = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **CHILD_ENVIRONMENT}, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode not in (0, 10, 11):
        raise RuntimeError(f"compare ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return seconds
