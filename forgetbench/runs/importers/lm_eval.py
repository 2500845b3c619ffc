"""lm-eval's `--log_samples` files (samples_<task>_<date>.jsonl), as 0.4.x writes them.

A row is one document under one *filter*: GSM8K has two rows for each. The rows of a document become one item with
a metric for each filter. Its `doc_hash` is never ours, and with an unsorted `--samples` its `doc_id` is another
document's, so a document is known by its content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetbench.runs.importers import files
from forgetbench.runs.importers.types import Mistakes, Row, Source
from forgetbench.tasks.base import content_hash, folder_name
from forgetbench.tasks.mmlu import SUBJECTS
from forgetbench.types import Outcome

_NAME = re.compile(r"samples_(.+?)_\d{4}-\d{2}-\d{2}T[\d.\-:]+\.jsonl(?:\.gz)?$")
_NEEDED = ("doc", "doc_id", "resps", "filter", "metrics")
_ALIAS = {"truthfulqa_mc1": "truthfulqa", "truthfulqa_mc2": "truthfulqa", "humaneval_instruct": "humaneval",
          "mbpp_instruct": "mbpp", "mbpp_plus_instruct": "mbpp_plus"}  # fmt: skip
_METRICS: Mapping[tuple[str, str, str], str] = {
    ("gsm8k", "exact_match", "flexible-extract"): "exact_match,flexible",
    ("gsm8k", "exact_match", "strict-match"): "exact_match,strict",
    ("truthfulqa_mc1", "acc", "none"): "mc1",
    ("truthfulqa_mc2", "acc", "none"): "mc2",
}
"""(lm-eval's task, metric, filter) -> our metric, where the two are called differently."""
_PASS = ("pass_at_1", "pass@1")
_INVALID = "[invalid]"
_NO_VALUE = ("bypass",)


def looks_like(row: Mapping[str, Any]) -> bool:
    return all(name in row for name in ("doc_id", "doc", "resps", "filter"))


def task_of(path: Path) -> str | None:
    """lm-eval's task in the name that lm-eval gives the file; None: it was renamed."""
    match = _NAME.search(path.name)
    return match[1] if match else None


def our_task(theirs: str) -> str:
    """The built-in task (or the name that ours would have) of a task of lm-eval's."""
    if theirs.removeprefix("mmlu_") in SUBJECTS:
        return "mmlu"
    return _ALIAS.get(theirs, folder_name(theirs))


def read(path: Path, content: str, digest: str, bad: Mistakes) -> Source:
    """All rows of a file, one for each document and filter."""
    theirs = task_of(path)
    left_out: dict[str, None] = {}
    rows = []
    filters: set[str] = set()
    table = list(files.rows(path, content, bad))
    for where, raw in table:
        missing = [name for name in _NEEDED if name not in raw]
        if missing:
            cure = "import a file of `lm_eval --log_samples`, of version 0.4.3 or later"
            bad.add(where, f"has no field '{missing[0]}'", cure)
        elif not isinstance(raw["doc"], dict) or not isinstance(raw["metrics"], list):
            field = "doc" if not isinstance(raw["doc"], dict) else "metrics"
            bad.add(f"{where}: {field}", f"is {files.kind(raw[field])}", "import the file as lm-eval wrote it")
        else:
            filters.add(str(raw["filter"]))
    for where, raw in table:
        if not bad:
            rows.append(_row(where, raw, theirs, len(filters) > 1, left_out, bad))
    notes = [f"{path.name}: metrics without a number for each item, not imported: {', '.join(left_out)}"]
    return Source(path, "lm-eval", digest, rows, tuple(notes if left_out else ()))


def _row(
    where: str, raw: Mapping[str, Any], theirs: str | None, many: bool, left_out: dict[str, None], bad: Mistakes
) -> Row:
    doc: Mapping[str, Any] = raw["doc"]
    arguments = _arguments(raw.get("arguments"))
    prompts = list(dict.fromkeys(a[0] for a in arguments if a and isinstance(a[0], str)))
    scores = _scores(where, raw, theirs or "", many, left_out, bad)
    texts = _texts(raw["resps"])
    counted = _counted(raw, texts)
    filtered = raw.get("filtered_resps")
    answer = filtered[0] if isinstance(filtered, list) and filtered else None
    extracted = answer if isinstance(answer, str) else None
    outcome: Outcome = "unparsed" if extracted == _INVALID else "ok"
    output = texts[0] if texts else json.dumps(raw["resps"], ensure_ascii=False)
    name = theirs or "document"
    return Row(
        where=where,
        same=content_hash({"doc": doc, "id": raw["doc_id"]}),
        scores={} if counted else scores,
        task=our_task(theirs) if theirs else None,
        key=f"{_ALIAS.get(name, name)}:{raw['doc_id']}",
        doc=_subject(doc, theirs),
        successes=counted[0] if counted else None,
        trials=counted[1] if counted else None,
        outcome=outcome,
        output=output,
        extracted=None if outcome == "unparsed" else extracted,
        gold=str(raw.get("target", "")),
        why=f"Scored by lm-eval, filter {raw['filter']}.",
        prompt=prompts[0] if len(prompts) == 1 else None,
        temperature=_temperature(arguments),
        extra={} if texts else {"resps": raw["resps"]},
    )


def _subject(doc: Mapping[str, Any], theirs: str | None) -> Mapping[str, Any]:
    """The document; MMLU's of old releases of the data set lack their subject, which the task's name has."""
    if "subject" in doc or theirs is None or our_task(theirs) != "mmlu":
        return doc
    return {**doc, "subject": theirs.removeprefix("mmlu_")}


def _arguments(value: Any) -> list[list[Any]]:
    """The requests' arguments: as written ({"gen_args_0": {"arg_0": ...}}), or lists as in memory."""
    requests = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(requests, list):
        return []
    return [list(r.values()) if isinstance(r, Mapping) else r for r in requests if isinstance(r, Mapping | list)]


def _temperature(arguments: Sequence[Sequence[Any]]) -> float:
    """Of the requests: 0 for log-likelihoods, and where nothing is said of sampling."""
    for request in arguments:
        if len(request) > 1 and isinstance(request[1], Mapping):
            value = files.number(request[1].get("temperature", 0.0))
            return value if value and request[1].get("do_sample", True) else 0.0
    return 0.0


def _texts(resps: Any) -> list[str]:
    """The generated texts; none for log-likelihoods."""
    first = resps[0] if isinstance(resps, list) and resps else None
    values = first if isinstance(first, list) else [first]
    return [v for v in values if isinstance(v, str)]


def _counted(raw: Mapping[str, Any], texts: Sequence[str]) -> tuple[int, int] | None:
    """(successes, K) where pass@1 is a mean over K > 1 programs."""
    name = next((m for m in _PASS if m in raw["metrics"]), None)
    value = None if name is None else files.number(raw.get(name))
    return None if value is None or len(texts) < 2 else (round(value * len(texts)), len(texts))


def _scores(
    where: str, raw: Mapping[str, Any], theirs: str, many: bool, left_out: dict[str, None], bad: Mistakes
) -> dict[str, float]:
    """Our metric -> value. A list of booleans is their mean (IFEval's instructions); what is no number is left out."""
    found: dict[str, float] = {}
    for metric in raw["metrics"]:
        value, name = raw.get(metric), str(raw["filter"])
        if isinstance(value, list) and value and all(isinstance(v, bool) for v in value):
            value = sum(value) / len(value)
        number = None if metric in _NO_VALUE else files.number(value)
        if metric in raw and value is None:
            bad.add(f"{where}: {metric}", "is null", "leave the document out, or evaluate it again")
        elif number is None or isinstance(value, str):
            left_out[str(metric)] = None
        elif metric in _PASS:
            found["pass@1"] = number
        else:
            plain = metric if name == "none" and not many else f"{metric},{name}"
            found[_METRICS.get((theirs, metric, name), plain)] = number
    if not found and not bad:
        bad.add(where, "has no metric with a number", "import a task that is scored item by item")
    return found
