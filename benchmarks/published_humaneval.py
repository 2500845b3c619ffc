"""HumanEval: programs of LDB (six systems), WizardCoder-15B, the Gemini benchmark (four), and 100 samples a problem of
CodeGen-16B. All but CodeGen come with a verdict on each problem.

Programs are put together as their authors did, and run in our sandbox against our copy of the tests: LDB and
WizardCoder publish whole programs, the Gemini benchmark answers without their leading blanks (its harness puts prompt
and four blanks before them), CodeGen continuations that run on (cut at HumanEval's stop strings, as in CodeT).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.published_types import Difference, Family, Fault, Reading, Score, percent, read_rows, said
from forgetbench.analysis.passk import mean_pass_at_k
from forgetbench.tasks.code import PASS, ROBUST
from forgetbench.tasks.code_humaneval import STOP, HumanEval
from forgetbench.tasks.source import DataSource

SECONDS = 5.0
"""For a program with its tests. Their harnesses gave 3 s or less, on their machines."""
CODEGEN_SECONDS = 3.0
LDB: Mapping[str, tuple[str, float]] = {
    "humaneval_gpt-3.5-turbo-0613_seed": ("GPT-3.5", 73.8),
    "humaneval_gpt-3.5-turbo-0613_ldb": ("GPT-3.5 + LDB", 82.9),
    "humaneval_codellama_seed": ("CodeLlama-34B", 49.4),
    "humaneval_codellama_ldb": ("CodeLlama-34B + LDB", 55.5),
    "humaneval_starcoder_seed": ("StarCoder", 39.0),
    "humaneval_starcoder_ldb": ("StarCoder + LDB", 39.6),
}
GEMINI: Mapping[str, float] = {"gemini-pro": 59.76, "gpt-3.5-turbo": 74.39, "gpt-4-turbo": 76.83, "mixtral": 45.12}
CODEGEN: Mapping[int, float] = {1: 29.7, 10: 50.3, 100: 73.7}
WIZARD = "humaneval_wizardcoder15b/T0.0_N1_reproduce.results.59.8"
SAMPLES = "humaneval_codegen16b_100samples/HumanEval_codegen16B_temp0.8_num100"
QUICK_SAMPLES, QUICK_PROBLEMS = 10, 50
TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Written:
    """One published program."""

    problem: str
    program: str
    passed: bool
    result: str
    """What their harness said; empty where it published the flag only."""
    answer: str | None = None
    """The model's answer, where the program was put together from it."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a program here."""

    outcome: str
    why: str

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"


def run(data: Path, quick: bool = False, jobs: int = 1) -> Family:
    """quick: 10 of CodeGen's 100 samples, and 50 of the 164 bare answers of each system."""
    task = _task(data)
    docs = {i.doc["task_id"]: dict(i.doc) for i in task.load()}
    scores: list[Score] = []
    differences: list[Difference] = []
    readings: list[Reading] = []
    for name, system, published, written in systems(data, docs):
        task.wall_seconds = SECONDS
        ran = [Run(r.outcome, r.why) for r in (task.execute(docs[w.problem], w.program)[PASS] for w in written)]
        differing = [
            _difference(name, system, PASS, w, r) for w, r in zip(written, ran, strict=True) if r.passed != w.passed
        ]
        n, flags = len(written), sum(w.passed for w in written)
        scores.append(
            Score(name, system, PASS, n, percent(sum(r.passed for r in ran), n), published, n, len(differing),
                  "" if abs(percent(flags, n) - published) < 0.1 else f"the file's own flags: {percent(flags, n):.2f}")
        )  # fmt: skip
        differences += differing
        if written and written[0].answer is not None:
            more, differing = _readings(name, system, task, written[: QUICK_PROBLEMS if quick else None])
            readings += more
            differences += differing
    codegen, notes = _codegen(data, quick, jobs)
    return Family((*scores, *codegen), tuple(differences), tuple(readings), notes)


def _task(data: Path) -> HumanEval:
    return HumanEval(DataSource(data_dir=data))


def systems(data: Path, docs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, float, list[Written]]]:
    """(set, system, published percent, programs in the order of the problems) with a verdict on each."""

    def ordered(programs: list[Written]) -> list[Written]:
        return sorted(programs, key=lambda w: int(w.problem.rpartition("/")[2]))

    for file, (system, published) in LDB.items():
        rows = read_rows(data, f"humaneval_ldb/{file}")
        programs = [Written(r["task_id"], r["solution"], bool(r["is_solved"]), "") for r in rows]
        yield "humaneval_ldb", system, published, ordered(programs)
    rows = read_rows(data, WIZARD)
    programs = [Written(r["task_id"], r["completion"], bool(r["passed"]), r["result"]) for r in rows]
    yield "humaneval_wizardcoder15b", "WizardCoder-15B-V1.0", 59.8, ordered(programs)
    for file, published in GEMINI.items():
        programs = []
        for r in read_rows(data, f"humaneval_gemini_benchmark/{file}"):
            answer = r["predictions"][0]
            program = f"{docs[r['task_id']]['prompt']}    {answer}"
            programs.append(Written(r["task_id"], program, bool(r["passed"]), r["result"], answer))
        yield "humaneval_gemini_benchmark", file, published, ordered(programs)


