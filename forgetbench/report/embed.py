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
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from forgetbench.analysis.types import Comparison, Pair, Side
from forgetbench.causes.types import Found
from forgetbench.report.behaviour import cause_word, told_of
from forgetbench.report.text import cut, one_line, question_line, visible
from forgetbench.types import GREEDY

Embed = Literal["flips", "all", "none"]
EMBEDS: tuple[Embed, ...] = ("flips", "all", "none")

CHUNK_ROWS = 128
SAMPLE_SAME = 50
"""Pairs that did not flip, drawn by hash: a reader who sees flips only believes that everything flipped."""
SHARED = 200
"""Characters from which on the worked examples before a question are stored once for their neighbours."""
SHOWN = 16_000
"""Characters of a text that the page can show (`text.cut`); the length of a longer one is said."""
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


_META = ("score", "outcome", "extracted", "why", "style", "finish", "tokens", "logprob", "chars")


def _side(side: Side) -> dict[str, Any]:
    return {
        "score": _finite(side.score),
        "outcome": side.outcome,
        "extracted": _text(side.extracted),
        "why": _text(side.why),
        "style": side.style,
        "finish": side.finish_reason,
        "tokens": side.n_output_tokens,
        "logprob": _finite(side.mean_logprob, 3),
        "chars": len(side.output) if len(side.output) > SHOWN else None,
    }


def _chunk(pairs: Sequence[Pair], causes: Sequence[str | None]) -> dict[str, Any]:
    """Column by column, which compresses better than row by row; what is unknown in every row is left out.

    The two outputs of an item stand side by side, since one often repeats the other. What prompts share
    before their last block (worked examples) stands once in `shots`; `shot` counts from 1, 0 is none.
    """
    shots: list[str] = []
    columns: dict[str, list[Any]] = {"shot": []}

    def add(name: str, value: Any) -> None:
        columns.setdefault(name, []).append(value)

    for pair, cause in zip(pairs, causes, strict=True):
        prompt = _text(pair.prompt)
        if prompt is not None and not (shots and prompt.startswith(shots[-1])):
            head = prompt[: prompt.rstrip().rfind("\n\n") + 2]
            if len(head) >= SHARED:
                shots.append(head)
        known = bool(shots) and prompt is not None and prompt.startswith(shots[-1])
        columns["shot"].append(len(shots) if known else 0)
        add("prompt", prompt[len(shots[-1]) :] if prompt is not None and known else prompt)
        add("prompt2", _text(pair.candidate_prompt))
        add("gold", _text(pair.gold))
        add("source", visible(pair.source) if pair.source else None)
        add("cause", _text(cause))
        add("output", [_text(pair.base.output), _text(pair.candidate.output)])
        for role, side in (("base", pair.base), ("candidate", pair.candidate)):
            for name, value in _side(side).items():
                add(f"{role}.{name}", value)
    return {"shots": shots, **{k: v for k, v in columns.items() if any(x is not None for x in v)}}


def unpack(packed: str) -> list[dict[str, Any]]:
    """The rows of a chunk, as the page's script reads them."""
    chunk = json.loads(gzip.decompress(base64.b64decode(packed)))
    shots = ["", *chunk.pop("shots")]
    rows = []
    for values in zip(*chunk.values(), strict=True):
        flat = {k: v for k, v in zip(chunk, values, strict=True) if v is not None}
        row: dict[str, Any] = {k: flat[k] for k in ("prompt2", "gold", "source", "cause") if k in flat}
        if "prompt" in flat:
            row["prompt"] = shots[flat["shot"]] + flat["prompt"]
        for position, role in enumerate(("base", "candidate")):
            row[role] = {name: flat[f"{role}.{name}"] for name in _META if f"{role}.{name}" in flat}
            row[role]["output"] = flat["output"][position]
        rows.append(row)
    return rows


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
    # Lone surrogates, which UTF-8 cannot hold, were made visible before.
    blob = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8")
    return base64.b64encode(gzip.compress(blob, 6, mtime=0)).decode("ascii")


def _finite(value: float | None, digits: int | None = None) -> float | None:
    """NaN and infinities are unknown: JSON has no word for them."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, digits) if digits is not None else value


def pack(comparisons: Sequence[tuple[str, Comparison]], embed: Embed = "flips", seed: int = 0) -> Embedded:
    """Index and chunks over all comparisons; the string beside each is its id in permanent links."""
    coded = {
        name: _Column()
        for name in ("comparison", "task", "type", "stratum", "view", "flip", "cause", "outcome", "outcome2", "decode")
    }
    plain: dict[str, list[str]] = {name: [] for name in ("anchor", "question", "answer", "answer2")}
    rows: list[Pair] = []
    whys: list[str | None] = []
    shown: dict[str, int] = {}
    left_out = 0
    for comparison_id, comparison in comparisons:
        chosen = select(comparison.pairs, embed, seed)
        causes = _causes(comparison)
        left_out += len(comparison.pairs) - len(chosen)
        for pair in chosen:
            coded["comparison"].add(comparison_id)
            coded["task"].add(pair.task)
            coded["type"].add(pair.task_type)
            coded["stratum"].add(pair.stratum or "")
            coded["view"].add(pair.view)
            coded["flip"].add(pair.flip)
            found = causes.get((pair.task, pair.content_hash, pair.occurrence, pair.view, pair.decode_id))
            coded["cause"].add(cause_word(found.cause) if found is not None else "")
            whys.append(None if found is None else told_of(found))
            coded["outcome"].add(pair.base.outcome)
            coded["outcome2"].add(pair.candidate.outcome)
            coded["decode"].add(f"{pair.metric}, {pair.decode_id}")
            plain["anchor"].append(visible(pair.anchor))
            plain["question"].append(question_line(pair.prompt or ""))
            plain["answer"].append(_answer(pair.base))
            plain["answer2"].append(_answer(pair.candidate))
            rows.append(pair)
            shown[pair.flip] = shown.get(pair.flip, 0) + 1
    index = {"coded": {k: c.json() for k, c in coded.items()}, **plain, "chunk_rows": CHUNK_ROWS}
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # zlib lets go of the interpreter
        starts = range(0, len(rows), CHUNK_ROWS)
        chunks = tuple(
            pool.map(lambda at: _pack(_chunk(rows[at : at + CHUNK_ROWS], whys[at : at + CHUNK_ROWS])), starts)
        )
    return Embedded(_pack(index), chunks, shown, left_out)


def _causes(comparison: Comparison) -> dict[tuple[str, str, int, str, str], Found]:
    """By item, view and decoding: causes are those of greedy flips."""
    found = comparison.behaviour.causes.found if comparison.behaviour and comparison.behaviour.causes else ()
    return {(f.key.task, f.key.content_hash, f.key.occurrence, f.view, GREEDY): f for f in found}


def _answer(side: Side) -> str:
    return one_line(side.extracted if side.extracted is not None else side.output, 60)
