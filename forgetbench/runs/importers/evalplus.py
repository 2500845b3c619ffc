"""EvalPlus: `*_eval_results.json` (base and plus status of each sample).

A sample counts under the plus tests where it passes the base tests too, as in EvalPlus' own pass@k. Samples without
results (.jsonl with `solution` or `completion`) are run here: outputs.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forgetbench.runs.importers import files
from forgetbench.runs.importers.plain import FIELDS
from forgetbench.runs.importers.types import Mistakes, Row, Source

PASS, BASE = "pass@1", "pass@1,base"
_SETS = {"HumanEval": "humaneval_plus", "Mbpp": "mbpp_plus"}
_CURE = "import the *_eval_results.json that evalplus.evaluate wrote"
_STATUS = ("pass", "fail", "timeout", "success")


def looks_like(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("eval"), Mapping)


def are_samples(row: Mapping[str, Any]) -> bool:
    """Whether a row is a program without a result."""
    named = isinstance(row.get("task_id"), str) and set_of(row["task_id"]) is not None
    scored = any(name in row for name in ("score", "successes", *FIELDS["score"], *FIELDS["successes"]))
    return named and not scored and any(isinstance(row.get(name), str) for name in ("solution", "completion"))


def set_of(task_id: str) -> str | None:
    """The task that an id such as `HumanEval/0` is of."""
    return _SETS.get(task_id.partition("/")[0])


def read(path: Path, content: str, digest: str, task: str | None, bad: Mistakes) -> Source:
    """Results. `task`: --task; for `humaneval` and `mbpp` the base tests alone decide."""
    try:
        value = files.parse(content)
    except ValueError as e:
        bad.add(str(path), f"not JSON ({e})", _CURE)
        return Source(path, "evalplus", digest, ())
    if not isinstance(value, dict) or not isinstance(value.get("eval"), Mapping):
        bad.add(f"{path}: eval", "is missing or no object", _CURE)
        return Source(path, "evalplus", digest, ())
    rows: list[Row] = []
    for task_id, found in value["eval"].items():
        where = f"{path}: eval.{task_id}"
        for n, sample in enumerate(_samples(where, found, bad)):
            row = _row(f"{where}[{n}]", task_id, n, sample, task, bad)
            rows += [row] if row is not None else []
    if not rows and not bad:
        bad.add(f"{path}: eval", "is empty", _CURE)
    return Source(path, "evalplus", digest, rows)


def _samples(where: str, found: Any, bad: Mistakes) -> Iterator[Mapping[str, Any]]:
    """The samples of a problem: a list of mappings, or (before 0.2) one mapping of lists [[status, details], ...]."""
    if isinstance(found, list) and found and all(isinstance(s, Mapping) for s in found):
        yield from found
    elif isinstance(found, Mapping) and isinstance(found.get("base"), list):
        base, plus = found["base"], found.get("plus") or []
        for n, one in enumerate(base):
            more = plus[n] if n < len(plus) else None
            yield {"base_status": _first(one), "plus_status": None if more is None else _first(more)}
    else:
        bad.add(where, f"is {files.kind(found)} without samples", _CURE)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _row(where: str, task_id: str, n: int, sample: Mapping[str, Any], task: str | None, bad: Mistakes) -> Row | None:
    status = {}
    for name in ("base_status", "plus_status"):
        value = sample.get(name)
        if value is None and name == "plus_status":
            continue
        if value not in _STATUS:
            bad.add(f"{where}: {name}", f"is {files.shown(value)}", f"one of {', '.join(_STATUS)}; {_CURE}")
            return None
        status[name] = value in ("pass", "success")
    base = status["base_status"]
    plus = base and status["plus_status"] if "plus_status" in status else None
    plain = task in ("humaneval", "mbpp")
    if plus is None and not plain:
        bad.add(
            f"{where}: plus_status", "is missing: only the base tests ran", "import it with --task humaneval or mbpp"
        )
        return None
    scores = {PASS: float(base)} if plain else {PASS: float(bool(plus)), BASE: float(base)}
    said = ", ".join(f"{name.removesuffix('_status')} {'passes' if ok else 'fails'}" for name, ok in status.items())
    timed_out = "timeout" in (sample.get("base_status"), sample.get("plus_status"))
    solution = sample.get("solution")
    return Row(
        where=where,
        same=task_id,
        scores=scores,
        task=set_of(task_id),
        key=task_id,
        named=True,
        sample=n,
        outcome="timeout" if timed_out else "ok",
        output=solution if isinstance(solution, str) else "",
        extracted=solution if isinstance(solution, str) else None,
        why=f"Run by EvalPlus: {said}.",
    )
