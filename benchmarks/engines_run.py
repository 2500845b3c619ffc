"""Runs sides of the engine benchmark, each in its own fresh process, in alternation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.engines_side import CHILD_ENVIRONMENT
from benchmarks.engines_table import difference
from benchmarks.engines_world import Workload

BATCHES = (1, 8, 32)
"""lm-eval's batch sizes that are tried once each, on a part of the items; the fastest is used."""
_TRIAL = 32
"""Items of that part, at least: a batch of 32 must be one."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same for both sides."""

    engine: str
    model: Path
    data: Path
    folder: Path
    engine_args: Mapping[str, Any]
    dtype: str = "float32"
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Pairing:
    """Alternating runs of one workload, in the order in which they ran."""

    ours: tuple[dict[str, Any], ...]
    theirs: tuple[dict[str, Any], ...]
    batch: int | str

    def seconds(self, side: str) -> list[float]:
        return [float(r["seconds"]) for r in (self.ours if side == "ours" else self.theirs)]


def stand_in(folder: Path) -> Path:
    """A folder for PYTHONPATH with nothing but the metadata of a distribution named `vllm`.

    lm-eval asks for the version of a distribution of that name; the CPU build of the same engine goes by another.
    """
    info = folder / "stand_in" / "vllm-0.32.0+cpu.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n", encoding="utf-8")
    return info.parent


def run_side(setting: Setting, work: Workload, side: str, batch: int | str = 1) -> dict[str, Any]:
    """One run in a fresh process. Raises RuntimeError with the end of what it wrote where it fails."""
    spec = {
        "side": side,
        "engine": setting.engine,
        "model": str(setting.model),
        "data": str(setting.data),
        "work_dir": str(setting.folder),
        "engine_args": dict(setting.engine_args),
        "dtype": setting.dtype,
        "device": setting.device,
        "batch": batch,
        "work": asdict(work),
    }
    environment = {**os.environ, **CHILD_ENVIRONMENT}
    if setting.engine == "vllm" and side == "theirs":
        paths = [str(stand_in(setting.folder)), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        given, found = Path(folder) / "spec.json", Path(folder) / "found.json"
        given.write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.engines_side", str(given), str(found)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not found.is_file():
            end = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
            raise RuntimeError(f"{side} ({setting.engine}, {work.name}) ended with {done.returncode}:\n{end}")
        result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    print(f"  {setting.engine} {work.task}: {side} {batch if side == 'theirs' else ''} {result['seconds']:.1f} s "
          f"({result['items']} items, loaded in {result['load_seconds']:.1f} s)", flush=True)  # fmt: skip
    return result


def compare_sides(setting: Setting, work: Workload, runs: int, batches: Sequence[int | str] = BATCHES) -> Pairing:
    """lm-eval's best batch size, then ours and theirs in turn. Raises RuntimeError where a score differs."""
    trial = replace(work, limit=max(_TRIAL, (work.limit or 4 * _TRIAL) // 4))
    tried = {b: run_side(setting, trial, "theirs", b) for b in batches} if len(batches) > 1 else {}
    batch = min(tried, key=lambda b: tried[b]["seconds"]) if tried else batches[0]
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for _ in range(runs):
        ours.append(run_side(setting, work, "ours"))
        theirs.append(run_side(setting, work, "theirs", batch))
        problem = difference(ours[-1]["scores"], theirs[-1]["scores"])
        if problem is not None:
            raise RuntimeError(f"{setting.engine}, {work.name}: the scores are not equal: {problem}")
    return Pairing(tuple(ours), tuple(theirs), batch)


def equal_texts(pairing: Pairing) -> tuple[int, int]:
    """Items whose generated texts are the same on both sides in the last run, and all items."""
    mine, other = pairing.ours[-1]["texts"], pairing.theirs[-1]["texts"]
    return sum(mine[k] == other[k] for k in other), len(other)
