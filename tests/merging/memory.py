"""Peak memory and time of a merge on synthetic shards of Llama-3 8B's shapes, in bfloat16.

    python -m tests.merging.memory --layers 1 --methods ties linear slerp

Writes base and candidate (as `benchmarks.drift` does), merges them in a process of its own for each method, and prints
one JSON line each. The peak is that of the process: Python, torch and all; Linux only. Layers are alike in shape, so that the peak does not depend on
their number; time grows with it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drift import LAYERS, make

CONFIG = {"model_type": "llama", "vocab_size": 128_256}


def resident(which: str) -> float:
    """VmRSS or VmHWM (its peak) in GiB. Not ru_maxrss, which a process inherits from the one that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) / 2**20
    raise RuntimeError(f"no {which} in /proc/self/status")


def measure(folder: Path, method: str) -> dict[str, object]:
    """Merge in this process."""
    import torch

    from forgetbench.merging.merge import merge
    from forgetbench.merging.recipe import recipes
    from tests.merging import models

    torch.set_num_threads(1)
    points = [models.point(folder / n) for n in ("base", "candidate", "candidate")]
    points = points[:2] if method in ("wise-ft", "slerp") else points
    alphas = (0.5,) if method in ("wise-ft", "slerp") else None
    before = resident("VmRSS")
    begun, worked = time.perf_counter(), time.process_time()
    marks: list[tuple[float, str]] = []
    (recipe,) = recipes(method, len(points), alphas=alphas)
    found = merge(points, recipe, folder / "merged", tell=lambda d, n, name: marks.append((time.process_time(), name)))
    cpu = time.process_time() - worked
    ends = [t for t, _ in marks[1:]] + [worked + cpu]
    inside = sum(end - at for (at, name), end in zip(marks, ends, strict=True) if ".layers." in name)
    layers = len({name.split(".")[2] for _, name in marks if ".layers." in name})
    return {
        "method": method,
        "models": len(points),
        "layers": layers,
        "bytes": found.size,
        "files": len(list((folder / "merged").glob("*.safetensors"))),
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(cpu, 1),
        "cpu_seconds_at_32_layers": round(cpu - inside + LAYERS * inside / max(1, layers), 1),
        "rss_before_gib": round(before, 2),
        "peak_rss_gib": round(resident("VmHWM"), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=["ties"])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, *args.methods)))
        return
    folder = Path(tempfile.mkdtemp(prefix="merge-"))
    try:
        for name in ("base", "candidate"):
            make(folder / name, args.layers, tuned=name == "candidate")
            (folder / name / "config.json").write_text(json.dumps(CONFIG))
            (folder / name / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
        for method in args.methods:
            command = [sys.executable, "-m", "tests.merging.memory", "--measure", str(folder), "--methods", method]
            subprocess.run(command, check=True)
            shutil.rmtree(folder / "merged")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
