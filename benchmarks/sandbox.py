"""How long the sandbox takes: a trivial program, and the reference solutions of HumanEval and MBPP.

FORGETBENCH_DATA=... python benchmarks/sandbox.py
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from forgetbench.scoring.sandbox import Program, get_sandbox
from forgetbench.tasks.code import CodeTask
from forgetbench.tasks.registry import get_task
from forgetbench.tasks.source import DataSource

RUNS = 300


def main() -> None:
    start = time.perf_counter()
    sandbox = get_sandbox()
    print(f"start and canary: {1e3 * (time.perf_counter() - start):.0f} ms")
    program = Program("def f(x): return x + 1", "assert f(1) == 2\nassert f(2) == 3", ("f",))
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        assert sandbox.run(program).outcome == "pass"
        taken.append(1e3 * (time.perf_counter() - start))
    cuts = statistics.quantiles(taken, n=20)
    print(f"a trivial program: median {statistics.median(taken):.1f} ms, 95 % below {cuts[-1]:.1f} ms")
    source = DataSource(data_dir=Path(os.environ["FORGETBENCH_DATA"]))
    for name in ("humaneval", "mbpp"):
        task = get_task(name, source=source)
        assert isinstance(task, CodeTask)
        start = time.perf_counter()
        outcomes = [task.execute(i.doc, task.reference(i.doc))["pass@1"].outcome for i in task.load()]
        seconds = time.perf_counter() - start
        print(f"{name}: {outcomes.count('pass')} of {len(outcomes)} reference solutions pass, {seconds:.1f} s")


if __name__ == "__main__":
    main()
