"""Records out of rows: samples numbered, metrics of two files brought together, nulls where nothing is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from forgetbench.runs.assemble import text_hash
from forgetbench.runs.importers.identify import Found
from forgetbench.runs.importers.plain import METRIC
from forgetbench.runs.importers.types import Mistakes, Row
from forgetbench.types import GREEDY, Decode, Record, Style, View

_STYLES: Mapping[View, Style | None] = {"ability": "raw", "chat": "chat", "as_used": None}


def merge(found: Sequence[Found], bad: Mistakes) -> None:
    """Bring the rows of each item together and number its samples, in place."""
    for one in found:
        one.rows = _merged(one.rows, bad)
    counts = Counter(len(one.rows) for one in found)
    usual = max(counts, key=lambda n: (counts[n], n)) if counts else 1
    for one in found:
        numbers = [r.sample for r in one.rows]
        if None in numbers and len(one.rows) > 1 and len(one.rows) != usual:
            what = "is there twice" if len(one.rows) == 2 else f"is there {len(one.rows)} times"
            bad.add(one.rows[1].where, f"{_name(one)} {what}, first in {one.rows[0].where}", "leave one of them")
        elif len({n for n in numbers if n is not None}) < len(numbers) - numbers.count(None):
            bad.add(one.rows[1].where, f"{_name(one)} has a sample number twice", "number its samples from 0")
        ordered = one.rows if None in numbers else sorted(one.rows, key=lambda r: r.sample or 0)
        one.rows = [replace(r, sample=n) for n, r in enumerate(ordered)]
        if len(one.rows) > 1 and any(r.trials is not None for r in one.rows):
            problem = f"{_name(one)} has several counts of successes, first in {one.rows[0].where}"
            bad.add(one.rows[1].where, problem, "add them up in one row")


def _name(one: Found) -> str:
    return one.rows[0].key or str(one.item.key)


def _merged(rows: Sequence[Row], bad: Mistakes) -> list[Row]:
    """Rows of the same sample that carry other metrics (lm-eval's filters, two files) as one."""
    kept: list[Row] = []
    for row in rows:
        into = next((n for n, k in enumerate(kept) if k.sample == row.sample and _joins(k, row)), None)
        if into is None:
            kept.append(row)
            continue
        first = kept[into]
        if first.prompt is not None and row.prompt is not None and first.prompt != row.prompt:
            # Two tasks about one document (TruthfulQA's mc1 and mc2): the first one's prompt stands for both.
            row = replace(row, prompt=first.prompt)
        better = row if first.outcome == "unparsed" and row.outcome == "ok" else first
        kept[into] = replace(better, scores={**first.scores, **row.scores}, where=first.where)
    return kept


def _joins(one: Row, other: Row) -> bool:
    return bool(one.scores) and bool(other.scores) and one.scores.keys().isdisjoint(other.scores)


def decode_id(found: Sequence[Found]) -> str:
    """Greedy for one sample of unknown temperature; of several samples what is known of how they were drawn."""
    samples = max(max(len(f.rows), max((r.trials or 1) for r in f.rows)) for f in found)
    temperatures = {r.temperature for f in found for r in f.rows}
    known = temperatures.pop() if len(temperatures) == 1 else None
    if samples == 1 and not known:
        return GREEDY
    return Decode(temperature=known, n=samples).decode_id if known else f"T?/K{samples}"


def metrics_of(found: Sequence[Found]) -> tuple[str, ...]:
    """In the order of the rows."""
    names = dict.fromkeys(m for f in found for r in f.rows for m in r.scores)
    return tuple(names) or (METRIC,)


def records(found: Sequence[Found], *, view: View, names: Mapping[str, str]) -> list[Record]:
    """By item, then sample. names: their metric -> ours; that of a plain score is also the name of a count."""
    decoded = decode_id(found)
    return [_record(one, row, n, view, decoded, names) for one in found for n, row in enumerate(one.rows)]


def _record(one: Found, row: Row, sample: int, view: View, decoded: str, names: Mapping[str, str]) -> Record:
    item = one.item
    scores = {names.get(name, name): value for name, value in row.scores.items()}
    if row.trials:
        scores = {names.get(METRIC, METRIC): (row.successes or 0) / row.trials}
    key = {} if row.key is None else {"key": row.key}
    # Of an item that was found by its prompt column the column holds the question.
    prompt = row.prompt if row.rendered or one.how != "content" else None
    return Record(
        task=item.key.task,
        content_hash=item.key.content_hash,
        occurrence=item.key.occurrence,
        task_type=item.task_type,
        view=view,
        style=_STYLES[view],
        decode_id=decoded,
        sample=sample,
        replicate=0,
        outcome=row.outcome,
        scores={} if row.outcome == "infra_error" else scores,
        output=row.output,
        extracted=row.extracted,
        gold=item.gold or row.gold,
        why=row.why or "Scored elsewhere.",
        gold_hash=item.gold_hash,
        cluster=item.cluster,
        stratum=item.stratum,
        n_choices=item.n_choices,
        source=row.where,
        prompt=prompt,
        prompt_text_hash=None if prompt is None else text_hash(prompt),
        finish_reason=row.finish_reason,
        n_prompt_tokens=row.n_prompt_tokens,
        n_output_tokens=row.n_output_tokens,
        seconds=row.seconds,
        successes=row.successes,
        trials=row.trials,
        extra={**row.extra, **key, "known_by": one.how},
    )
