"""`forgetbench export`: items of two runs on disk as JSONL, seeds for new data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench import flow, imported
from forgetbench.cli.output import print_json, say
from forgetbench.errors import UsageError
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.analysis.types import Comparison, Pair, Side

KINDS = ("lost", "gained", "unparsed", "diverged")


def export(ws: Workspace, base: str, candidate: str, *, out: Path, flips: bool, as_json: bool) -> None:
    """Write one line for every item that flipped, could not be read, or diverged."""
    from forgetbench.runs.files import atomic_write

    if not flips:
        raise UsageError("export", "it does not say what", "use --flips: flipped, unparsed or diverged items")
    rows = list(lines(_comparison(ws, base, candidate)))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out, text.encode("utf-8", "replace"))
    except OSError as e:
        raise UsageError(str(out), f"cannot be written ({e.strerror})", "choose another path with --out") from None
    counts = Counter(row["kind"] for row in rows)
    if as_json:
        print_json({"file": str(out), "lines": len(rows), **{kind: counts[kind] for kind in KINDS}})
    else:
        say(f"{out}: {len(rows):,} items ({', '.join(f'{counts[kind]:,} {kind}' for kind in KINDS)})")


def _comparison(ws: Workspace, base: str, candidate: str) -> Comparison:
    from forgetbench.analysis.compare import compare_runs
    from forgetbench.analysis.pairing import Selection
    from forgetbench.findings import scored_metrics

    ws, loaded = imported.tasks(ws, [base, candidate])
    metrics = scored_metrics(ws, loaded)
    runs = {alias: flow.run(ws, alias, loaded, say=say, generate=False) for alias in (base, candidate)}
    selection = Selection(frozenset(metrics), by=ws.pair_by, shared_only=ws.shared_only)
    return compare_runs(runs[base], runs[candidate], suite=ws.suite.name, selection=selection, metrics=metrics)


def lines(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """The exported items in the order of the comparison."""
    for pair in comparison.pairs:
        kind = kind_of(pair)
        if kind is not None:
            yield _line(pair, kind)


def kind_of(pair: Pair) -> str | None:
    """Why an item is exported; None: it is not.

    lost, gained   the score flipped
    unparsed       no answer could be read on a side (also truncated or timed out), the score being the same
    diverged       both were read, with the same score or nearly so, and the answers differ
    """
    if pair.flip in ("lost", "gained"):
        return pair.flip
    if pair.flip == "dropped":
        return None  # an engine's failure says nothing about either model
    if any(side.outcome in ("unparsed", "truncated", "timeout") for side in (pair.base, pair.candidate)):
        return "unparsed"
    if pair.flip == "changed" or _answer(pair.base) != _answer(pair.candidate):
        return "diverged"
    return None


def _answer(side: Side) -> str:
    answer = side.extracted if side.extracted is not None else side.output
    return " ".join(answer.split()).casefold()


def _line(pair: Pair, kind: str) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": pair.anchor,
        "task": pair.task,
        "task_type": pair.task_type,
        "view": pair.view,
        "kind": kind,
        "flip": pair.flip,
        "prompt": pair.prompt,
        "gold": pair.gold,
        "base": _side(pair.base),
        "candidate": _side(pair.candidate),
        "source": pair.source,
    }
    if pair.candidate_prompt is not None:
        line["candidate_prompt"] = pair.candidate_prompt
    return line


def _side(side: Side) -> dict[str, Any]:
    return {
        "score": side.score,
        "outcome": side.outcome,
        "output": side.output,
        "extracted": side.extracted,
        "why": side.why,
    }
