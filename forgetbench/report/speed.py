"""Speed and length of the generated answers as plain data: for the page, the terminal and --json.

Only scales, names and orders; lines and intervals are analysis'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from forgetbench.analysis.types import AnswerChange, Comparison, Interval, LengthChange, Speed, SpeedChange
from forgetbench.report.numbers import MINUS, UNKNOWN
from forgetbench.report.words import Words
from forgetbench.types import GREEDY

Context = dict[str, Any]

_SECOND = 1.0
"""From here on a time is told in seconds, below in milliseconds."""


def digits_for(value: float) -> int:
    """Decimals that leave three digits or so: 0.81, 8.13, 81.3, 813."""
    return 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0


def amount(value: float | None, digits: int | None = None) -> str:
    """A figure with a true minus; an en dash where it is not known."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{abs(value):,.{digits_for(value) if digits is None else digits}f}"
    return f"{MINUS}{text}" if value < 0 and text.strip("0.") else text


def signed(value: float | None, digits: int | None = None) -> str:
    """The same with a sign; a zero has none."""
    text = amount(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") and text != UNKNOWN else text


def unit_of(*seconds: float | None) -> tuple[str, float]:
    """(unit, factor) that suits all of these times, for a row to have one unit."""
    known = [s for s in seconds if s is not None and math.isfinite(s)]
    return ("s", 1.0) if max(known, default=1.0) >= _SECOND else ("ms", 1_000.0)


def _value(
    value: float | None, span: Interval | None, factor: float, digits: int, sign: bool = False
) -> Context | None:
    """A figure and its interval as text."""
    if value is None:
        return None
    told = signed if sign else amount
    known = span is not None and math.isfinite(span.low) and math.isfinite(span.high)
    return {
        "value": told(value * factor, digits),
        "low": told(span.low * factor, digits) if span is not None and known else "",
        "high": told(span.high * factor, digits) if span is not None and known else "",
    }


def _row(name: str, speed: SpeedChange) -> Context:
    """`first_token`, `per_token` or `measured_first_token` of both sides, and the difference of the first two,
    in one unit with as many decimals."""
    both = (speed.base, speed.candidate)
    sides = [getattr(s, name) if s else None for s in both]
    spans = [getattr(s, f"{name}_interval", None) if s else None for s in both]
    unit, factor = unit_of(*sides)
    digits = digits_for(max((s for s in sides if s is not None), default=0.0) * factor)
    change, span = getattr(speed, name, None), getattr(speed, f"{name}_interval", None)
    return {
        "unit": unit,
        "base": _value(sides[0], spans[0], factor, digits),
        "candidate": _value(sides[1], spans[1], factor, digits),
        "change": _value(change, span, factor, digits, sign=True),
    }


def _side(alias: str, speed: Speed | None, reason: str, words: Words) -> Context:
    if speed is None:
        return {"alias": alias, "n": None, "total": None, "spread": None, "reason": words.sentence(reason)}
    unit, factor = unit_of(speed.spread)
    spread = f"{amount(speed.spread * factor)} {unit}"
    return {"alias": alias, "n": speed.n, "total": speed.total, "spread": spread, "reason": ""}


def _length(change: LengthChange) -> Context:
    base, candidate = change.base, change.candidate
    return {
        "group": change.group,
        "kind": change.kind,
        "view": change.view,
        "decode_id": "" if change.decode_id == GREEDY else change.decode_id,
        "n": change.n,
        "median": (tokens(base.median), tokens(candidate.median)),
        "mean": (amount(base.mean, 1), amount(candidate.mean, 1)),
        "p90": (tokens(base.p90), tokens(candidate.p90)),
        "limit": (base.at_limit, candidate.at_limit),
        "sort": (candidate.median, candidate.mean, candidate.p90),
        "delta": change.delta,
        "change": _value(change.delta, change.interval, 1.0, 1, sign=True),
    }


def tokens(value: float) -> str:
    """Tokens are whole; a quantile that lies between two of few has one decimal."""
    return amount(value, 0 if value == round(value) or value >= 99.95 else 1)


def speed_and_length(found: Comparison, words: Words) -> Context | None:
    """What the page's section shows; None where no answer is a text."""
    answers = found.answers
    if answers is None:
        return None
    speed = answers.speed
    timed = speed.base is not None or speed.candidate is not None
    measured = any(s is not None and s.measured_first_token is not None for s in (speed.base, speed.candidate))
    pooled = {(c.view, c.decode_id) for c in answers.lengths if c.kind == "all"}
    below = [c for c in answers.lengths if c.kind != "all" and (c.view, c.decode_id) in pooled]
    return {
        "lengths": [_length(c) for c in answers.lengths if c not in below],
        "by_task": [_length(c) for c in below],
        "other_tokenizer": answers.other_tokenizer,
        "timed": timed,
        "not_comparable": words.sentence(speed.not_comparable) if timed else "",
        "first_token": _row("first_token", speed),
        "per_token": _row("per_token", speed),
        "measured": _row("measured_first_token", speed) if measured else None,
        "sides": [
            _side(found.base.alias, speed.base, speed.base_reason, words),
            _side(found.candidate.alias, speed.candidate, speed.candidate_reason, words),
        ],
        "points": [s.points if s else () for s in (speed.base, speed.candidate)],
        "lines": [(s.first_token, s.per_token) if s else None for s in (speed.base, speed.candidate)],
    }


def length_line(answers: AnswerChange, view: str, decode_id: str) -> str:
    """`answers: 143 → 61 tokens (median), −70.1 on average (−80.2 to −60.3)`; empty where there are none."""
    found = [c for c in answers.lengths if (c.view, c.decode_id) == (view, decode_id)]
    if not found:
        return ""
    c = found[0]  # all tasks together, or the only one
    change = _value(c.delta, c.interval, 1.0, 1, sign=True) or {}
    span = f" ({change['low']} to {change['high']})" if change["low"] else ""
    medians = f"{tokens(c.base.median)} → {tokens(c.candidate.median)}"
    return f"answers: {medians} tokens (median), {change['value']} on average{span}"


def speed_line(speed: SpeedChange) -> str:
    """`speed: first token 0.12 → 0.12 s, 8.10 → 8.30 ms a further token`; empty where nothing was timed."""
    if speed.base is None and speed.candidate is None:
        return ""
    told = []
    for name, what in (("first_token", "first token {}"), ("per_token", "{} a further token")):
        row = _row(name, speed)
        sides = [side["value"] if side else UNKNOWN for side in (row["base"], row["candidate"])]
        told.append(what.format(f"{sides[0]} → {sides[1]} {row['unit']}"))
    apart = f"; not comparable: {speed.not_comparable}" if speed.not_comparable else ""
    return f"speed: {', '.join(told)}{apart}"


def answers_to_dict(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """For --json: times in seconds, lengths in tokens, differences candidate minus base; null: not known."""
    made = []
    for c in comparisons:
        if c.answers is not None:
            plain = asdict(c.answers)
            for side in ("base", "candidate"):
                (plain["speed"][side] or {}).pop("points", None)
            made.append({"base": c.base.alias, "candidate": c.candidate.alias, **_finite(plain)})
    return made


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