_CAUSES: tuple[tuple[str, Callable[[Written, Run], bool], Fault, str], ...] = (
    ("imports", lambda w, r: w.passed and "NameError" in r.why, "theirs",
     "the program uses a module that it does not import; their harness had imported it"),
    ("packages", lambda w, r: w.passed and "sympy" in r.why, "nobody's",
     "the program wants sympy, which the sandbox does not have"),
    ("assembly", lambda w, r: not w.passed and "(<string>, line" in w.result, "theirs",
     "their harness indents the first line of an answer only, and so made no program of it"),
    ("slow here", lambda w, r: w.passed and r.outcome == "timeout", "nobody's", "out of time here"),
    ("slow there", lambda w, r: not w.passed and w.result == TIMED_OUT, "nobody's", "out of time there, passes here"),
)  # fmt: skip


def _difference(name: str, system: str, metric: str, written: Written, ran: Run) -> Difference:
    """The causes that are known, in order; what is left is ours until somebody finds another."""
    fault, why = next(
        ((fault, why) for _, holds, fault, why in _CAUSES if holds(written, ran)), ("ours", f"not explained: {ran.why}")
    )
    theirs = ("pass" if written.passed else "fail") + (f" ({written.result[:40]})" if written.result else "")
    return Difference(name, system, metric, written.problem, ran.outcome, theirs, fault, why)


def _readings(
    name: str, system: str, task: HumanEval, written: Sequence[Written]
) -> tuple[list[Reading], list[Difference]]:
    """The task's two metrics on the bare answers, and where the robust one differs from the flags.

    Programs that ran out of time there have no verdict to compare.
    """
    items = {i.doc["task_id"]: i for i in task.load()}
    timely = [w for w in written if w.result != TIMED_OUT]
    judged = [task.score(items[w.problem], said(w.answer or ""))[0] for w in timely]
    readings: list[Reading] = []
    differences: list[Difference] = []
    for metric in (PASS, ROBUST):
        right = [j.scores[metric] == 1.0 for j in judged]
        found = [
            _difference(name, system, metric, w, Run("pass" if mine else "fail", j.why))
            for w, j, mine in zip(timely, judged, right, strict=True)
            if mine != w.passed
        ]
        missed = sum(w.passed and not mine for w, mine in zip(timely, right, strict=True))
        accepted = sum(d.ours == "pass" and d.fault != "theirs" for d in found)
        readings.append(
            Reading(name, system, metric, len(timely), missed, accepted, "its flags, without its time-outs")
        )
        if metric == ROBUST:
            differences = found
    return readings, differences


def _codegen(data: Path, quick: bool, jobs: int) -> tuple[list[Score], tuple[str, ...]]:
    rows = read_rows(data, SAMPLES)
    n = QUICK_SAMPLES if quick else len(rows[0]["samples"])
    counts = count_passes(data, [(r["task_id"], tuple(r["samples"][:n])) for r in rows], jobs)
    trials = np.full(len(rows), n)
    passed = np.array([c.passed for c in counts])
    scores = []
    for k, published in CODEGEN.items():
        if k <= n:
            found = mean_pass_at_k(trials, passed, k)
            note = f"95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}"
            metric = f"pass@{k} of {n} samples"
            scores.append(Score("humaneval_codegen16b_100samples", "CodeGen-Mono-16B", metric, len(rows),
                                100 * found.value, published, note=note))  # fmt: skip
    late, ran = sum(c.timeouts for c in counts), sum(c.programs for c in counts)
    return scores, (
        f"CodeGen: {n * len(rows):,} samples, {ran:,} programs that differ, {int(passed.sum()):,} samples pass; {late} "
        f"programs ran out of {CODEGEN_SECONDS:g} s. The samples are of temperature 0.8. The published pass@1 is not "
        "theirs: it is presumably of a lower temperature, as is usual for k = 1 (the source could not be read).",
    )


@dataclass(frozen=True, slots=True)
class Counted:
    passed: int
    timeouts: int
    programs: int


def count_passes(data: Path, problems: Sequence[tuple[str, tuple[str, ...]]], jobs: int) -> list[Counted]:
    """By problem how many of its samples pass; a program that was written twice runs once."""
    if jobs <= 1:
        _start(data)
        return [_count(p) for p in problems]
    with ProcessPoolExecutor(jobs, initializer=_start, initargs=(data,)) as pool:
        return list(pool.map(_count, problems, chunksize=2))


_LOADED: dict[str, Any] = {}
"""A worker's task and documents."""


def _start(data: Path) -> None:
    task = _task(data)
    task.wall_seconds = CODEGEN_SECONDS
    _LOADED["task"], _LOADED["items"] = task, {i.doc["task_id"]: i for i in task.load()}


def _count(problem: tuple[str, tuple[str, ...]]) -> Counted:
    name, samples = problem
    task: HumanEval = _LOADED["task"]
    item = _LOADED["items"][name]
    outcomes: dict[str, str] = {}
    passed = 0
    for sample in samples:
        body = cut(sample)
        if body not in outcomes:
            answer = task.read(item.doc, body)
            blank = answer.extracted is None
            outcomes[body] = "blank" if blank else task.execute(item.doc, answer.program)[PASS].outcome
            if outcomes[body] == "infra_error":
                raise RuntimeError(f"{name}: the sandbox failed")
        passed += outcomes[body] == "pass"
    return Counted(passed, sum(o == "timeout" for o in outcomes.values()), len(outcomes))


def cut(sample: str) -> str:
    """Up to HumanEval's first stop string."""
    return sample[: min((i for i in map(sample.find, STOP) if i >= 0), default=len(sample))]
