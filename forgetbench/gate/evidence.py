"""What a rule has to go on: the items that it is about, the estimator of their change, and why it may be unfit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forgetbench.analysis.compare import rates_of, scored
from forgetbench.analysis.groups import pool
from forgetbench.analysis.paired import Estimator, estimator
from forgetbench.analysis.types import Comparison, PairedScores
from forgetbench.analysis.weighted import Term, WeightedEstimator
from forgetbench.gate.policy_match import as_rules, estimand_name, in_type, is_estimand, wanted_tasks
from forgetbench.gate.sentences import against_name, percent
from forgetbench.gate.types import Against, Rule
from forgetbench.types import GREEDY


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """`fit` is None where there is nothing to estimate; `unfit` says why it cannot decide."""

    fit: Estimator | None
    base: float | None = None
    """Mean score of the base over the items that have one on both sides; of a weighted score its weighted mean."""
    candidate: float | None = None
    unfit: str = ""


Estimate = Callable[[Rule, PairedScores], tuple[PairedScores, Estimator]]
"""What a rule has used of its items, and the estimator made of them."""


def gather(
    rule: Rule,
    comparisons: Mapping[Against, Comparison],
    *,
    draws: int,
    seed: int,
    estimate: Estimate | None = None,
) -> Evidence:
    """The evidence of one rule. estimate: what takes the place of the estimators at a fixed n (gate/sequential.py);
    for rules that are no weighted score."""
    comparison = comparisons.get(rule.against)
    if comparison is None:
        return Evidence(None, unfit=f"there is no comparison against {against_name(rule.against)}")
    if not rule.parts:
        return _of_scores(rule, comparison.scores, draws, seed, estimate)[0]
    found = [_of_scores(part, comparison.scores, draws, seed) for part in as_rules(rule)]
    weights = [part.weight for part in rule.parts]
    unfit = next((e.unfit for e, _ in found if e.unfit), "")
    terms = []
    for weight, (e, scores) in zip(weights, found, strict=True):
        if e.fit is None or scores is None:
            return Evidence(None, unfit=e.unfit)
        mask = scored(scores)
        terms.append(Term(weight, e.fit, (scores.candidate - scores.base)[mask], scores.clusters[mask]))
    return Evidence(
        WeightedEstimator(terms),
        sum(w * (e.base or 0.0) for w, (e, _) in zip(weights, found, strict=True)),
        sum(w * (e.candidate or 0.0) for w, (e, _) in zip(weights, found, strict=True)),
        unfit,
    )


def _of_scores(
    rule: Rule, scores: Sequence[PairedScores], draws: int, seed: int, estimate: Estimate | None = None
) -> tuple[Evidence, PairedScores | None]:
    chosen, problem = select(rule, scores)
    if chosen is None:
        return Evidence(None, unfit=problem), None
    mask = scored(chosen)
    if not mask.any():
        return Evidence(None, unfit="every pair has an infra_error"), chosen
    if estimate is not None:
        used, anytime = estimate(rule, chosen)
        unfit = _unfit(rule, chosen, anytime)  # of all that was asked: it may mend what a few answers spoilt
        return Evidence(anytime, float(used.base.mean()), float(used.candidate.mean()), unfit), chosen
    independent = np.unique(chosen.clusters[mask]).size == int(mask.sum())
    fit = estimator(
        chosen.base[mask],
        chosen.candidate[mask],
        chosen.clusters[mask],
        single=chosen.single and rule.test != "bootstrap",
        draws=draws,
        seed=seed,
    )
    unfit = _unfit(rule, chosen, fit)
    if not unfit and rule.test == "tango" and not (chosen.single and independent):
        unfit = "the test tango is for one 0/1 sample of independent items, and these are not; use auto or bootstrap"
    values = np.concatenate([chosen.base[mask], chosen.candidate[mask]])
    if values.min() < 0.0 or values.max() > 1.0:
        # One side in per cent would look like a gain of thousands of points and pass anything.
        found = f"scores from {values.min():g} to {values.max():g}, where a margin in points needs 0 to 1"
        return Evidence(None, unfit=found), chosen
    base, candidate = float(chosen.base[mask].mean()), float(chosen.candidate[mask].mean())
    return Evidence(fit, base, candidate, unfit), chosen


def select(rule: Rule, scores: Sequence[PairedScores]) -> tuple[PairedScores | None, str]:
    """The items that a rule is about, or why there are none."""
    wanted = wanted_tasks(rule)
    parts = [s for s in scores if s.view == rule.view and (s.task in wanted if wanted else True)]
    parts = [s for s in parts if (s.metric == rule.metric if rule.metric else s.primary)]
    if rule.task_type:
        parts = [p for s in parts if (p := _in_task_type(s, rule.task_type)) is not None]
    found = bool(parts)
    parts = [p for p in parts if is_estimand(rule, p.decode_id)]
    decodings = sorted({p.decode_id for p in parts})
    if len(decodings) > 1:
        if GREEDY not in decodings:
            return None, f"several decodings ({', '.join(decodings)}): it is unclear which one decides"
        parts = [p for p in parts if p.decode_id == GREEDY]
    missing = [t for t in wanted if t not in {p.task for p in parts}]
    if missing or not parts:
        what = ", ".join(missing) or rule.task_type or "the rule"
        metric = f" with the metric '{rule.metric}'" if rule.metric else ""
        answers = f" and {estimand_name(rule)}" if found and rule.estimand != "auto" else ""
        return None, f"no paired items of {what} in the {rule.view} view{metric}{answers}"
    return pool(parts), ""


def _in_task_type(scores: PairedScores, pattern: str) -> PairedScores | None:
    known = {path: in_type(path, pattern) for path in {str(t) for t in scores.task_types}}
    mask = np.asarray([known[str(t)] for t in scores.task_types], dtype=np.bool_)
    return scores.pick(mask) if mask.any() else None


def _unfit(rule: Rule, scores: PairedScores, fit: Estimator) -> str:
    if fit.n < rule.min_n:
        return f"{fit.n} paired items where the policy wants {rule.min_n}"
    for side, outcomes in (("base", scores.base_outcomes), ("candidate", scores.candidate_outcomes)):
        who = side if side == "candidate" else against_name(rule.against)
        rates = rates_of(outcomes)
        if rates.infra_error > rule.max_infra:
            return f"{percent(rates.infra_error)} infra errors in {who} (limit {percent(rule.max_infra)})"
        for what, share, limit in (
            ("are truncated", rates.truncated, rule.max_truncated),
            ("could not be read", rates.unparsed, rule.max_unparsed),
        ):
            if limit is not None and share > limit:
                return f"{percent(share)} of the answers of {who} {what} (limit {percent(limit)})"
    return ""
