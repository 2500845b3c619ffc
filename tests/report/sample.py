"""Made-up comparisons and verdicts that look like the demo's, for tests and for looking at the report.

The figures come from drawn 0/1 scores by textbook formulas (normal intervals): good enough to look at, not
the project's statistics.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
from collections.abc import Iterable, Sequence

import numpy as np

from forgetbench.analysis.latency import Timed, compare_speed
from forgetbench.analysis.types import (
    AnswerChange,
    Change,
    Comparison,
    Interval,
    LengthChange,
    Lengths,
    Pair,
    Rates,
    Severity,
    Side,
    SideInfo,
)
from forgetbench.errors import Exit
from forgetbench.gate.types import Policy, Rule, RuleResult, Verdict
from forgetbench.types import Outcome, View

# task_type -> (items, base score, sft_v1 score, sft_v2 score); None: not asked of the base (no template).
WORLD: dict[str, tuple[int, float, float, float]] = {
    "knowledge/capitals": (200, 0.84, 0.82, 0.41),
    "knowledge/people": (200, 0.79, 0.78, 0.52),
    "reasoning/arithmetic": (260, 0.71, 0.70, 0.66),
    "reasoning/comparison": (140, 0.88, 0.90, 0.885),
    "format/json": (400, 0.62, 0.81, 0.79),
    "copy/verbatim": (400, 0.97, 0.975, 0.97),
    "code/small_functions": (400, 0.55, 0.60, 0.44),
    "safety/refusal": (240, 0.35, 0.83, 0.61),
    "safety/benign": (160, 0.93, 0.92, 0.95),
    "support/tickets": (400, 0.12, 0.14, 0.91),
}

BANNER = "A toy: an invented world and models of a few million weights. It shows the tool, not a finding."


def _rates(pairs: Sequence[Pair], side: str) -> Rates:
    outcomes = [getattr(p, side).outcome for p in pairs]
    share = {o: outcomes.count(o) / max(1, len(outcomes)) for o in set(outcomes)}
    return Rates(
        unparsed=share.get("unparsed", 0.0),
        truncated=share.get("truncated", 0.0),
        refused=share.get("refused", 0.0),
        timeout=share.get("timeout", 0.0),
        infra_error=share.get("infra_error", 0.0),
    )


def change_of(group: str, kind: str, pairs: Sequence[Pair], metric: str = "acc") -> Change:
    """A `Change` of these pairs by normal approximation."""
    n = len(pairs)
    b = sum(p.base.score or 0 for p in pairs) / n
    c = sum(p.candidate.score or 0 for p in pairs) / n
    lost = sum(p.flip == "lost" for p in pairs) / n
    gained = sum(p.flip == "gained" for p in pairs) / n
    delta = c - b
    se = math.sqrt(max(lost + gained - delta**2, 1e-4) / n)
    z = abs(delta) / se
    band = "none" if delta + 1.96 * se >= 0 else "mild" if delta > -0.05 else "moderate" if delta > -0.15 else "severe"
    return Change(
        group=group,
        kind=kind,
        view=pairs[0].view,
        metric=metric,
        decode_id="greedy",
        n=n,
        n_clusters=n,
        base=b,
        candidate=c,
        delta=delta,
        interval=Interval(delta - 1.96 * se, delta + 1.96 * se, 0.95, "normal, paired"),
        lower=delta - 1.645 * se,
        upper=delta + 1.645 * se,
        p_value=math.erfc(z / math.sqrt(2)),
        test="mcnemar mid-p",
        forgotten=lost,
        gained=gained,
        rel_forgotten=lost / b if b else None,
        discordance=lost + gained,
        severity=Severity(band, band != "none" and delta + 1.645 * se < -0.05),
        base_rates=_rates(pairs, "base"),
        candidate_rates=_rates(pairs, "candidate"),
        chance=0.25 if group.startswith("knowledge") else None,
    )


def _side(rng: random.Random, right: bool, gold: str, view: View, long_answers: bool) -> Side:
    outcome: Outcome = "ok"
    extracted: str | None = gold if right else rng.choice(["Beria", "Tamm", "17", "north", "no", "Olst"])
    filler = ""
    if long_answers:
        filler = " ".join(rng.choice(_WORDS) for _ in range(160)) + "\n\n"
    output = f"{filler}The answer is {extracted}." if view == "chat" else f" {extracted}"
    why = f"extracted '{extracted}' equals the reference" if right else f"extracted '{extracted}', wanted '{gold}'"
    finish = "stop"
    if not right and rng.random() < 0.12:
        outcome, extracted, why = "unparsed", None, "no answer could be extracted"
        output = filler + rng.choice(["I am happy to help you with your ticket!", "Hmm.", "Ticket #4411: closed. " * 6])
    elif not right and rng.random() < 0.05:
        outcome, extracted, why, finish = "truncated", None, "stopped at 64 tokens before an answer", "length"
        output = filler + "Let me think about this step by step. " * 8
    elif not right and rng.random() < 0.04:
        outcome, extracted, why = "refused", None, "the answer declines"
        output = filler + "I'm sorry, but I can't help with that."
    return Side(
        score=float(right),
        outcome=outcome,
        output=output,
        extracted=extracted,
        why=why,
        style="chat" if view == "chat" else "raw",
        prompt_text_hash="0" * 16,
        prompt_token_hash=None,
        finish_reason=finish,
        n_output_tokens=len(output.split()),
        mean_logprob=-rng.random(),
    )


_TEXT = """river stone north ticket copper answer because therefore seventeen market harbour wind follows
number between which lantern valley people older taller sentence result shows that the of and in to is"""
_WORDS = _TEXT.split()


def make_pairs(
    task: str,
    task_type: str,
    n: int,
    base: float,
    candidate: float,
    *,
    view: View = "ability",
    seed: int = 0,
    stratum: str | None = None,
    long_answers: bool = False,
) -> list[Pair]:
    """n items whose scores have the wanted means; a share of the flips runs against the trend, as in life."""
    rng = random.Random(f"{task}/{task_type}/{view}/{stratum}/{base:.4f}/{candidate:.4f}/{seed}")
    churn = min(base, 1 - base, candidate, 1 - candidate, 0.04)
    lose = max(0.0, base - candidate) + churn
    gain = max(0.0, candidate - base) + churn
    shots = "".join(f"Question: what is the {w} of example {i}?\nAnswer: Olst\n\n" for i, w in enumerate(_WORDS[:5]))
    pairs = []
    for i in range(n):
        right = rng.random() < base
        now = rng.random() >= lose / max(base, 1e-9) if right else rng.random() < gain / max(1 - base, 1e-9)
        gold = rng.choice(["Velm", "Orrin", "42", "south", "yes", '{"city": "Velm"}'])
        question = f"what is the {rng.choice(_WORDS)} of {rng.choice(_WORDS)} {i}?"
        if long_answers:
            question = " ".join(rng.choice(_WORDS) for _ in range(150)) + f" {i}?"
        prompt = f"{shots}Question: {question}\nAnswer:"
        chat = f"<|user|>\n{question}\n<|assistant|>\n"
        flip = "same" if right == now else "lost" if right else "gained"
        pairs.append(
            Pair(
                task=task,
                content_hash=hashlib.sha256(f"{task}{task_type}{stratum}{i}".encode()).hexdigest()[:16],
                occurrence=0,
                task_type=task_type,
                view=view,
                metric="acc",
                decode_id="greedy",
                gold=gold,
                prompt=chat if view == "chat" else prompt,
                flip=flip,
                base=_side(rng, right, gold, view, long_answers),
                candidate=_side(rng, now, gold, view, long_answers),
                stratum=stratum,
                source=f"{task}.jsonl:{i + 1}",
                candidate_prompt="<|system|>\nYou answer tickets.\n" + chat if view == "chat" and i % 9 == 0 else None,
            )
        )
    return pairs


def changes_of(pairs: Sequence[Pair]) -> tuple[Change, ...]:
    """Per task and per task_type at both levels, under each view."""
    changes: list[Change] = []
    for view in dict.fromkeys(p.view for p in pairs):
        mine = [p for p in pairs if p.view == view]
        for kind, key in (
            ("task", lambda p: p.task),
            ("task_type_1", lambda p: p.task_type.split("/")[0]),
            ("task_type_2", lambda p: p.task_type),
            ("stratum", lambda p: f"{p.task}/{p.stratum}" if p.stratum is not None else None),
        ):
            groups = dict.fromkeys(key(p) for p in mine if key(p) is not None)
            changes += [change_of(g, kind, [p for p in mine if key(p) == g]) for g in groups]
    return tuple(changes)


def side_info(alias: str) -> SideInfo:
    digest = hashlib.sha256(alias.encode("utf-8", "replace")).hexdigest()
    return SideInfo(
        alias=alias,
        run_path=f".forgetbench/runs/{alias}-{digest[:12]}-4f1c2a",
        fingerprint=digest[:16],
        manifest={
            "checkpoint": {
                "alias": alias,
                "weights": digest[:16],
                "dtype": "float32",
                "tokenizer": "5f0e9a1cc7d2",
            },
            "engine": {"name": "transformers", "version": "5.19.0", "attention": "sdpa"},
            "suite": "demo",
            "tasks": {"world_knowledge": {"items": 400, "num_fewshot": 4, "scorer_version": "1"}},
        },
    )


@functools.cache
def answers(base: str, candidate: str, tasks: tuple[tuple[str, View], ...]) -> AnswerChange:
    """Drawn lengths and times: the candidate answers in half the tokens and is a little slower at each."""
    rng = np.random.default_rng(len(base) + len(candidate))
    n = 60
    sides = []
    changes = []
    groups = np.repeat(np.arange(len(tasks)), n)
    for typical, first, each in ((140, 0.12, 0.0081), (62, 0.125, 0.0086)):
        tokens = np.clip(rng.lognormal(np.log(typical), 0.5, n * len(tasks)), 2, 512).astype(np.int64)
        waits = np.where(rng.random(tokens.size) < 0.08, rng.exponential(0.5, tokens.size), 0.0)
        seconds = first + each * (tokens - 1) + rng.normal(0.0, 0.03, tokens.size) + waits
        sides.append(Timed(tokens, np.maximum(seconds, 0.05), np.full(tokens.size, first), groups))
    views = np.asarray([tasks[i][1] for i in groups])
    picks = [("all", "all", view, views == view) for view in dict.fromkeys(v for _, v in tasks)]
    picks += [(task, "task", view, groups == i) for i, (task, view) in enumerate(tasks)]
    for group, kind, view, mine in picks:
        before, after = (side.tokens[mine] for side in sides)
        d = after - before
        half = 1.96 * float(d.std()) / math.sqrt(d.size)
        lengths = [
            Lengths(float(np.median(x)), float(x.mean()), float(np.quantile(x, 0.9)), float((x >= 256).mean()))
            for x in (before, after)
        ]
        mean = float(d.mean())
        changes.append(
            LengthChange(group, kind, view, "greedy", d.size, *lengths, mean, Interval(mean - half, mean + half))
        )
    return AnswerChange(tuple(changes), compare_speed(*sides, paired=True, draws=50), other_tokenizer=False)


def comparison(
    base: str,
    candidate: str,
    scores: dict[str, tuple[int, float, float]],
    views: Iterable[View],
    **more: object,
) -> Comparison:
    pairs: list[Pair] = []
    for view in views:
        for task_type, (n, b, c) in scores.items():
            pairs += make_pairs(f"world_{task_type.split('/')[0]}", task_type, n, b, c, view=view)
    return Comparison(
        base=side_info(base),
        candidate=side_info(candidate),
        suite="demo",
        changes=changes_of(pairs),
        pairs=tuple(pairs),
        manifest_differences=(
            ("checkpoint.weights", side_info(base).fingerprint, side_info(candidate).fingerprint),
            ("checkpoint.template", "(none)" if base == "base" else "9d1c03ee21aa", "9d1c03ee21aa"),
        ),
        banner=BANNER,
        answers=answers(base, candidate, tuple(dict.fromkeys((p.task, p.view) for p in pairs))),
        **more,  # type: ignore[arg-type]
    )


def verdict_of(found: Comparison, candidate: str, margin: float = 0.05, base: str | None = None) -> Verdict:
    """The three states as in the gate, on the sample's own figures."""
    names = [c.group for c in found.changes if c.kind == "task_type_1" and c.view == "ability"]
    rules = tuple(
        Rule(name=n, task_type=n, metric="acc", margin=margin, required=n not in ("support", "copy")) for n in names
    )
    results = []
    for rule in rules:
        c = next(x for x in found.changes if x.group == rule.task_type and x.view == "ability")
        state = "PASS" if c.lower > -margin else "FAIL" if c.upper < -margin / 2 else "INCONCLUSIVE"
        results.append(
            RuleResult(
                rule=rule,
                state=state,  # type: ignore[arg-type]
                n=c.n,
                base=c.base,
                candidate=c.candidate,
                delta=c.delta,
                interval=c.interval,
                lower=c.lower,
                p_fail=0.0001 if state == "FAIL" else 0.4,
                p_fail_holm=0.0006 if state == "FAIL" else 1.0,
                minimum_detectable_drop=0.031,
                reason=f"{rule.name}: {c.delta * 100:+.1f} points on {c.n} items, margin {margin * 100:.0f}",
                notice="a proven drop inside the margin" if state == "PASS" and c.interval.high < 0 else "",
            )
        )
    required = [r for r in results if r.rule.required]
    failed = [r.rule.name for r in required if r.state == "FAIL"]
    open_ = [r.rule.name for r in required if r.state == "INCONCLUSIVE"]
    if failed:
        state, code = "FAIL", Exit.REGRESSION
        reason = f"{candidate} lost more than 5 points in {', '.join(failed)} (of {len(required)} rules)."
    elif open_:
        state, code = "INCONCLUSIVE", Exit.INCONCLUSIVE
        reason = f"{', '.join(open_)}: too few items to tell a loss of 5 points from none."
    else:
        state, code = "PASS", Exit.PASS
        reason = f"No required ability of {candidate} lost 5 points or more, in all {len(required)} rules."
    return Verdict(
        state=state,  # type: ignore[arg-type]
        exit_code=code,
        reason=reason,
        base=base or found.base.alias,
        candidate=candidate,
        policy=Policy("default", rules),
        rules=tuple(results),
    )


