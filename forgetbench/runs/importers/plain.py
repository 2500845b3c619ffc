"""Plain tables of results, JSONL, JSON or CSV: a row says which item, by whom, and how it went.

    field       meaning                                                         also found as
    item        the item's name: two files that name one alike mean one item    id, task_id, example_id, ...
    model       who answered; may be left out where one model is imported       model_name, generator
    task        the set's name; or --task                                       benchmark, dataset
    score       0 to 1, true or false                                           correct, passed, pass1, acc, ...
    successes, trials   of K samples so many were right                         n_correct, n_samples, ...
    sample      the number of the sample, where an item has several rows        sample_id, epoch
    prompt, output, extracted, gold, task_type, cluster                         response, prediction, ...

An item may also be known by its content (question, prompt, choices, ...): what a known task's own documents have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.runs.importers import files
from forgetbench.runs.importers.types import Mistakes, Row, Source
from forgetbench.tasks.base import content_hash

FIELDS: Mapping[str, tuple[str, ...]] = {
    "item": ("item_key", "item_id", "id", "key", "example_id", "task_id", "question_id", "instance_id", "problem_id"),
    "model": ("model_name", "model_id", "generator", "system"),
    "task": ("task_name", "benchmark", "dataset"),
    "score": ("correct", "is_correct", "passed", "is_solved", "pass1", "pass@1", "acc", "accuracy", "exact_match"),
    "successes": ("n_correct", "num_correct"),
    "trials": ("n_samples", "num_samples", "n_trials"),
    "sample": ("sample_id", "sample_index", "epoch"),
    "prompt": (),
    "output": ("response", "completion", "prediction", "generation", "generated_text", "model_output"),
    "extracted": ("extracted_answer", "parsed"),
    "gold": ("reference", "target", "ground_truth"),
    "task_type": (),
    "cluster": (),
}
QUESTION = ("question", "prompt", "text", "instruction", "messages", "chat_prompt")
CONTENT = (*QUESTION, "choices", "subject", "task_type")
"""Columns that can say what was asked; what a task's documents are found by."""
_YES = {"true": 1.0, "yes": 1.0, "pass": 1.0, "passed": 1.0, "false": 0.0, "no": 0.0, "fail": 0.0, "failed": 0.0}
METRIC = "score"
_TASK_TYPE_LEVELS = 2


def columns(given: Mapping[str, str], present: Iterable[str]) -> dict[str, str]:
    """Our field -> the file's column. Raises UsageError for a field named on the command line that is not there."""
    there = list(dict.fromkeys(present))
    found: dict[str, str] = {}
    for field, name in given.items():
        if field not in FIELDS:
            raise UsageError("--field", f"there is no field '{field}'", f"use one of {', '.join(FIELDS)}")
        if name not in there:
            raise UsageError("--field", f"no row has a column '{name}'", f"there are {', '.join(there)}")
        found[field] = name
    for field, others in FIELDS.items():
        name_there = next((n for n in (field, *others) if n in there and n not in found.values()), None)
        if field not in found and name_there is not None:
            found[field] = name_there
    return found


def read(path: Path, content: str, digest: str, given: Mapping[str, str], trials: int | None, bad: Mistakes) -> Source:
    """A table. `given`: --field; `trials`: K, where a score is a share of K samples."""
    table = list(files.rows(path, content, bad))
    named = columns(given, (name for _, row in table for name in row)) if table else {}
    if table and "item" not in named and not any(content_of(row) for _, row in table):
        have = ", ".join(dict.fromkeys(name for _, row in table for name in row))
        bad.add(str(path), "no column names the item", f"it has {have}; name one with --field item=COLUMN")
        return Source(path, "plain", digest, ())
    if table and "score" not in named and not {"successes", "trials"} <= named.keys():
        have = ", ".join(dict.fromkeys(name for _, row in table for name in row))
        cure = f"it has {have}; name one with --field score=COLUMN, or score the outputs with `forgetbench score`"
        bad.add(str(path), "no column holds the score", cure)
        return Source(path, "plain", digest, ())
    rows = [row for where, raw in table if (row := _row(where, raw, named, trials, bad)) is not None]
    unused = [n for n in dict.fromkeys(n for _, r in table for n in r) if n not in {*named.values(), *CONTENT}]
    notes = (f"{path.name}: columns that were not used: {', '.join(unused)}",) if unused else ()
    return Source(path, "plain", digest, rows, notes)


