"""Kills runs and finishes them; a process of its own, started by test_kill.py.

    python -m tests.runs.kill_master OUT --kills N --seed S [--model FOLDER]

Everything heavy is imported once, here, before any thread exists; every run is a fork of this process, so that
90 of them cost seconds. A child writes to a pipe `? id` when the engine is asked and `! id` when execute
acknowledges. Writes OUT/report.json: for each run its folder and, child by child, what was asked and
acknowledged and whether the child was killed. Whether the results are right is judged by the test.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet

import forgetbench.runs.assemble
from forgetbench.engines.base import Engine, Usage
from forgetbench.engines.scripted import ScriptedEngine
from forgetbench.execute import execute
from forgetbench.runs.segments import SegmentWriter, scan_folder
from forgetbench.types import Request
from tests.runs import fakes

# Imported here so that no child has to (pyarrow imports pandas when it first meets a list).
PRELOADED: list[Any] = [pandas, pyarrow.parquet, forgetbench.runs.assemble]

N_ITEMS = 30
DELAY = 0.002
MOST_AIMED = 40


class Logged:
    """An engine that tells a pipe what it is asked."""

    def __init__(self, engine: Engine, tell: Callable[[str], None]) -> None:
        self.engine, self.tell = engine, tell
        self.capabilities, self.identity, self.close = engine.capabilities, engine.identity, engine.close

    @property
    def usage(self) -> Usage:
        return self.engine.usage

    def run(self, requests: Any) -> Any:
        for response in self.engine.run(requests):
            self.tell(f"? {response.request_id}\n")
            yield response


class Subject:
    """What is run: plan, jobs, checkpoint and how to make the engine."""

    def __init__(self, model: Path | None) -> None:
        self.jobs = fakes.jobs(N_ITEMS if model is None else 8)
        if model is None:
            self.checkpoint: Any = fakes.checkpoint()
        else:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            from forgetbench.checkpoints import ModelSpec, resolve

            PRELOADED.extend([torch, AutoModelForCausalLM, AutoTokenizer])
            self.checkpoint = resolve(ModelSpec(alias="tiny", path=str(model)))
        self.model = model
        self.plan = fakes.plan(self.jobs, self.checkpoint)
        self.identity = self.engine(lambda line: None).identity

    def engine(self, tell: Callable[[str], None]) -> Any:
        if self.model is not None:
            from forgetbench.engines.registry import make_engine

            return Logged(make_engine(self.checkpoint, batch_rows=4), tell)

        def answer(request: Request) -> Any:
            return fakes.answer(request)

        return Logged(ScriptedEngine(answer, delay=DELAY), tell)

    def run(self, folder: Path, tell: Callable[[str], None]) -> None:
        execute(
            self.plan,
            self.jobs,
            self.checkpoint,
            lambda: self.engine(tell),
            folder,
            engine_identity=self.identity,
            on_stored=lambda request_id: tell(f"! {request_id}\n"),
        )


def child(subject: Subject, folder: Path, interval: float) -> tuple[int, int]:
    """Fork a run; (pid, reading end of its pipe)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    code = 1
    try:
        # Shorter batches make more acknowledgements, and so more different states to be killed in.
        SegmentWriter.__init__.__kwdefaults__["interval"] = interval
        subject.run(folder, lambda line: os.write(writer, line.encode()) and None)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def attempt(subject: Subject, folder: Path, interval: float, kill: Callable[[float, int], bool]) -> dict[str, Any]:
    """Run once; `kill(seconds, acknowledged)` says when to end it with SIGKILL."""
    pid, reader = child(subject, folder, interval)
    start, text, acknowledged, killed = time.monotonic(), b"", 0, False
    while True:
        ready, _, _ = select.select([reader], [], [], None if killed else 0.003)
        if ready:
            got = os.read(reader, 1 << 16)
            if not got:
                break
            text += got
            acknowledged += got.count(b"!")
        if not killed and kill(time.monotonic() - start, acknowledged):
            os.kill(pid, signal.SIGKILL)
            killed = True
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    lines = text.decode().rpartition("\n")[0].splitlines()  # a torn last line told nobody anything
    result: dict[str, Any] = {
        "asked": [line[2:] for line in lines if line.startswith("?")],
        "acknowledged": [line[2:] for line in lines if line.startswith("!")],
        "killed": os.WIFSIGNALED(status),
        "seconds": time.monotonic() - start,
    }
    if not result["killed"] and os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"a run in {folder} failed by itself")
    on_disk: set[str] = set()
    result["corrupt"] = []
    for responses in folder.glob("tasks/*/responses"):
        index = scan_folder(responses)
        on_disk |= set(index.locations)
        result["corrupt"].extend(str(d) for d in index.damage if d.kind == "corrupt")
    result["lost"] = sorted(set(result["acknowledged"]) - on_disk)
    return result


