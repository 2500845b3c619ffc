"""Three states, in this order (notes on metrics, 'The gate'): PASS, else FAIL, else INCONCLUSIVE.

1. PASS: the one-sided lower bound of the change is above -margin on *every* required rule. That is an
   intersection-union test: each rule at its own alpha, no correction.
2. else FAIL: Holm over the required rules rejects H0: mean change >= -margin/2 on any of them.
3. else INCONCLUSIVE: never a silent pass.

A rule whose evidence is unfit (nothing paired, too few items, too much truncation, too many infra errors, no
such run to compare with) can neither pass nor block. It stays in Holm's family, which is then the stricter
for it. Bounds and p values come from the same estimator as the comparison's intervals (`analysis/paired.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from forgetbench.analysis.compare import fit_scores, rates_of, scored
from forgetbench.analysis.groups import in_task_type, pool
from forgetbench.analysis.paired import DRAWS, Estimator, interval
from forgetbench.analysis.power import minimum_detectable_drop
from forgetbench.analysis.significance import holm
from forgetbench.analysis.types import Comparison, PairedScores
from forgetbench.errors import Exit
from forgetbench.gate.types import Against, Policy, Rule, RuleResult, State, Verdict
from forgetbench.types import GREEDY

_EXIT: dict[State, Exit] = {
    "PASS": Exit.PASS,
    "FAIL": Exit.REGRESSION,
    "INCONCLUSIVE": Exit.INCONCLUSIVE,
}
_NAMED = 3
"""Rules named in the verdict's sentence; the rest are counted."""


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """What a rule has to go on. `unfit` says why it cannot decide."""

    scores: PairedScores | None
    fit: Estimator | None
    unfit: str = ""


def decide(comparisons: Mapping[Against, Comparison], policy: Policy, *, draws: int = DRAWS, seed: int = 0) -> Verdict:
    """The verdict on one candidate.

    comparisons: the candidate against the base, a locked release, the previous checkpoint, as far as there
    are.
    """
    evidence = [_gather(rule, comparisons, draws, seed) for rule in policy.rules]
    deciding = [i for i, rule in enumerate(policy.rules) if _decides(rule)]
    p_values = [_p_fail(rule, e) for rule, e in zip(policy.rules, evidence, strict=True)]
    corrected = holm([1.0 if (p := p_values[i]) is None else p for i in deciding])
    adjusted = dict(zip(deciding, corrected, strict=True))
    results = tuple(
        _result(rule, evidence[i], p_values[i], adjusted.get(i), policy.alpha) for i, rule in enumerate(policy.rules)
    )
    required = [results[i] for i in deciding]
    rejected = [r for r in required if r.p_fail is not None and (r.p_fail_holm or 0.0) <= policy.alpha]
    state, reason = _state(required, rejected)
    base, candidate = _sides(comparisons)
    return Verdict(
        state=state,
        exit_code=_EXIT[state],
        reason=reason,
        base=base,
        candidate=candidate,
        policy=policy,
        rules=results,
        notes=(*policy.not_in_force, *_notes(results, comparisons)),
    )


def _decides(rule: Rule) -> bool:
    return rule.required and rule.view != "as_used"


def _state(required: Sequence[RuleResult], rejected: Sequence[RuleResult]) -> tuple[State, str]:
    if not required:
        return "INCONCLUSIVE", "inconclusive: the policy requires nothing, so nothing could be decided"
    if all(r.state == "PASS" for r in required):
        if all(r.rule.against == "previous" for r in required):
            # A margin lost at every step adds up without any step being blocked.
            return "INCONCLUSIVE", (
                "inconclusive: every required rule is against the previous checkpoint; "
                "a pass needs one against the base or a locked release"
            )
        return "PASS", _passed(required)
    if rejected:
        worst = sorted(rejected, key=lambda r: (r.delta or 0.0) + r.rule.margin)
        return "FAIL", f"blocked: {_some([_lost(r) for r in worst])}"
    open_rules = [r for r in required if r.state != "PASS"]
    return "INCONCLUSIVE", f"inconclusive: {_some([r.reason for r in open_rules])}"