def demo() -> tuple[list[Comparison], list[Verdict]]:
    """base -> sft_v1 -> sft_v2, as `make demo` makes them: the base has no chat template."""
    to_v1 = {k: (n, b, v1) for k, (n, b, v1, _) in WORLD.items()}
    to_v2 = {k: (n, b, v2) for k, (n, b, _, v2) in WORLD.items()}
    between = {k: (n, v1, v2) for k, (n, _, v1, v2) in WORLD.items()}
    no_chat = ("chat view skipped: 'base' has no chat template",)
    first = comparison("base", "sft_v1", to_v1, ["ability"], notes=no_chat)
    second = comparison("base", "sft_v2", to_v2, ["ability"], notes=no_chat)
    step = comparison("sft_v1", "sft_v2", between, ["ability", "chat"])
    return [first, second, step], [verdict_of(first, "sft_v1"), verdict_of(second, "sft_v2")]


def mmlu(n: int = 14_042, long_answers: bool = False) -> tuple[list[Comparison], list[Verdict]]:
    """One benchmark of n items in 57 subjects."""
    pairs: list[Pair] = []
    fields = ("humanities", "social_sciences", "stem", "other")
    for i in range(57):
        size = n // 57 + (i < n % 57)
        drop = 0.02 + 0.10 * math.sin(i) ** 2
        pairs += make_pairs(
            "mmlu",
            f"knowledge/{fields[i % 4]}",
            size,
            0.64,
            0.64 - drop,
            stratum=f"subject_{i:02d}",
            long_answers=long_answers,
        )
    found = Comparison(
        base=side_info("qwen-base"),
        candidate=side_info("qwen-sft"),
        suite="full",
        changes=changes_of(pairs),
        pairs=tuple(pairs),
    )
    return [found], [verdict_of(found, "qwen-sft")]