def _row(where: str, raw: Mapping[str, Any], named: Mapping[str, str], trials: int | None, bad: Mistakes) -> Row | None:
    """One row; None: it is wrong, and what is wrong with it has been noted."""
    cell = _Cells(where, raw, named, bad)
    key = cell.text("item", number=True)
    doc = content_of(raw)
    if key is None and not doc and not cell.wrong:
        cell.add("item", "is missing", "name the item")
    successes, count = cell.whole("successes"), cell.whole("trials")
    outcome = str(raw.get("outcome", ""))
    failed = outcome == "infra_error"
    share = None if failed or (successes is not None and count is not None) else cell.score()
    if share is not None and trials is not None:
        count, exact = trials, share * trials
        successes = round(exact)
        if abs(exact - successes) > 1e-6 * trials:
            cell.add("score", f"{share:g} is no share of {trials} samples", "give the right --trials, or none")
    if successes is not None and count is not None and not (0 <= successes <= count and count > 0):
        cell.add("successes", f"{successes} of {count} cannot be", "write 0 <= successes <= trials, trials from 1")
    sample = cell.whole("sample")
    task_type = cell.text("task_type")
    if task_type is not None and not _is_task_type(task_type):
        cell.add("task_type", f"is {files.shown(task_type)}", "write one or two levels, such as reasoning/arithmetic")
    row = Row(
        where=where,
        same=key if key is not None else content_hash(doc),
        scores={METRIC: share} if share is not None and trials is None else {},
        task=cell.text("task"),
        model=cell.text("model"),
        key=key,
        doc=doc or None,
        named=key is not None,
        sample=sample,
        successes=successes if count is not None else None,
        trials=count if successes is not None else None,
        outcome="infra_error" if failed else "ok",
        output=cell.text("output", number=True) or "",
        extracted=cell.text("extracted", number=True),
        gold=cell.text("gold", number=True) or "",
        prompt=cell.text("prompt"),
        rendered=False,
        task_type=task_type,
        cluster=cell.text("cluster", number=True),
    )
    return None if cell.wrong else row


def content_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says was asked; empty where it has nothing that could tell two items apart."""
    doc = {name: raw[name] for name in CONTENT if raw.get(name) not in (None, "")}
    return doc if any(name in doc for name in QUESTION) else {}


def _is_task_type(value: str) -> bool:
    parts = value.split("/")
    return len(parts) <= _TASK_TYPE_LEVELS and all(p.strip() for p in parts)


class _Cells:
    """The fields of a row, each checked as it is read."""

    def __init__(self, where: str, raw: Mapping[str, Any], named: Mapping[str, str], bad: Mistakes) -> None:
        self._where, self._raw, self._named, self._bad = where, raw, named, bad
        self.wrong = False

    def add(self, field: str, problem: str, cure: str) -> None:
        self.wrong = True
        self._bad.add(f"{self._where}: {self._named.get(field, field)}", problem, cure)

    def _value(self, field: str) -> Any:
        return self._raw.get(self._named[field]) if field in self._named else None

    def text(self, field: str, *, number: bool = False) -> str | None:
        value = self._value(field)
        if value is None or isinstance(value, str):
            return value or None
        if number and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        self.add(field, f"is {files.kind(value)} ({files.shown(value)})", "write a text")
        return None

    def whole(self, field: str) -> int | None:
        value = self._value(field)
        if value is None:
            return None
        found = files.whole(value)
        if found is None or found < 0:
            self.add(field, f"is {files.shown(value)}", "write a whole number from 0")
            return None
        return found

    def score(self) -> float | None:
        value = self._value("score")
        cure = "write 0 to 1, true or false"
        if value is None:
            self.add("score", "is missing", f"{cure}; of an item that could not be run: outcome infra_error")
            return None
        found = _YES.get(value.strip().lower()) if isinstance(value, str) else None
        found = files.number(value) if found is None else found
        if found is None:
            self.add("score", f"is {files.shown(value)}", cure)
        elif not 0.0 <= found <= 1.0:
            self.add("score", f"is {found:g}", f"{cure}: percentages divided by 100")
            return None
        return found