def _gather(rule: Rule, comparisons: Mapping[Against, Comparison], draws: int, seed: int) -> _Evidence:
    comparison = comparisons.get(rule.against)
    if comparison is None:
        return _Evidence(None, None, f"there is no comparison against {_against(rule.against)}")
    scores, problem = _select(rule, comparison.scores)
    if scores is None:
        return _Evidence(None, None, problem)
    fit = fit_scores(scores, draws=draws, seed=seed)
    if fit is None:
        return _Evidence(scores, None, "every pair has an infra_error")
    return _Evidence(scores, fit, _unfit(rule, scores, fit))


def _select(rule: Rule, scores: Sequence[PairedScores]) -> tuple[PairedScores | None, str]:
    """The items that a rule is about, or why there are none."""
    wanted = (rule.task,) if rule.task else rule.tasks
    parts = [s for s in scores if s.view == rule.view and (s.task in wanted if wanted else True)]
    parts = [s for s in parts if (s.metric == rule.metric if rule.metric else s.primary)]
    if rule.task_type:
        parts = [p for s in parts if (p := in_task_type(s, rule.task_type)) is not None]
    decodings = sorted({p.decode_id for p in parts})
    if len(decodings) > 1:
        if GREEDY not in decodings:
            return None, f"several decodings ({', '.join(decodings)}): it is unclear which one decides"
        parts = [p for p in parts if p.decode_id == GREEDY]
    missing = [t for t in wanted if t not in {p.task for p in parts}]
    if missing or not parts:
        what = ", ".join(missing) or rule.task_type or "the rule"
        metric = f" with the metric '{rule.metric}'" if rule.metric else ""
        return None, f"no paired items of {what} in the {rule.view} view{metric}"
    return pool(parts), ""


def _unfit(rule: Rule, scores: PairedScores, fit: Estimator) -> str:
    if fit.n < rule.min_n:
        return f"{fit.n} paired items where the policy wants {rule.min_n}"
    for side, outcomes in (("base", scores.base_outcomes), ("candidate", scores.candidate_outcomes)):
        who = side if side == "candidate" else _against(rule.against)
        rates = rates_of(outcomes)
        if rates.infra_error > rule.max_infra:
            return f"{_percent(rates.infra_error)} infra errors in {who} (limit {_percent(rule.max_infra)})"
        if rates.truncated > rule.max_truncated:
            limit = _percent(rule.max_truncated)
            return f"{_percent(rates.truncated)} of the answers of {who} are truncated (limit {limit})"
    return ""


def _p_fail(rule: Rule, evidence: _Evidence) -> float | None:
    if evidence.fit is None or evidence.unfit:
        return None
    return evidence.fit.p_at_least(-rule.margin / 2.0)


def _result(rule: Rule, evidence: _Evidence, p_fail: float | None, p_holm: float | None, alpha: float) -> RuleResult:
    fit, scores = evidence.fit, evidence.scores
    if fit is None or scores is None:
        return RuleResult(
            rule=rule,
            state="INCONCLUSIVE",
            n=0,
            base=None,
            candidate=None,
            delta=None,
            interval=None,
            lower=None,
            p_fail=None,
            p_fail_holm=p_holm,
            minimum_detectable_drop=None,
            reason=f"{rule.name}: {evidence.unfit}",
        )
    mask = scored(scores)
    lower = fit.lower(rule.alpha)
    p_decisive = p_holm if _decides(rule) else p_fail
    state: State = "INCONCLUSIVE"
    if not evidence.unfit:
        if lower > -rule.margin:
            state = "PASS"
        elif p_decisive is not None and p_decisive <= alpha:
            state = "FAIL"
    result = RuleResult(
        rule=rule,
        state=state,
        n=fit.n,
        base=float(scores.base[mask].mean()),
        candidate=float(scores.candidate[mask].mean()),
        delta=fit.delta,
        interval=interval(fit),
        lower=lower,
        p_fail=p_fail,
        p_fail_holm=p_holm,
        minimum_detectable_drop=minimum_detectable_drop(fit.n, fit.unit_variance + fit.delta**2, alpha=rule.alpha),
        reason="",
    )
    notice = ""
    if state == "PASS" and fit.upper(rule.alpha) < 0.0:
        notice = f"a drop is proven, inside the margin: {_lost(result)}"
    return replace(result, reason=_reason(result, evidence.unfit), notice=notice)


