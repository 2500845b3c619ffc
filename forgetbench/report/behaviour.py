"""Behaviour as plain data: for the page, the terminal and --json. Only chooses, scales and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forgetbench.analysis.measured import Measured
from forgetbench.analysis.types import Comparison, Interval
from forgetbench.behaviour.types import Behaviour, Group, SampledTask
from forgetbench.belief.recovery import as_dict, sentences_of
from forgetbench.belief.types import Divergence
from forgetbench.causes.types import CAUSES, WORDS, CauseCounts, Causes, Found
from forgetbench.drift.reading import left_out
from forgetbench.drift.types import Drift
from forgetbench.report.numbers import MINUS, UNKNOWN
from forgetbench.report.speed import amount, digits_for, signed
from forgetbench.report.words import Words

Context = dict[str, Any]

_SHOWN = 12
"""Examples of divergence that a page lists."""
_NAMED = 4
"""Tensors of one kind that a page names."""
_TOLD = 6
"""Measures that a terminal tells."""


def behaviour_context(comparison: Comparison, words: Words) -> Context | None:
    """What the page shows; None where nothing was looked at."""
    found = comparison.behaviour
    if found is None:
        return None
    return {
        "causes": _causes(found.causes) if found.causes is not None else None,
        "groups": [_group(g) for g in found.groups],
        "sampled": [_sampled(s) for s in found.sampled],
        "divergences": [_divergence(d, words) for d in found.divergences],
        "drift": _drift(found.drift) if found.drift is not None else None,
        "fit": list(found.fit.lines) if found.fit is not None else [],
        "spent": words.sentence(spending_line(found)),
        "notes": [words.sentence(line) for line in _notes(found)],
    }


def cause_word(cause: str) -> str:
    return next((told for known, told in WORDS.items() if known == cause), cause)


def told_of(found: Found) -> str:
    """The cause of one flip with its evidence, in one line."""
    s = found.stability
    fresh = (
        f"fresh answers right: {s.base.right} of {s.base.n} before, {s.candidate.right} of {s.candidate.n} after; "
        f"pass@{s.pass_k} {s.pass_base:.2f} before, {s.pass_candidate:.2f} after"
    )
    tries = [f"{t.name.replace('_', ' ')} {t.count.right} of {t.count.n}" for t in found.tries]
    asked = f"; asked otherwise: {', '.join(tries)}" if tries else ""
    firm = f"; says '{found.answer}' firmly" if found.overwritten and found.answer else ""
    return f"{cause_word(found.cause)}: {fresh}{asked}{firm}"


def _notes(found: Behaviour) -> list[str]:
    told = [*found.notes, *(found.causes.notes if found.causes else ())]
    told += [line for d in found.divergences for line in d.notes]
    told += found.fit.notes if found.fit is not None else ()
    return list(dict.fromkeys(told))


def spending_line(found: Behaviour) -> str:
    """What later rounds cost beside the comparison."""
    if found.spent is None:
        return ""
    s = found.spent
    return (
        f"Later rounds asked {s.requests:,} questions, {s.tokens:,} tokens: {100 * s.share:.0f} % of what the "
        "comparison itself took."
    )


def _causes(causes: Causes) -> Context:
    return {
        "tasks": [_counts(t) for t in causes.tasks if t.lost],
        "controls": [
            {
                "task": c.task,
                "view": c.view,
                "right": (c.right.right, c.right.n),
                "wrong": (c.wrong.right, c.wrong.n),
                "format": (c.format.right, c.format.n),
            }
            for c in causes.controls
        ],
        "legend": [(cause, cause_word(cause)) for cause in CAUSES if any(t.counts.get(cause) for t in causes.tasks)],
    }


def _counts(task: CauseCounts) -> Context:
    parts, start = [], 0.0
    for cause in CAUSES:
        n = task.counts.get(cause, 0)
        if n:
            share = n / max(1, task.looked_at)
            parts.append(
                {
                    "cause": cause,
                    "name": cause_word(cause),
                    "n": n,
                    "start": round(100 * start, 2),
                    "width": round(100 * share, 2),
                }
            )
            start += share
    return {
        "task": task.task,
        "view": task.view,
        "lost": task.lost,
        "gained": task.gained,
        "sentence": task.sentence,
        "overwritten": task.overwritten,
        "parts": parts,
    }


def value(measured: Measured, figure: float | None, *, sign: bool = False) -> str:
    """A figure in the measure's own unit: shares in per cent (differences in points)."""
    if figure is None:
        return UNKNOWN
    if measured.unit == "share":
        return signed(100 * figure, 1) if sign else amount(100 * figure, 1)
    digits = 3 if abs(figure) < 1.0 else digits_for(figure)
    return signed(figure, digits) if sign else amount(figure, digits)


