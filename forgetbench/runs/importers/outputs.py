"""Texts made elsewhere, scored here: `forgetbench score`.

A row names its item (by name, by the question, or by a prompt that holds the question) and has one text or a list of
them, the item's samples. `solution` is a whole program (EvalPlus), `completion` goes on where the prompt ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.runs.importers import files
from forgetbench.runs.importers.identify import Found, doubts, identify
from forgetbench.runs.importers.plain import FIELDS, content_of
from forgetbench.runs.importers.records import decode_id, merge, records
from forgetbench.runs.importers.store import Imported
from forgetbench.runs.importers.types import Mistakes, Row
from forgetbench.runs.manifest import digest
from forgetbench.runs.rescore import current_scorer_version
from forgetbench.tasks.base import Task, check_ready, content_hash, in_style
from forgetbench.types import FinishReason, Generation, Item, Judged, Response, Style, View

TEXTS = (
    "output", "completion", "solution", "response", "prediction", "generation", "generated_text", "model_output",
    "outputs", "completions", "predictions", "samples", "generations",
)  # fmt: skip
SOURCE = "outputs"
_WHOLE = "solution"


@dataclass(frozen=True, slots=True)
class Options:
    """The flags."""

    view: View = "ability"
    fields: Mapping[str, str] = field(default_factory=dict)
    """Our field (item, output, prompt, sample) -> the file's column; a dot goes into a mapping: a.b"""
    by_position: bool = False
    cut: bool = False
    """Cut each text before the first of the task's stop strings, as an engine would."""
    temperature: float | None = None
    allow_missing: bool = False


def read(path: Path, options: Options, bad: Mistakes) -> list[Row]:
    """The rows of one file, not scored yet: an item's samples in one row become several."""
    table = list(files.rows(path, files.text(path, files.read_bytes(path)), bad))
    column = options.fields.get("output") or next((n for n in TEXTS if any(n in row for _, row in table)), None)
    if table and column is None:
        have = ", ".join(dict.fromkeys(name for _, row in table for name in row))
        bad.add(str(path), "no column holds the outputs", f"it has {have}; name one with --field output=COLUMN")
        return []
    names = {name: options.fields.get(name) or _first(name, table) for name in ("item", "prompt", "sample")}
    rows: list[Row] = []
    for position, (where, raw) in enumerate(table):
        rows += _rows(where, raw, column or "", names, position if options.by_position else None, bad)
    return rows


