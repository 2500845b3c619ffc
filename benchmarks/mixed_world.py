"""The mixed world over seeds: does each planted cause take, and what does the oracle call the lost items?

    python -m benchmarks.mixed_world --demos FOLDER --work FOLDER --seeds 0 1 2 [--out FILE]

`--demos` holds seed-N folders of the demo (make proof-demo). Each world is trained anew unless it is there already;
the oracle asks again only where its answers are missing or older than the checkpoints. Ends with exit code 1 where the
oracle calls fewer than 100 lost items of a seed by the name of a cause (a fact planted as `flicker` may turn out
weakened).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetbench.demo.mixed.build import MODELS, Mixed, build_mixed
from forgetbench.demo.mixed.oracle import summary, write_truth
from forgetbench.demo.mixed.plan import CAUSES

WANTED = 100
Row = Mapping[str, Any]


def truth_of(mixed: Mixed) -> list[dict[str, Any]]:
    """The oracle's rows, from the file where it is newer than the checkpoints."""
    weights = mixed.sft / "model.safetensors"
    if mixed.truth.exists() and mixed.truth.stat().st_mtime > weights.stat().st_mtime:
        return [json.loads(entry) for entry in mixed.truth.read_text(encoding="utf-8").splitlines()]
    return write_truth(mixed)


def cpu_seconds(mixed: Mixed) -> float:
    """Of training both checkpoints, as they carry it."""
    return sum(float(json.loads((mixed.root / "models" / m / "demo.json").read_text())["cpu_seconds"]) for m in MODELS)


def row_of(seed: int, cause: str, rows: Sequence[Row]) -> list[str]:
    mine = [r for r in rows if r["planted"] == cause]
    lost = [r for r in mine if r["truth"] is not None]
    named = Counter(str(r["truth"]) for r in lost)
    others = ", ".join(f"{name} {n}" for name, n in named.most_common() if name != cause)
    edge = sum(bool(r["near_edge"]) for r in lost)
    relearned = [r["p_relearned"] for r in lost if r["p_relearned"] is not None]
    back = f"{sum(relearned) / len(relearned):.2f}" if relearned else ""
    base = sum(r["base_right"] for r in mine)
    return [str(seed), cause, str(len(mine)), str(base), str(len(lost)), str(named[cause]), others, str(edge), back]


def table(found: Mapping[int, tuple[Sequence[Row], float]], commit: str) -> str:
    lines = [
        f"Made by `python -m benchmarks.mixed_world` at commit `{commit}`. An item is lost where the greedy chat",
        "answer of `mixed_base` is right and that of `mixed_sft` wrong, under phrasings that no training line used.",
        "",
        "| seed | planted | items | base right | lost | oracle agrees | otherwise | near an edge | relearned |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, (rows, _) in found.items():
        lines += [f"| {' | '.join(row_of(seed, cause, rows))} |" for cause in CAUSES]
    seconds = ", ".join(f"seed {seed} {spent:.0f}" for seed, (_, spent) in found.items())
    return "\n".join([*lines, "", f"CPU seconds of training beyond the demo's own, one thread: {seconds}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demos", type=Path, required=True, help="folder with seed-N folders of the demo")
    parser.add_argument("--work", type=Path, required=True, help="where the worlds are made; kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="write the table here")
    args = parser.parse_args()
    found: dict[int, tuple[Sequence[Row], float]] = {}
    for seed in args.seeds:
        mixed = build_mixed(args.demos / f"seed-{seed}", args.work / f"seed-{seed}", seed)
        begin = time.process_time()
        rows = truth_of(mixed)
        print(f"seed {seed}: oracle {time.process_time() - begin:.0f} s of CPU\n{summary(rows)}\n", flush=True)
        found[seed] = rows, cpu_seconds(mixed)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    text = table(found, commit)
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    few = [
        (seed, cause, n)
        for seed, (rows, _) in found.items()
        for cause in CAUSES[:-1]
        if (n := sum(r["truth"] == cause for r in rows)) < WANTED
    ]
    for seed, cause, n in few:
        print(f"seed {seed}: {cause} has {n} lost items, wanted {WANTED}", file=sys.stderr)
    sys.exit(1 if few else 0)


if __name__ == "__main__":
    main()
