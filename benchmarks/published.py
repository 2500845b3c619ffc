"""Score again what others published, and say where and why we differ.

    make published             or: python -m benchmarks.published [--quick] [--out docs/published.md]

One module for each family: published_gsm8k, published_humaneval, published_ifeval, published_mmlu,
published_truthfulqa, published_bbh. HumanEval runs 14,000 published programs in the sandbox; the rest takes a minute.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import (
    published_bbh,
    published_gsm8k,
    published_humaneval,
    published_ifeval,
    published_mmlu,
    published_truthfulqa,
)
from benchmarks.published_render import render
from benchmarks.published_types import Family


def families(data: Path, quick: bool, jobs: int) -> Mapping[str, Callable[[], Family]]:
    return {
        "gsm8k": lambda: published_gsm8k.run(data),
        "ifeval": lambda: published_ifeval.run(data),
        "mmlu": lambda: published_mmlu.run(data),
        "truthfulqa": lambda: published_truthfulqa.run(data, quick),
        "bbh": lambda: published_bbh.run(data),
        "humaneval": lambda: published_humaneval.run(data, quick, jobs),
    }


def commit() -> str:
    """Short hash of the checkout, marked where files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("FORGETBENCH_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with published/, gsm8k/, ...")
    parser.add_argument("--quick", action="store_true", help="10 of CodeGen's 100 samples, and parts of others")
    parser.add_argument("--only", choices=sorted(families(Path(), True, 1)), nargs="+", help="these families")
    parser.add_argument("--jobs", type=int, default=2, help="processes that run CodeGen's programs")
    parser.add_argument("--out", type=Path, help="write the page there, not to the terminal")
    options = parser.parse_args()
    found = []
    for name, score in families(options.data, options.quick, options.jobs).items():
        if options.only and name not in options.only:
            continue
        start = time.perf_counter()
        found.append(score())
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    command = "python -m benchmarks.published" + (" --quick" if options.quick else "")
    command += "".join(f" {flag}" for flag in (["--only", *options.only] if options.only else []))
    text = render(found, command, commit(), options.quick)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    ours = [d for f in found for d in f.differences if d.fault == "ours" and d.why.startswith("not explained")]
    for d in ours:
        print(f"{d.set} {d.system} {d.item}: {d.ours} here, {d.theirs} there: {d.why}", file=sys.stderr)
    return 1 if ours else 0


if __name__ == "__main__":
    raise SystemExit(main())