def _first(field_: str, table: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
    return next((n for n in (field_, *FIELDS[field_]) if any(n in row for _, row in table)), None)


def _at(raw: Mapping[str, Any], column: str | None) -> Any:
    """The value of a column, or inside one: `a.b`."""
    if column is None or column in raw:
        return None if column is None else raw[column]
    value: Any = raw
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _rows(
    where: str,
    raw: Mapping[str, Any],
    column: str,
    names: Mapping[str, str | None],
    position: int | None,
    bad: Mistakes,
) -> list[Row]:
    value = _at(raw, column)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        cure = "write a text, or a list of texts; an empty answer is an empty text"
        bad.add(f"{where}: {column}", f"is {files.kind(value)} ({files.shown(value)})", cure)
        return []
    key, doc, prompt = _at(raw, names["item"]), content_of(raw), _at(raw, names["prompt"])
    if position is not None:
        key, doc, prompt = None, {}, None
    elif key is None and not doc and not isinstance(prompt, str):
        bad.add(where, "names no item", "add its name or its question, or pass --by-position")
        return []
    sample = files.whole(_at(raw, names["sample"]))
    name = None if key is None else str(key)
    whole = column.rsplit(".", 1)[-1] == _WHOLE
    finish: FinishReason = "length" if raw.get("finish_reason") == "length" else "stop"
    row = Row(
        where=where,
        same=str(position) if position is not None else name if name is not None else content_hash(doc or {"": prompt}),
        key=name,
        doc=doc or None,
        named=True,
        sample=sample,
        prompt=prompt if isinstance(prompt, str) else None,
        finish_reason=finish,
        extra={"whole": whole},
    )
    if len(texts) == 1:
        return [replace(row, output=texts[0])]
    return [replace(row, output=text, sample=n) for n, text in enumerate(texts)]


def score(paths: Sequence[Path], task: Task, options: Options) -> tuple[Imported, list[str]]:
    """(the task's results, lines for people). Raises every mistake of the files at once."""
    bad = Mistakes()
    style: Style = "chat" if options.view == "chat" else "raw"
    items = task.load()
    styled = in_style(task, style)
    if items and styled.prompt(items[0], 0).form == "rank":
        problem = "ranks given options by their likelihood: there is no text to score"
        raise UsageError(f"task '{task.name}'", problem, "import scores instead: forgetbench import")
    check_ready([task])
    rows: list[Row] = []
    for path in dict.fromkeys(paths):
        try:
            rows += read(path, options, bad)
        except UsageError as e:
            bad.take(e)
    bad.check()
    found = identify(rows, task.name, task, bad, by_position=options.by_position)
    merge(found, bad)
    bad.check()
    missing = len(items) - len(found)
    if missing and not options.allow_missing:
        raise UsageError(
            f"task '{task.name}'",
            f"{missing:,} of {len(items):,} items have no output",
            "add them, or score what is there with --allow-missing",
        )
    for one in found:
        one.rows = _scored(one, styled, options)
    says = [f"{task.name}: {missing:,} of {len(items):,} items have no output"] if missing else []
    failed = sum(r.outcome == "infra_error" for f in found for r in f.rows)
    says += [f"{task.name}: {failed:,} outputs could not be scored (infra_error); score them again"] if failed else []
    return _imported(found, styled, paths, says, options), says


def _scored(one: Found, task: Task, options: Options) -> list[Row]:
    """The rows of an item with what the task makes of their texts."""
    stops = task.prompt(one.item, 0).stop if options.cut else ()
    texts = [_text(row, stops) for row in one.rows]
    generations = tuple(
        Generation(text, (), row.finish_reason or "stop") for text, row in zip(texts, one.rows, strict=True)
    )
    judged = _judge(task, one.item, Response(request_id="", generations=generations))
    return [
        replace(
            row,
            scores={k: float(v) for k, v in j.scores.items()},
            outcome=j.outcome,
            output=j.output,
            extracted=j.extracted,
            why=j.why,
            temperature=options.temperature,
            extra=dict(j.extra),
        )
        for row, j in zip(one.rows, judged, strict=True)
    ]


def _judge(task: Task, item: Item, response: Response) -> list[Judged]:
    try:
        return list(task.score(item, response))
    except ForgetbenchError:
        raise
    except Exception as e:
        problem = f"scoring of {item.key} ({item.source}) failed: {type(e).__name__}: {e}"
        raise ForgetbenchError(f"{problem}; this is a fault of task {task.name}") from e


def _text(row: Row, stops: Sequence[str]) -> str:
    """What an engine would have given: a whole program stands apart from the prompt, which is put before it."""
    ends = [at for stop in stops if (at := row.output.find(stop)) >= 0]
    text = row.output[: min(ends)] if ends else row.output
    return f"\n\n{text}" if row.extra.get("whole") and text.strip() else text


def _imported(
    found: Sequence[Found], task: Task, paths: Sequence[Path], says: Sequence[str], options: Options
) -> Imported:
    hashes = sorted(files.sha256(path) for path in dict.fromkeys(paths))
    how = [f"{task.name}: {line}" for line in doubts(task.name, found, known=True)]
    return Imported(
        task=task.name,
        view=options.view,
        decode_id=decode_id(found),
        source=SOURCE,
        sha256=hashes[0] if len(hashes) == 1 else digest(hashes, 64),
        items=[f.item for f in found],
        records=records(found, view=options.view, names={}),
        metrics=task.metrics,
        files=tuple(str(p) for p in dict.fromkeys(paths)),
        notes=(*how, *says),
        task_version=task.version,
        scorer_version=current_scorer_version(),
    )
