"""Which pairs go into the file, and how: an index read at once, texts in chunks that are read on demand.

Measured (14,000 rows, two models): plain JSON 32 MB and 34 MB of heap; gzip chunks of 128 rows 17 MB, 4 MB of
heap and the earliest first paint. Flips alone are about 2 MB, so flips alone are the default.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from forgetbench.analysis.types import Comparison, Pair, Side
from forgetbench.report.text import cut, one_line, question_line, visible

Embed = Literal["flips", "all", "none"]

CHUNK_ROWS = 128
SAMPLE_SAME = 50
"""Pairs that did not flip, drawn by hash: a reader who sees flips only believes that everything flipped."""
MOST_CHANGED = 200
"""Of pairs with a continuous score, those that moved most: nearly every one moves a little."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the page carries. `index` and each chunk are base64 of gzip of JSON."""

    index: str
    chunks: tuple[str, ...]
    shown: Mapping[str, int]
    """Embedded pairs by direction, over all comparisons."""
    left_out: int


def _draw(pair: Pair, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{pair.anchor}:{pair.metric}:{pair.decode_id}".encode("utf-8", "replace")).hexdigest()


def _moved(pair: Pair) -> float:
    if pair.base.score is None or pair.candidate.score is None:
        return 0.0
    return abs(pair.candidate.score - pair.base.score)


def select(pairs: Sequence[Pair], embed: Embed = "flips", seed: int = 0) -> list[Pair]:
    """The pairs to embed. Flips always, whole; the rest as a sample that does not depend on order."""
    if embed == "none":
        return []
    if embed == "all":
        chosen = list(pairs)
    else:
        chosen = [p for p in pairs if p.flip in ("lost", "gained")]
        changed = sorted((p for p in pairs if p.flip == "changed"), key=lambda p: (-_moved(p), p.anchor))
        same = sorted((p for p in pairs if p.flip == "same"), key=lambda p: _draw(p, seed))
        chosen += changed[:MOST_CHANGED] + same[:SAMPLE_SAME]
    # Neighbours that share a few-shot prefix compress to almost nothing (gzip looks back 32 kB).
    chosen.sort(key=lambda p: (p.view, p.task, p.task_type, p.stratum or "", p.content_hash, p.occurrence))
    return chosen


def _text(value: str | None) -> str | None:
    return None if value is None else visible(cut(value))


def _side(side: Side) -> dict[str, Any]:
    row = {
        "score": _finite(side.score),
        "outcome": side.outcome,
        "output": _text(side.output),
        "extracted": _text(side.extracted),
        "why": _text(side.why),
        "style": side.style,
        "finish": side.finish_reason,
        "tokens": side.n_output_tokens,
        "logprob": _finite(side.mean_logprob, 3),
        "chars": len(side.output),
    }
    return {k: v for k, v in row.items() if v is not None}


def _row(pair: Pair) -> dict[str, Any]:
    row = {
        "prompt": _text(pair.prompt),
        "prompt2": _text(pair.candidate_prompt),
        "gold": _text(pair.gold),
        "source": visible(pair.source) if pair.source else None,
        "base": _side(pair.base),
        "candidate": _side(pair.candidate),
    }
    return {k: v for k, v in row.items() if v is not None}


class _Column:
    """A dictionary-coded column: few distinct values, many rows."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.codes: list[int] = []

    def add(self, value: str) -> None:
        self.codes.append(self.values.setdefault(visible(value), len(self.values)))

    def json(self) -> dict[str, Any]:
        return {"values": list(self.values), "codes": self.codes}


def _pack(value: object) -> str:
    # allow_nan=False: NaN is no JSON, and one would make the browser refuse the whole chunk.
    blob = json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    return base64.b64encode(gzip.compress(blob, 6, mtime=0)).decode("ascii")


def _finite(value: float | None, digits: int | None = None) -> float | None:
    """NaN and infinities are unknown: JSON has no word for them."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, digits) if digits is not None else value


def pack(comparisons: Sequence[tuple[str, Comparison]], embed: Embed = "flips", seed: int = 0) -> Embedded:
    """Index and chunks over all comparisons; the string beside each is its id in permanent links."""
    coded = {
        name: _Column() for name in ("comparison", "task", "type", "view", "flip", "outcome", "outcome2", "decode")
    }
    plain: dict[str, list[str]] = {name: [] for name in ("anchor", "question", "answer", "answer2")}
    rows: list[dict[str, Any]] = []
    shown: dict[str, int] = {}
    left_out = 0
    for comparison_id, comparison in comparisons:
        chosen = select(comparison.pairs, embed, seed)
        left_out += len(comparison.pairs) - len(chosen)
        for pair in chosen:
            coded["comparison"].add(comparison_id)
            coded["task"].add(pair.task)
            coded["type"].add(pair.task_type)
            coded["view"].add(pair.view)
            coded["flip"].add(pair.flip)
            coded["outcome"].add(pair.base.outcome)
            coded["outcome2"].add(pair.candidate.outcome)
            coded["decode"].add(f"{pair.metric}, {pair.decode_id}")
            plain["anchor"].append(visible(pair.anchor))
            plain["question"].append(question_line(pair.prompt or ""))
            plain["answer"].append(_answer(pair.base))
            plain["answer2"].append(_answer(pair.candidate))
            rows.append(_row(pair))
            shown[pair.flip] = shown.get(pair.flip, 0) + 1
    index = {"coded": {k: c.json() for k, c in coded.items()}, **plain, "chunk_rows": CHUNK_ROWS}
    chunks = tuple(_pack(rows[i : i + CHUNK_ROWS]) for i in range(0, len(rows), CHUNK_ROWS))
    return Embedded(_pack(index), chunks, shown, left_out)


def _answer(side: Side) -> str:
    return one_line(side.extracted if side.extracted is not None else side.output, 60)
