"""Perplexity of the answers under the base, looked at from both sides.

exp(-mean natural-log probability per token) of the answer after its prompt: under the base's chat template where it
has one, else after the prompt and a line end; of plain text from its start. Too low: the base says it already, so it
teaches little and may be text that the base has memorised. Too high: foreign to the base, which is a new ability, or
noise, or the wrong language.

At most PER_TYPE examples of each task_type, drawn with a seed; of each prompt the last, of each answer the first
LONGEST characters. Perplexities under templates and of plain text are not comparable, so groups are held against
themselves alone, and base models read a chat's format as foreign: what counts is the difference between lines.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning.plan import request_id
from forgetbench.training.asking import Ask, in_chat
from forgetbench.training.check.lengths import outliers
from forgetbench.training.check.report import Finding, shown
from forgetbench.training.check.rows import Row, by_kind
from forgetbench.types import Message, Prompt, Request, Score

PER_TYPE = 50
LONGEST = 2_000
KNOWN = 1.1
"""Median perplexity of a task_type up to which the base is said to know its answers already."""
FOREIGN = 10.0
"""... and times the median of all others from which it is said to be foreign. So it is above the size of the
vocabulary: the base finds the answers less likely than tokens drawn at random."""
PLAIN = "(plain text)"
_ROLES = ("system", "user", "assistant")


class Perplexity(NamedTuple):
    row: Row
    nll: float
    """Mean negative natural-log probability per token."""
    tokens: int


def measure(
    rows: Sequence[Row], point: Checkpoint, ask: Ask, *, per_type: int = PER_TYPE, seed: int = 0
) -> tuple[list[Perplexity], int]:
    """The sampled rows' perplexities, and how many could not be asked (their template refused, the engine failed)."""
    chosen = _sample(rows, per_type, seed)
    asked: list[tuple[Row, Request]] = []
    for row in chosen:
        try:
            asked.append((row, _request(row, point)))
        except UsageError:
            continue
    answers = ask([request for _, request in asked])
    found = []
    for row, request in asked:
        response = answers.get(request.request_id)
        if response is not None and response.scores:
            score = response.scores[0]
            if score.n_tokens and math.isfinite(score.logprob):
                found.append(Perplexity(row, -score.logprob / score.n_tokens, score.n_tokens))
    return found, len(chosen) - len(found)


def perplexity(
    rows: Sequence[Row], point: Checkpoint, ask: Ask, *, per_type: int = PER_TYPE, seed: int = 0
) -> list[Finding]:
    """Findings on single examples and on task_types. One request an example, at most `per_type` of each task_type."""
    measured, failed = measure(rows, point, ask, per_type=per_type, seed=seed)
    if not measured:
        cure = "see that the base loads and can score (`forgetbench doctor`)"
        return [Finding("perplexity", "warn", "no example could be read under the base", failed, failed, (), cure)]
    groups: dict[str, list[Perplexity]] = {}
    for one in measured:
        groups.setdefault(_kind(one.row), []).append(one)
    tables = {kind: _table(mine) for kind, mine in sorted(groups.items())}
    total = len(measured)
    whole = math.exp(sum(m.nll * m.tokens for m in measured) / sum(m.tokens for m in measured))
    message = f"{whole:.3g} under {point.alias} ({total:,} sampled examples, at most {per_type} of a task_type)"
    if failed:
        message += f"; {failed:,} could not be read"
    return [_singles(groups, message, total, tables), _kinds(groups, total, point.config.get("vocab_size"))]


