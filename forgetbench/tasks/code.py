"""What the code benchmarks share: items, and a score that comes from running the program (scoring/sandbox/).

    code_humaneval.py   humaneval, humaneval_plus
    code_mbpp.py        mbpp, mbpp_plus

`pass@1` is 1 where the program passes all tests; `pass@1,robust`, where a task has it, reads the program out of an
answer as a careful person would (scoring/extract_code.py) and is never the default. A program that the sandbox
itself failed on is `infra_error`. What ran, and how far the verdict can be trusted, is in `Record.extra`:
`execution` (pass, fail, timeout, oom, crash, protocol), `integrity` (separate, weak), `sandbox` (bubblewrap, none).

With `--unsafe-exec` programs run without a sandbox. The task's version then ends in `+unsafe`, so that such
results are kept apart from others, and every verdict says so.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from forgetbench.errors import UsageError, combined
from forgetbench.scoring.outcome import infra_error, judge_each, outcome_of
from forgetbench.scoring.sandbox import Program, Result, get_sandbox
from forgetbench.tasks.base import content_hash
from forgetbench.tasks.items import Finder, KeyMaker
from forgetbench.tasks.source import DataSource, read_jsonl, read_parquet
from forgetbench.types import Generation, Item, ItemKey, Judged, PromptSpec, Response, Style

PASS = "pass@1"
ROBUST = "pass@1,robust"
TASK_TYPE = "code/python"
UNSAFE = "+unsafe"
NO_SANDBOX = "programs ran without a sandbox (--unsafe-exec)"


@dataclass(frozen=True, slots=True)
class Tests:
    """The tests behind one metric."""

    metric: str
    source: str
    shared: bool = False
    """They need the program's own process (Program.shared)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a generation is read as."""

    extracted: str | None
    """The code in it; None: there is none."""
    program: str = ""
    robust: str | None = None
    """The program of the robust reading, where that is another one."""