def _reason(result: RuleResult, unfit: str) -> str:
    if unfit:
        return f"{result.rule.name}: {unfit}"
    margin, lower = _points(result.rule.margin), 100.0 * (result.lower or 0.0)
    if result.state == "FAIL":
        return _lost(result)
    if result.state == "PASS":
        return f"{_moved(result)}: a loss of {margin} points is excluded (lower bound {lower:+.1f})"
    seen = _points(result.minimum_detectable_drop or 0.0)
    return (
        f"{_moved(result)}: a loss of {margin} points is not excluded (lower bound {lower:+.1f}), "
        f"nor is one beyond half of it proven; {result.n} items can prove a drop of {seen}"
    )


def _moved(result: RuleResult) -> str:
    change = 100.0 * (result.delta or 0.0)
    return f"{result.rule.name} changed by {change:+.1f} points ({_figures(result)})"


def _lost(result: RuleResult) -> str:
    loss = -100.0 * (result.delta or 0.0)
    margin = _points(result.rule.margin)
    return f"{result.rule.name} lost {loss:.1f} points ({_figures(result)}, margin {margin})"


def _figures(result: RuleResult) -> str:
    base, candidate = 100.0 * (result.base or 0.0), 100.0 * (result.candidate or 0.0)
    against = "" if result.rule.against == "base" else f", against {_against(result.rule.against)}"
    return f"{base:.1f} to {candidate:.1f}, n={result.n}{against}"


def _passed(required: Sequence[RuleResult]) -> str:
    closest = min(required, key=lambda r: (r.lower or 0.0) + r.rule.margin)
    rules = "the required rule excludes" if len(required) == 1 else f"all {len(required)} required rules exclude"
    room = f"{100.0 * (closest.lower or 0.0):+.1f} points, margin {_points(closest.rule.margin)}"
    return f"passed: {rules} a loss beyond the margin; closest: {closest.rule.name} (lower bound {room})"


def _some(sentences: Sequence[str]) -> str:
    shown = "; ".join(sentences[:_NAMED])
    return shown if len(sentences) <= _NAMED else f"{shown}; and {len(sentences) - _NAMED} more"


def _notes(results: Sequence[RuleResult], comparisons: Mapping[Against, Comparison]) -> list[str]:
    notes = [f"{r.rule.name}: {r.notice}" for r in results if r.notice]
    for r in results:
        if not _decides(r.rule) and r.state == "FAIL":
            notes.append(f"advisory, not decisive: {r.reason}")
    for against, comparison in comparisons.items():
        prefix = "" if against == "base" else f"against {_against(against)}: "
        notes += [f"{prefix}{line}" for line in comparison.notes]
    return notes


def _sides(comparisons: Mapping[Against, Comparison]) -> tuple[str, str]:
    order: tuple[Against, ...] = ("base", "locked", "previous")
    for against in order:
        if against in comparisons:
            return comparisons[against].base.alias, comparisons[against].candidate.alias
    return "", ""


def _against(against: Against) -> str:
    names: dict[Against, str] = {
        "base": "the base",
        "locked": "the locked release",
        "previous": "the previous checkpoint",
    }
    return names[against]


def _points(fraction: float) -> str:
    """A share in points, without a needless '.0'."""
    return f"{round(100.0 * fraction, 1):g}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"
