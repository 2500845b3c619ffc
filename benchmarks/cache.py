"""A run of 20,000 records of which every answer is in the response cache: how long it takes.

    python -m benchmarks.cache

10,000 items to rank (four choices, 5 worked examples) and 10,000 to generate (answers of 100 tokens with ids,
log-probabilities and entropies), asked of the scripted engine once; then the same into new folders for runs, from
the cache alone. Each time is that of the whole way: sets read, prompts rendered, answers looked up, stored with the
run, scored, records written. Imports are not in it (`forgetbench run` adds about 1 s).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forgetbench import flow
from forgetbench.cli import collect_rarely
from forgetbench.engines.cache import cached
from forgetbench.engines.registry import make_engine
from forgetbench.execute import execute
from forgetbench.planning.plan import build_plan
from forgetbench.runs.store import Run
from forgetbench.workspace import Workspace, open_workspace

BAR = 5.0
RUNS = 3
SCRIPT = """
import random
from forgetbench.types import ContinuationScore, Generate, Generation, Response

def answer(request):
    draw = random.Random(request.request_id)
    said = {"request_id": request.request_id, "prompt_tokens": 700, "prompt_token_hash": "0" * 16, "seconds": 0.1}
    if not isinstance(request.body, Generate):
        scores = (ContinuationScore(draw.uniform(-9, 0), draw.random() < 0.3, 1) for _ in request.body.continuations)
        return Response(**said, scores=tuple(scores))
    words = " ".join(draw.choice(WORDS) for _ in range(TOKENS))
    generation = Generation(
        text=words,
        token_ids=tuple(draw.randrange(150_000) for _ in range(TOKENS)),
        finish_reason="stop",
        logprobs=tuple(draw.uniform(-5, 0) for _ in range(TOKENS)),
        entropies=tuple(draw.uniform(0, 3) for _ in range(TOKENS)),
    )
    return Response(**said, generations=(generation,))

TOKENS = 100
WORDS = "so the answer is that when a number of apples and pears are sold there remain some left 12 7 19".split()
"""
SETTINGS = {
    "models": {"base": {"path": "base.py", "engine": "scripted", "engine_args": {"script": "base.py"}}},
    "suite": "suite.yaml",
}


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one run, and what it took them for."""

    read: float
    plan: float
    execute: float
    cpu: float
    records: int
    hits: int

    @property
    def total(self) -> float:
        return self.read + self.plan + self.execute


def write_workspace(folder: Path, items: int) -> Path:
    """A project with a set to rank and a set to generate, `items` each; its config."""
    draw = random.Random(0)
    words = [f"{a}{b}{c}" for a in "bdfglmn" for b in "aeiou" for c in ("rk", "lt", "nd", "sk", "mp")]

    def sentence(n: int) -> str:
        return " ".join(draw.choice(words) for _ in range(n))

    pick = [
        {
            "id": f"p{i}",
            "task_type": "knowledge/made_up",
            "prompt": f"{i}. {sentence(25)}?",
            "choices": [sentence(4) for _ in range(4)],
            "answer": "ABCD"[i % 4],
        }
        for i in range(items)
    ]
    add = [
        {
            "id": f"a{i}",
            "task_type": "reasoning/made_up",
            "prompt": f"{i}. {sentence(40)}?",
            "references": [str(i % 20)],
        }
        for i in range(items)
    ]
    shots = [{**pick[i], "id": f"s{i}", "prompt": f"Example {i}: {sentence(25)}?"} for i in range(5)]
    for name, rows in (("pick.jsonl", pick), ("pick.shots.jsonl", shots), ("add.jsonl", add)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    raw = {"question": "Q: {prompt}\nA:", "delimiter": " ", "separator": "\n\n"}
    tasks = [
        {"set": "pick.jsonl", "fewshot": "pick.shots.jsonl", "scorer": "choice", "raw": {**raw, "num_fewshot": 5}},
        {"set": "add.jsonl", "scorer": "contains", "raw": {**raw, "num_fewshot": 0}, "max_tokens": 200},
    ]
    suite = {"name": "cached", "views": ["ability"], "tasks": tasks}
    (folder / "suite.yaml").write_text(json.dumps(suite), encoding="utf-8")
    (folder / "base.py").write_text(SCRIPT, encoding="utf-8")
    (folder / "forgetbench.yaml").write_text(json.dumps(SETTINGS), encoding="utf-8")
    return folder / "forgetbench.yaml"


def run_once(ws: Workspace, folder: Path) -> tuple[Run, Timed]:
    """Everything that `forgetbench run base` does after its imports, into that folder."""
    marks, cpu = [time.perf_counter()], time.process_time()

    def mark() -> None:
        marks.append(time.perf_counter())

    loaded = ws.tasks()
    mark()
    point = flow.checkpoint(ws, "base")
    jobs = flow.jobs(ws, loaded, point)
    plan = build_plan(jobs, point)
    mark()
    inner = make_engine(point)
    engine = cached(inner, point, inner.identity, ws.cache / "responses.sqlite", on_note=print)
    run = execute(plan, jobs, point, lambda: engine, folder, engine_identity=inner.identity)
    mark()
    parts = [b - a for a, b in itertools.pairwise(marks)]
    n_records = sum(e.n_records for e in run.entries)
    return run, Timed(parts[0], parts[1], parts[2], time.process_time() - cpu, n_records, engine.hits)


def measure(work: Path, items: int, runs: int, say: Callable[[str], None] = print) -> tuple[Timed, list[Timed], int]:
    """(the run that fills the cache, the runs out of it, bytes of the cache)."""
    config = write_workspace(work, items)
    ws = open_workspace(config, models=["base"])
    first_run, first = run_once(ws, work / "runs" / "first")
    say(f"filled: {first.total:.2f} s")
    expected = first_run.read_records()
    again: list[Timed] = []
    for n in range(runs):
        run, timed = run_once(ws, work / "runs" / f"again{n}")
        if timed.hits != 2 * items or run.read_records() != expected:
            raise SystemExit(f"run {n}: {timed.hits} of {2 * items} answers came from the cache, or records differ")
        say(f"from the cache: {timed.total:.2f} s")
        again.append(timed)
    return first, again, (ws.cache / "responses.sqlite").stat().st_size


def table(first: Timed, again: Sequence[Timed], size: int) -> str:
    """Markdown."""

    def row(name: str, pick: Callable[[Timed], float]) -> str:
        values = sorted(pick(t) for t in again)
        return f"| {name} | {statistics.median(values):.2f} s | {values[0]:.2f} to {values[-1]:.2f} s |"

    median = statistics.median(t.total for t in again)
    lines = [
        f"| everything cached, {again[0].records:,} records | median of {len(again)} | range |",
        "|---|---|---|",
        row("whole run", lambda t: t.total),
        row("of it CPU", lambda t: t.cpu),
        row("sets read", lambda t: t.read),
        row("prompts rendered and ordered", lambda t: t.plan),
        row("looked up, stored, scored, written", lambda t: t.execute),
        "",
        f"Bar: {BAR:.0f} s, {'met' if median < BAR else 'missed'}. The run that filled the cache, the scripted engine "
        f"answering at once: {first.total:.2f} s. The cache: {size / 1e6:.1f} MB.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000, help="of each kind")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--work", type=Path, help="folder to keep; default: a temporary one")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    collect_rarely()  # as the command does
    work = args.work or Path(tempfile.mkdtemp(prefix="forgetbench-cache-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        print("\n" + table(*measure(work, args.items, args.runs)))
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
