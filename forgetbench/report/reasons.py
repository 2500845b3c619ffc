"""Why a rule and a verdict came out as they did, in the report's language.

English is the gate's own sentence, unchanged. Any other language is made anew from the figures of the
`RuleResult`, since a sentence taken apart and translated by its words would sooner or later say something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from forgetbench.gate.types import Rule, RuleResult, Verdict
from forgetbench.gate.verdict import LENIENT, rejected
from forgetbench.report import numbers
from forgetbench.report.words import ENGLISH, Words

_NAMED = 3
"""Rules named in the verdict's sentence; the rest are counted. As in the gate."""


def reason_sentence(verdict: Verdict, words: Words | None = None) -> str:
    """The verdict's reason without the state it opens with, which stands above it in larger type."""
    if words is not None and words.lang != ENGLISH:
        return _verdict(verdict, words)
    text = re.sub(r"^(passed|blocked|inconclusive): ", "", verdict.reason)
    return text[:1].upper() + text[1:] if text != verdict.reason else text


def rule_reason(result: RuleResult, words: Words) -> str:
    """One sentence with the figures."""
    if words.lang == ENGLISH:
        return result.reason
    if not result.fit or result.p_fail is None:  # the evidence was unfit: the gate says why, and no figure decides
        return _unfit(result, words)
    margin = numbers.plain_points(result.rule.margin)
    if result.state == "FAIL":
        return _lost(result, words)
    moved = words(
        "{rule} changed by {change} points ({figures})",
        rule=result.rule.name,
        change=numbers.points(result.delta),
        figures=_figures(result, words),
    )
    lower = numbers.points(result.lower)
    if result.state == "PASS" and result.notice != LENIENT:
        told = words("a loss of {margin} points is excluded (lower bound {lower})", margin=margin, lower=lower)
    elif result.total is not None:
        told = words(
            "neither is a loss of {margin} points excluded (lower bound {lower}) nor one beyond half of it proven",
            margin=margin,
            lower=lower,
        )
    else:
        told = words(
            "a loss of {margin} points is not excluded (lower bound {lower}), nor is one beyond half of it proven; "
            "{n} items can prove a drop of {seen}",
            margin=margin,
            lower=lower,
            n=numbers.count(result.n),
            seen=numbers.plain_points(result.minimum_detectable_drop),
        )
    return f"{moved}{words(': ')}{told}"


def rule_notice(result: RuleResult, words: Words) -> str:
    if words.lang == ENGLISH or not result.notice:
        return result.notice
    if result.notice == LENIENT:
        return words("undecided; the policy lets this advisory rule pass with a notice")
    return f"{words('a drop is proven, inside the margin')}{words(': ')}{_lost(result, words)}"


def note(text: str, verdict: Verdict | None, words: Words) -> str:
    """A note of a verdict or a comparison."""
    if words.lang == ENGLISH:
        return text
    for result in verdict.rules if verdict else ():
        if text == f"advisory, not decisive: {result.reason}":
            return words("advisory, not decisive: {reason}", reason=rule_reason(result, words))
    return words.sentence(text)


def _unfit(result: RuleResult, words: Words) -> str:
    why = result.reason.removeprefix(f"{result.rule.name}: ")
    return f"{result.rule.name}{words(': ')}{words.sentence(why)}"


def _lost(result: RuleResult, words: Words) -> str:
    return words(
        "{rule} lost {loss} points ({figures}, margin {margin})",
        rule=result.rule.name,
        loss=numbers.plain_points(-(result.delta or 0.0)),
        figures=_figures(result, words),
        margin=numbers.plain_points(result.rule.margin),
    )


def _figures(result: RuleResult, words: Words) -> str:
    figures = {
        "base": numbers.score(result.base),
        "candidate": numbers.score(result.candidate),
        "n": numbers.count(result.n),
    }
    if result.total is None:
        told = words("{base} to {candidate}, n={n}", **figures)
    else:
        total = numbers.count(result.total)
        told = words("{base} to {candidate}, n={n} of {total}, decided in sequence", **figures, total=total)
    if result.rule.against != "base":
        told += words(", ") + words(f"against {result.rule.against}")
    return told


def _verdict(verdict: Verdict, words: Words) -> str:
    required = [r for r in verdict.rules if _decides(r.rule)]
    if not required:
        return words("The policy requires nothing, so nothing could be decided")
    if verdict.state == "FAIL":
        blocking = rejected(required, verdict.policy.alpha)
        if blocking:
            return _some([_lost(r, words) for r in blocking], words)
        strict = [r for r in required if r.state != "PASS" and r.waived is None and r.rule.on_inconclusive == "fail"]
        told = words("Undecided, which the policy counts as a failure")
        return f"{told}{words(': ')}{_some([rule_reason(r, words) for r in strict], words)}"
    if verdict.state == "PASS":
        return _passed(required, words)
    undecided = [r for r in required if r.state != "PASS" and r.waived is None]
    if not undecided:
        return words(
            "Every required rule is against the previous checkpoint; a pass needs one against the base or a "
            "locked release"
        )
    return _some([rule_reason(r, words) for r in undecided], words)


def _passed(required: Sequence[RuleResult], words: Words) -> str:
    waived = [r.rule.name for r in required if r.waived is not None]
    free = [r for r in required if r.waived is None]
    if not free:
        return words("Every required rule is waived ({rules})", rules=words(", ").join(waived))
    closest = min(free, key=lambda r: (r.lower or 0.0) + r.rule.margin)
    who = (
        words("The required rule excludes a loss beyond the margin")
        if len(required) == 1
        else words("All {n} required rules exclude a loss beyond the margin", n=len(free))
        if not waived
        else words("{n} required rules exclude a loss beyond the margin", n=len(free))
    )
    told = words("; waived: {rules}", rules=words(", ").join(waived)) if waived else ""
    return (
        who
        + words(
            "; closest: {rule} (lower bound {lower} points, margin {margin})",
            rule=closest.rule.name,
            lower=numbers.points(closest.lower),
            margin=numbers.plain_points(closest.rule.margin),
        )
        + told
    )


def _some(sentences: Sequence[str], words: Words) -> str:
    shown = words("; ").join(sentences[:_NAMED])
    more = len(sentences) - _NAMED
    return shown if more <= 0 else shown + words("; ") + words("and {n} more", n=more)


def _decides(rule: Rule) -> bool:
    return rule.required and rule.view != "as_used"