def unit(measured: Measured) -> str:
    return "%" if measured.unit == "share" else measured.unit


def _span(measured: Measured, span: Interval | None) -> str:
    if span is None:
        return ""
    low, high = value(measured, span.low, sign=True), value(measured, span.high, sign=True)
    return f"{low} to {high}".replace("-", MINUS)


def row(measured: Measured) -> Context:
    return {
        "name": measured.name.replace("_", " ").replace("-", " "),
        "unit": unit(measured),
        "base": value(measured, measured.base),
        "candidate": value(measured, measured.candidate),
        "change": value(measured, measured.difference, sign=True) if measured.base is not None else "",
        "span": _span(measured, measured.delta),
        "proven": measured.base is not None and measured.proven,
        "reading": measured.reading,
        "note": measured.note,
        "examples": list(measured.examples[:3]),
    }


def _group(group: Group) -> Context:
    return {
        "title": group.title,
        "view": group.view,
        "about": group.about,
        "rows": [row(m) for m in group.measures],
    }


def _sampled(task: SampledTask) -> Context:
    return {
        "task": task.task,
        "view": task.view,
        "decode_id": task.decode_id,
        "n": task.n,
        "ks": list(task.curves.ks),
        "base": [(p.value, p.low, p.high) for p in task.curves.base],
        "candidate": [(p.value, p.low, p.high) for p in task.curves.candidate],
        "reading": task.reading,
        "rows": [row(m) for m in task.measures],
    }


def _divergence(found: Divergence, words: Words) -> Context:
    return {
        "view": found.view,
        "reading": words.sentence(found.reading),
        "classes": {str(name): n for name, n in found.classes.items()},
        "known": {str(name): n for name, n in found.known.items()},
        "parts": [
            {
                "kind": str(p.kind).replace("_", " ").replace("-", " "),
                "candidate": p.candidate,
                "base": p.base,
                "net": f"{signed(100 * p.net.value, 1)}",
                "span": f"{signed(100 * p.net.interval.low, 1)} to {signed(100 * p.net.interval.high, 1)}",
            }
            for p in found.parts
        ],
        "recovery": "" if found.recovery is None else " ".join(map(words.sentence, sentences_of(found.recovery))),
        "examples": [
            {
                "question": d.question[-200:],
                "belief": d.belief,
                "candidate": d.candidate,
                "gold": d.gold,
                "kind": str(d.kind).replace("_", " ").replace("-", " "),
                "held": str(d.held),
            }
            for d in found.diverged[:_SHOWN]
        ],
    }


def _drift(found: Drift) -> Context:
    return {"reading": list(found.reading), "notes": list(found.notes), "left_out": _left_out(found)}


def _left_out(found: Drift) -> list[str]:
    """The tensors that were not compared, the first of each kind by name."""
    why: dict[str, list[str]] = {}
    for one in found.skipped:
        why.setdefault(one.why, []).append(one.name)
    lines = [f"Not compared ({len(names):,}): {_first(names)}. Each {reason}." for reason, names in why.items()]
    for side, names in (("base", found.only_base), ("candidate", found.only_candidate)):
        if names:
            lines.append(f"Only in the {side} ({len(names):,}): {_first(names)}.")
    return lines


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _names_left_out(found: Drift) -> Context:
    """Every tensor that was not compared."""
    return {
        "skipped": [{"name": s.name, "why": s.why} for s in found.skipped],
        "only_base": list(found.only_base),
        "only_candidate": list(found.only_candidate),
    }