def _singles(groups: dict[str, list[Perplexity]], message: str, total: int, tables: Mapping[str, object]) -> Finding:
    low: list[Perplexity] = []
    high: list[Perplexity] = []
    for mine in groups.values():
        middle = float(np.median([m.nll for m in mine]))
        for i in outliers([m.nll for m in mine]):
            (low if mine[i].nll < middle else high).append(mine[i])
    if not low and not high:
        return Finding("perplexity: examples", "pass", message, 0, total, figures=tables)
    low.sort(key=lambda m: m.nll)
    high.sort(key=lambda m: -m.nll)
    lines = [
        (m.row.where, f"perplexity {math.exp(m.nll):.3g}: {m.row.answer or m.row.text}") for m in (*high[:3], *low)
    ]
    message += f"; {len(high):,} far above and {len(low):,} far below the median of their task_type"
    cure = "above: noise, a wrong answer, another language? below: boilerplate, or text that the base knows by heart?"
    return Finding("perplexity: examples", "warn", message, len(low) + len(high), total, shown(lines), cure, tables)


def _kinds(groups: dict[str, list[Perplexity]], total: int, vocabulary: object) -> Finding:
    medians = {kind: float(np.median([m.nll for m in mine])) for kind, mine in groups.items()}
    known = [kind for kind, nll in medians.items() if math.exp(nll) <= KNOWN]
    foreign = []
    for kind, nll in medians.items():
        others = [m.nll for other, mine in groups.items() if other != kind for m in mine]
        random_nll = math.log(vocabulary) if isinstance(vocabulary, int) and vocabulary > 1 else math.inf
        if nll > random_nll or (others and nll - float(np.median(others)) >= math.log(FOREIGN)):
            foreign.append(kind)
    check = "perplexity: task_types"
    told = ", ".join(f"{kind} {math.exp(nll):.3g}" for kind, nll in sorted(medians.items())[:8])
    if not known and not foreign:
        return Finding(check, "pass", f"medians {told}", 0, total)
    parts = []
    if known:
        parts.append(f"the base already says the answers of {', '.join(known)} (median up to {KNOWN:g})")
    if foreign:
        bar = f"median {FOREIGN:g} times that of the others, or above the vocabulary's size"
        parts.append(f"foreign to it: {', '.join(foreign)} ({bar})")
    message = f"{'; '.join(parts)}; medians {told}"
    lines = [(m.row.where, m.row.answer or m.row.text) for kind in (*known, *foreign) for m in groups[kind][:2]]
    count = sum(len(groups[kind]) for kind in {*known, *foreign})
    cure = "known: fewer of them do; foreign: see that language and format are meant, then watch retention"
    return Finding(check, "warn", message, count, total, shown(lines), cure)


def _table(mine: Sequence[Perplexity]) -> dict[str, float]:
    five, half, many = (math.exp(q) for q in np.quantile([m.nll for m in mine], [0.05, 0.5, 0.95]))
    return {"n": len(mine), "tokens": sum(m.tokens for m in mine), "p5": five, "median": half, "p95": many}


def _kind(row: Row) -> str:
    return PLAIN if row.plain else row.kind


def _sample(rows: Sequence[Row], per_type: int, seed: int) -> list[Row]:
    able = [r for r in rows if (r.text if r.plain else r.answer or "").strip()]
    rng = random.Random(seed)
    chosen: list[Row] = []
    for part in ([r for r in able if not r.plain], [r for r in able if r.plain]):
        for mine in by_kind(part).values():
            chosen += rng.sample(mine, min(per_type, len(mine)))
    return chosen


def _request(row: Row, point: Checkpoint) -> Request:
    """Raises UsageError where the template does not take the conversation."""
    if row.plain:
        prompt, answer = Prompt(text=""), row.text.strip()[:LONGEST]
    elif point.has_chat_template and not point.sends_messages and all(t.role in _ROLES for t in row.turns):
        last = max(i for i, t in enumerate(row.turns) if t.role == "assistant")
        messages = [Message(t.role, t.text) for t in row.turns[:last]]  # type: ignore[arg-type]
        prompt, lead = in_chat(point, messages)
        answer = lead + (row.answer or "").strip()[:LONGEST]
    else:
        prompt, answer = Prompt(text=row.prompt[-LONGEST:] + "\n"), (row.answer or "").strip()[:LONGEST]
    body = Score(continuations=(answer,))
    return Request(request_id(point.digest, prompt, body), point.digest, prompt, body)
