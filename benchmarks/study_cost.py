"""What the distribution of `compare` costs beside the comparison itself: tokens and time, on the demo's checkpoints.

    python -m benchmarks.study_cost --demo demo-world

Each repetition runs `compare base sft_v1` twice from nothing, once with `--study none` and once with
`--study distribution`, in turn; the ratio of times is the median over the repetitions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def once(demo: Path, study: str, limit: int) -> tuple[float, float]:
    """(seconds, share of tokens that later rounds took) of one comparison from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for name in ("models", "sets"):
            (here / name).symlink_to((demo / name).resolve())
        for file in demo.glob("*.yaml"):
            shutil.copy(file, here / file.name)
        command = [sys.executable, "-m", "forgetbench", "compare", "base", "sft_v1", "--study", study, "--json"]
        command += ["--no-cache", "--limit", str(limit)]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=here, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode not in (0, 10, 11):
            raise SystemExit(done.stderr)
        (found,) = json.loads(done.stdout)["behaviour"]
        return seconds, 0.0 if found["spent"] is None else float(found["spent"]["share"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--limit", type=int, default=240)
    args = parser.parse_args()
    ratios, shares = [], []
    for _ in range(args.repeat):
        plain, _none = once(args.demo, "none", args.limit)
        more, share = once(args.demo, "distribution", args.limit)
        ratios.append(more / plain)
        shares.append(share)
        print(f"{plain:.1f} s, {more:.1f} s with the distribution: {ratios[-1]:.3f}", file=sys.stderr)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    low, high = min(ratios), max(ratios)
    print(
        f"| `python -m benchmarks.study_cost` | `{commit}` | {100 * max(shares):.1f} % more tokens (bar 15) | "
        f"{100 * (statistics.median(ratios) - 1):+.0f} % time (bar 25; {100 * (low - 1):+.0f} to "
        f"{100 * (high - 1):+.0f}) |"
    )


if __name__ == "__main__":
    main()