def _in_turn(kinds: Sequence[Sequence[tuple[Group, Measured]]]) -> list[tuple[Group, Measured]]:
    """The first of each kind, then the second of each, ...: one kind with many measures must not hide the others."""
    return [kind[i] for i in range(max(map(len, kinds), default=0)) for kind in kinds if i < len(kind)]


def told(found: Behaviour) -> list[str]:
    """Lines for a terminal: causes first, then what is proven and more than slight, the rest counted."""
    lines = [t.sentence for t in (found.causes.tasks if found.causes else ()) if t.lost]
    lines += [s.reading for s in found.sampled if s.curves.crossover.proven or s.expected is not None]
    lines += [f"{d.reading} ({d.view})" for d in found.divergences if d.reading]
    if found.drift is not None:
        d = found.drift
        lines += [*d.reading[:1], *left_out(len(d.skipped), len(d.only_base), len(d.only_candidate))]
    lines += found.fit.lines if found.fit is not None else ()
    measures = [(g, m) for g in found.groups for m in g.measures]
    proven = _in_turn([[(g, m) for m in g.measures if m.base is not None and m.proven] for g in found.groups])
    large = [(g, m) for g, m in proven if not m.slight]
    lines += [f"{m.reading} ({g.view})" for g, m in large[:_TOLD]]
    more, slight = len(large[_TOLD:]), len(proven) - len(large)
    if more or slight:
        clear = f"{more} more of {len(measures)} measures changed{f', {slight} slightly' if slight else ''}"
        lines.append(f"{clear if more else f'{slight} of {len(measures)} measures changed slightly'}: see the report")
    if found.spent is not None:
        lines.append(spending_line(found))
    return lines


def to_dict(comparisons: Sequence[Comparison]) -> list[Context]:
    """For --json: by comparison, figures as they are."""
    from dataclasses import asdict

    made = []
    for c in comparisons:
        if c.behaviour is None:
            continue
        b = c.behaviour
        made.append(
            {
                "base": c.base.alias,
                "candidate": c.candidate.alias,
                "causes": None
                if b.causes is None
                else [
                    {"task": t.task, "view": t.view, "lost": t.lost, "counts": dict(t.counts), "sentence": t.sentence}
                    for t in b.causes.tasks
                ],
                "measures": [{"group": g.title, "view": g.view, **asdict(m)} for g in b.groups for m in g.measures],
                "sampled": [
                    {
                        "task": s.task,
                        "view": s.view,
                        "decode_id": s.decode_id,
                        "reading": s.reading,
                        "pass_at_k": [
                            {"k": k, "base": x.value, "candidate": y.value}
                            for k, x, y in zip(s.curves.ks, s.curves.base, s.curves.candidate, strict=True)
                        ],
                    }
                    for s in b.sampled
                ],
                "divergence": [
                    {
                        "view": d.view,
                        "reading": d.reading,
                        "classes": {str(k): n for k, n in d.classes.items()},
                        "held": 0 if d.net is None else d.net.n,
                        "candidate_silent": d.candidate_silent,
                        "base_silent": d.base_silent,
                        "recovery": None if d.recovery is None else as_dict(d.recovery),
                    }
                    for d in b.divergences
                ],
                "drift": [] if b.drift is None else list(b.drift.reading),
                "drift_notes": [] if b.drift is None else list(b.drift.notes),
                "drift_left_out": None if b.drift is None else _names_left_out(b.drift),
                "fit": [] if b.fit is None else list(b.fit.lines),
                "spent": None if b.spent is None else asdict(b.spent),
                "notes": _notes(b),
            }
        )
    return made