class CodeTask:
    """A benchmark of Python programs; what one of them is, its subclass says."""

    name: str
    version: str
    metrics: tuple[str, ...] = (PASS,)
    binary = True
    default_num_fewshot: Mapping[Style, int] = {"raw": 0, "chat": 0}
    wall_seconds = 10.0
    """For a program with its tests; lm-eval's 3 s is reached by right programs on a busy machine."""

    def __init__(self, source: DataSource, *, unsafe_exec: bool = False) -> None:
        self._source = source
        self.unsafe_exec = unsafe_exec
        if unsafe_exec:
            self.version += UNSAFE
        self.style: Style = "raw"
        self._items: tuple[Item, ...] | None = None
        self._finder: Finder | None = None

    def in_style(self, style: Style) -> Self:
        """The task as it is asked in a style: prompt, limits and the reading of answers differ (tasks/base.py)."""
        self.load()
        styled = copy.copy(self)
        styled.style = style
        return styled

    def check_ready(self) -> None:
        """Raises UsageError where programs could not be run, before anything is generated."""
        get_sandbox(unsafe=self.unsafe_exec)

    @property
    def warning(self) -> str | None:
        """A line for the run's notes."""
        return f"{self.name}: {NO_SANDBOX}" if self.unsafe_exec else None

    def load(self) -> Sequence[Item]:
        """All items of the test split in file order."""
        if self._items is None:
            key_of = KeyMaker(self.name)
            self._items = tuple(
                Item(
                    key=key_of(self.content(doc)),
                    task_type=TASK_TYPE,
                    doc=doc,
                    gold=self.reference(doc),
                    gold_hash=content_hash({"tests": [t.source for t in self.tests(doc)]}),
                    source=where,
                )
                for where, doc in self.docs()
            )
        return self._items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        raise NotImplementedError

    def docs(self) -> list[tuple[str, dict[str, Any]]]:
        """(where, document) of the test split."""
        raise NotImplementedError

    def content(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked."""
        raise NotImplementedError

    def reference(self, doc: Mapping[str, Any]) -> str:
        """A whole program that is right."""
        raise NotImplementedError

    def tests(self, doc: Mapping[str, Any]) -> Sequence[Tests]:
        """By metric, the default one first."""
        raise NotImplementedError

    def read(self, doc: Mapping[str, Any], text: str) -> Answer:
        """The program in a generated text."""
        raise NotImplementedError

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """The item of a document such as lm-eval logs it."""
        if self._finder is None:
            self._finder = Finder(self.load(), (self.content(i.doc) for i in self.load()))
        try:
            return self._finder.find(self.content(doc))
        except (KeyError, TypeError, IndexError):
            return None

    def score(self, item: Item, response: Response) -> list[Judged]:
        """Run the program of each generation."""
        return judge_each(response, lambda generation: self._judge(item, generation))

    def _judge(self, item: Item, generation: Generation) -> Judged:
        text = generation.text
        answer = self.read(item.doc, text)
        results = {} if answer.extracted is None else self.execute(item.doc, answer.program)
        robust = results if answer.robust is None else self.execute(item.doc, answer.robust)
        for found in (results, robust):
            if found and found[self.metrics[0]].outcome == "infra_error":
                judged = infra_error(found[self.metrics[0]].why, text)
                return replace(judged, extra={"execution": "infra_error", "sandbox": self._sandbox})
        why = self._why(results) if results else "The output holds no code that could be run."
        scores = {m: float(m in results and results[m].outcome == "pass") for m in self.metrics}
        if ROBUST in self.metrics:
            scores[ROBUST] = float(bool(robust) and robust[PASS].outcome == "pass")
            if answer.robust is not None:
                verdict = "passes" if scores[ROBUST] else f"does not pass: {robust[PASS].why.rstrip('.')}"
                why += f" Read as {ROBUST}, the program {verdict}."
        passed = any(scores.values())
        outcome = outcome_of(text, correct=passed, extracted=answer.extracted, finish_reason=generation.finish_reason)
        if outcome == "ok" and results and results[self.metrics[0]].outcome == "timeout":
            outcome = "timeout"
        extra: dict[str, Any] = {"sandbox": self._sandbox}
        if results:
            extra |= {
                "execution": results[self.metrics[0]].outcome,
                "integrity": "weak" if any(r.integrity == "weak" for r in results.values()) else "separate",
            }
        return Judged(scores, outcome, output=text, extracted=answer.extracted, why=why, extra=extra)

    @property
    def _sandbox(self) -> str:
        return "none" if self.unsafe_exec else "bubblewrap"

    def execute(self, doc: Mapping[str, Any], program: str) -> dict[str, Result]:
        """By metric. An infra_error of any makes the default's one: a sample is scored as a whole."""
        sandbox = get_sandbox(unsafe=self.unsafe_exec)
        own = defined(self.reference(doc))
        results = {
            t.metric: sandbox.run(Program(program, t.source, own, t.shared, self.wall_seconds)) for t in self.tests(doc)
        }
        failed = next((r for r in results.values() if r.outcome == "infra_error"), None)
        return results if failed is None else {**results, self.metrics[0]: failed}

    def _why(self, results: Mapping[str, Result]) -> str:
        parts = []
        for metric, result in results.items():
            which = "" if len(results) == 1 else f" ({metric})"
            if result.outcome == "pass":
                parts.append(f"The program passes all tests{which}.")
            elif result.outcome == "timeout":
                parts.append(f"The program did not end in time: {result.why}{which}.")
            else:
                parts.append(f"The program does not pass{which}: {result.why.rstrip('.')}.")
        if any(r.integrity == "weak" for r in results.values()):
            parts.append("Integrity is weak: these tests ran in the program's own process.")
        if self.unsafe_exec:
            parts.append("It ran without a sandbox (--unsafe-exec).")
        return " ".join(parts)


def defined(program: str) -> tuple[str, ...]:
    """Names of the functions that a program defines at its top."""
    return tuple(n.name for n in ast.parse(program).body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def read_docs(
    source: DataSource,
    folder_name: str,
    stem: str,
    hub: tuple[str, str],
    texts: tuple[str, ...],
    others: tuple[str, ...] = (),
) -> list[tuple[str, dict[str, Any]]]:
    """(where, document) from `stem`.jsonl[.gz] of the benchmark's folder, or from (dataset, file) on the hub.

    `texts` are fields that must be text; `others` are fields that the caller checks.
    """
    folder = source.folder(folder_name)
    if folder is None:
        dataset, file = hub
        rows = read_parquet(source.hub_file(dataset, file), (*texts, *others))
        return [(f"{dataset}/{file}:{number}", row) for number, row in enumerate(rows, 1)]
    for path in (folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl"):
        if path.is_file():
            return [(f"{path.name}:{number}", doc) for number, doc in read_jsonl(path, texts)]
    raise UsageError(str(folder), f"there is no {stem}.jsonl or {stem}.jsonl.gz in it", "copy it from its repository")


def check_python(docs: Sequence[tuple[str, dict[str, Any]]], program: Any) -> None:
    """Every document's reference program is Python. Raises ManyUsageErrors."""
    errors = []
    for where, doc in docs:
        try:
            ast.parse(program(doc))
        except (SyntaxError, ValueError) as e:
            errors.append(UsageError(where, f"the reference solution is not Python ({e})", "restore the original file"))
    if errors:
        raise combined(errors)
