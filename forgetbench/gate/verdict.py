"""Three states, in this order (notes on metrics, 'The gate'): PASS, else FAIL, else INCONCLUSIVE.

1. PASS: the one-sided lower bound of the change is above -margin on *every* required rule. That is an
   intersection-union test: each rule at its own alpha, no correction.
2. else FAIL: Holm over the required rules rejects H0: mean change >= -margin/2 on any of them.
3. else INCONCLUSIVE: never a silent pass. Where an undecided rule says `on_inconclusive: fail`, it is a FAIL.

A rule whose evidence is unfit (nothing paired, too few items, too many truncated or unreadable answers, too many
infra errors, no such run to compare with) can neither pass nor block. It stays in Holm's family, which is then the
stricter for it. Bounds and p values come from the same estimators as the comparison's intervals.

A waiver (`waivers.py`) lets a rule through that does not pass, as long as a loss beyond its max_drop is excluded; the
rule keeps its state and its place in Holm's family. Alarms (`alarms.py`) are told and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from forgetbench.analysis.betting import BettingEstimator
from forgetbench.analysis.paired import DRAWS, interval
from forgetbench.analysis.power import minimum_detectable_drop
from forgetbench.analysis.significance import holm
from forgetbench.analysis.types import Comparison
from forgetbench.errors import Exit
from forgetbench.gate.alarms import ring
from forgetbench.gate.evidence import Estimate, Evidence, gather
from forgetbench.gate.resolve import Look
from forgetbench.gate.sentences import decides, lost, notes, passed, rule_reason, some
from forgetbench.gate.types import Against, Policy, Rule, RuleResult, State, Verdict, Waiver, WaiverUse
from forgetbench.gate.waivers import apply_waivers

_EXIT: dict[State, Exit] = {
    "PASS": Exit.PASS,
    "FAIL": Exit.REGRESSION,
    "INCONCLUSIVE": Exit.INCONCLUSIVE,
}


LENIENT = "undecided; the policy lets this advisory rule pass with a notice"


def decide(
    comparisons: Mapping[Against, Comparison],
    policy: Policy,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    waivers: Sequence[Waiver] = (),
    today: str | None = None,
    estimate: Estimate | None = None,
    look: Look | None = None,
) -> Verdict:
    """The verdict on one candidate.

    comparisons: the candidate against the base, a locked release, the previous checkpoint, as far as there
    are. today: the day that waivers are held against (YYYY-MM-DD); None: the present one, UTC. estimate: of a
    sequential decision (`sequential.estimates`). look: one of several at the same rules (`--resolve`).
    """
    policy = policy if look is None else _at_look(policy, look)
    evidence = [gather(rule, comparisons, draws=draws, seed=seed, estimate=estimate) for rule in policy.rules]
    deciding = [i for i, rule in enumerate(policy.rules) if decides(rule)]
    p_values = [_p_fail(rule, e) for rule, e in zip(policy.rules, evidence, strict=True)]
    spent = [_over_looks(p, policy.rules[i], policy.alpha, look) for i, p in enumerate(p_values)]
    corrected = holm([1.0 if (p := spent[i]) is None else p for i in deciding])
    adjusted = dict(zip(deciding, corrected, strict=True))
    results = [
        _result(rule, evidence[i], p_values[i], adjusted.get(i), policy.alpha) for i, rule in enumerate(policy.rules)
    ]
    if look is not None:
        results = [look.settled.get(r.rule.name, r) for r in results]
    results, uses = apply_waivers(results, waivers, today)
    state, reason = _state([results[i] for i in deciding], policy.alpha, uses)
    alarms = tuple(ring(alarm, comparisons, draws=draws, seed=seed) for alarm in policy.alarms)
    base, candidate = _sides(comparisons)
    return Verdict(
        state=state,
        exit_code=_EXIT[state],
        reason=reason,
        base=base,
        candidate=candidate,
        policy=policy,
        rules=tuple(results),
        notes=(
            *(use.line for use in uses),
            *policy.not_in_force,
            *(alarm.line for alarm in alarms),
            *notes(results, comparisons),
        ),
        waivers=uses,
        alarms=alarms,
    )


def _at_look(policy: Policy, look: Look) -> Policy:
    """Each rule at the level that it has left at this look."""
    rules = tuple(replace(rule, alpha=look.levels.get(rule.name, rule.alpha)) for rule in policy.rules)
    return replace(policy, rules=rules)


def _over_looks(p: float | None, rule: Rule, alpha: float, look: Look | None) -> float | None:
    """The p value on the scale of the whole alpha: at most alpha where it is at most the level of this look."""
    if p is None or look is None or rule.name not in look.fail_levels:
        return p
    return min(1.0, p * alpha / max(look.fail_levels[rule.name], 1e-300))


def _state(required: Sequence[RuleResult], alpha: float, uses: Sequence[WaiverUse]) -> tuple[State, str]:
    if not required:
        return "INCONCLUSIVE", "inconclusive: the policy requires nothing, so nothing could be decided"
    if all(r.state == "PASS" or r.waived is not None for r in required):
        if all(r.rule.against == "previous" for r in required):
            # A margin lost at every step adds up without any step being blocked.
            return "INCONCLUSIVE", (
                "inconclusive: every required rule is against the previous checkpoint; "
                "a pass needs one against the base or a locked release"
            )
        return "PASS", passed(required)
    told = [f"{use.line}" for use in uses if use.state == "expired"]
    blocking = rejected(required, alpha)
    if blocking:
        return "FAIL", f"blocked: {some([*(lost(r) for r in blocking), *told])}"
    open_rules = [r for r in required if r.state != "PASS" and r.waived is None]
    strict = [r for r in open_rules if r.rule.on_inconclusive == "fail"]
    if strict:
        return "FAIL", f"blocked: undecided, which the policy counts as a failure: {some([r.reason for r in strict])}"
    return "INCONCLUSIVE", f"inconclusive: {some([r.reason for r in open_rules])}"


def rejected(required: Sequence[RuleResult], alpha: float) -> list[RuleResult]:
    """Unwaived rules with a loss proven beyond half of their margin, the worst first.

    Not by state: once one rule does not pass, a proven loss blocks that alone would have passed.
    """
    found = [r for r in required if r.waived is None and r.p_fail is not None and (r.p_fail_holm or 0.0) <= alpha]
    return sorted(found, key=lambda r: (r.delta or 0.0) + r.rule.margin)


def _p_fail(rule: Rule, evidence: Evidence) -> float | None:
    if evidence.fit is None or evidence.unfit:
        return None
    return evidence.fit.p_at_least(-rule.margin / 2.0)


def _result(rule: Rule, evidence: Evidence, p_fail: float | None, p_holm: float | None, alpha: float) -> RuleResult:
    fit = evidence.fit
    if fit is None:
        nothing = RuleResult(
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
            fit=False,
        )
        return _lenient(nothing)
    total = fit.total if isinstance(fit, BettingEstimator) else None
    lower = fit.lower(rule.alpha)
    p_decisive = p_holm if decides(rule) else p_fail
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
        base=evidence.base,
        candidate=evidence.candidate,
        delta=fit.delta,
        interval=interval(fit),
        lower=lower,
        p_fail=p_fail,
        p_fail_holm=p_holm,
        # Of a number of items that was not planned there is none.
        minimum_detectable_drop=None
        if total is not None
        else minimum_detectable_drop(fit.n, fit.unit_variance + fit.delta**2, alpha=rule.alpha),
        reason="",
        fit=not evidence.unfit,
        total=total,
    )
    notice = ""
    if state == "PASS" and fit.upper(rule.alpha) < 0.0:
        notice = f"a drop is proven, inside the margin: {lost(result)}"
    return _lenient(replace(result, reason=rule_reason(result, evidence.unfit), notice=notice))


def _lenient(result: RuleResult) -> RuleResult:
    """An undecided advisory rule of which the policy says that it passes with a notice."""
    rule = result.rule
    if result.state != "INCONCLUSIVE" or rule.on_inconclusive != "pass-with-notice" or decides(rule):
        return result
    return replace(result, state="PASS", notice=LENIENT)


def _sides(comparisons: Mapping[Against, Comparison]) -> tuple[str, str]:
    order: tuple[Against, ...] = ("base", "locked", "previous")
    for against in order:
        if against in comparisons:
            return comparisons[against].base.alias, comparisons[against].candidate.alias
    return "", ""
