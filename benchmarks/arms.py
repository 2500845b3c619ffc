"""The proof of `forgetbench ab`: fourteen arms, three seeds, two targets on the demo's world; writes docs/arms.md.

    python -m benchmarks.arms --demo demo-world --work proof-arms --out docs/arms.md      (make proof-arms)

The two experiments run side by side, one thread each. What is finished in --work is not done again: an empty folder
gives the time of the whole. The base is the demo's `sft_v1`, which is trained first where it is missing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Before torch loads: two spinning OpenMP threads made tiny models 20 times slower on shared cores.
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
COMMAND = "make proof-arms"


def experiment(file: Path, out: Path) -> int:
    """One experiment by the command line; its exit code (10: no arm is acceptable, which is a result)."""
    done = subprocess.run([sys.executable, "-m", "forgetbench", "ab", str(file), "--out", str(out)])
    return done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, required=True, help="folder of the demo's checkpoints")
    parser.add_argument("--work", type=Path, required=True, help="where everything is made; kept")
    parser.add_argument("--out", type=Path, help="write the page here, the pictures beside it")
    args = parser.parse_args()
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    subprocess.run([sys.executable, "-m", "forgetbench.demo", "--out", str(args.demo)], check=True)

    from benchmarks.arms_table import TITLES, page
    from forgetbench.arms.config import load_experiment
    from forgetbench.arms.run import grader_call, run
    from forgetbench.demo.arms import write_arms
    from forgetbench.demo.build import paths
    from forgetbench.errors import Exit
    from forgetbench.report.frontier import standalone
    from forgetbench.report.page import write

    files = write_arms(args.work, paths(args.demo).sft_v1)
    begin, spent = time.monotonic(), _cpu()
    with ThreadPoolExecutor(len(files)) as pool:
        codes = list(pool.map(lambda target: experiment(files[target], args.work / target), files))
    minutes, cpu = (time.monotonic() - begin) / 60, (_cpu() - spent) / 60
    wrong = [code for code in codes if code not in (Exit.PASS, Exit.REGRESSION)]
    if wrong:
        sys.exit(f"an experiment ended in {wrong[0]}")
    results = {}
    for target, file in files.items():
        plan = load_experiment(file)
        results[target] = run(plan, args.work / target, grader_call(plan), say=lambda line: None)
    fronts = {target: found.frontier() for target, found in results.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    made = f"at commit `{commit}`: {minutes:.0f} minutes, two experiments side by side, {cpu:.0f} CPU minutes"
    text = page(results, fronts, COMMAND, made)
    print(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")
        for target, front in fronts.items():
            write(standalone(front, TITLES[target]), args.out.with_name(f"arms-{target}.svg"))
    sys.exit(1 if any(found.failed for found in results.values()) else 0)


def _cpu() -> float:
    """CPU seconds of all processes that ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