def when(rng: random.Random, seconds: float, left: int) -> Callable[[float, int], bool]:
    """A random point: a third of them in time, the others some moment after the n-th acknowledgement.

    The latter find the short stretches before the first answer and after the last one, where manifest and
    records are written.
    """
    if rng.random() < 1 / 3:
        at = rng.uniform(0, 1.05 * seconds)
        return lambda elapsed, acknowledged: elapsed >= at
    n, wait = rng.choice([(0, 0.04), (rng.randint(1, max(left, 1)), 0.03), (left, 0.08)])
    return after(n, rng.uniform(0, wait))


def after(n: int, wait: float) -> Callable[[float, int], bool]:
    """`wait` seconds after the n-th acknowledgement."""
    reached: list[float] = []

    def kill(elapsed: float, acknowledged: int) -> bool:
        if acknowledged >= n and not reached:
            reached.append(elapsed)
        return bool(reached) and elapsed >= reached[0] + wait

    return kill


def states(runs: list[dict[str, Any]], total: int) -> Counter[str]:
    """How many kills came before the first acknowledgement, between two, after the last one."""
    found: Counter[str] = Counter()
    for run in runs:
        acknowledged = 0
        for one in run["children"]:
            acknowledged += len(one["acknowledged"])
            if one["killed"]:
                found["none" if not acknowledged else "all" if acknowledged >= total else "some"] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    subject = Subject(args.model)

    def never(elapsed: float, acknowledged: int) -> bool:
        return False

    undisturbed = attempt(subject, args.out / "undisturbed", 0.2, never)
    seconds, total = undisturbed["seconds"], len(undisturbed["acknowledged"])
    runs, landed = [], 0
    while landed < args.kills:
        folder = args.out / f"run{len(runs):03}"
        interval = rng.choice([0.005, 0.02, 0.2])
        children = []
        for _ in range(rng.randint(1, 4)):
            left = total - sum(len(c["acknowledged"]) for c in children)
            children.append(attempt(subject, folder, interval, when(rng, seconds, left)))
            landed += children[-1]["killed"]
            if not children[-1]["killed"]:
                break
        if children[-1]["killed"]:
            children.append(attempt(subject, folder, interval, never))
        runs.append({"folder": folder.name, "children": children})
    # On a busy machine the random points may miss the short stretches at both ends: aim at them until they are hit.
    for aim, n in (("none", 0), ("all", total)):
        for _ in range(MOST_AIMED):
            if args.model is not None or states(runs, total)[aim] >= 2:
                break
            folder = args.out / f"run{len(runs):03}"
            children = [attempt(subject, folder, 0.02, after(n, rng.uniform(0, 0.01)))]
            landed += children[-1]["killed"]
            if children[-1]["killed"]:
                children.append(attempt(subject, folder, 0.02, never))
            runs.append({"folder": folder.name, "children": children})
    found = states(runs, total)
    report = {"undisturbed": undisturbed, "runs": runs, "kills": landed, "states": dict(found)}
    (args.out / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
