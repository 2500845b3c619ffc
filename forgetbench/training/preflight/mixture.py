"""What is trained on: amounts, copies, replay, and whether held-out and retention data are kept out of it."""

from __future__ import annotations

from collections import Counter

from forgetbench.training.canary import TYPE
from forgetbench.training.check import duplicates as copies
from forgetbench.training.check.leaks import leaks
from forgetbench.training.check.report import Finding as DataFinding
from forgetbench.training.data import TrainingText
from forgetbench.training.preflight.types import MOST_LINES, STATES, Finding, Inputs

OFF = 0.02
"""Difference of the replay share from the one asked for that is told: whole documents come no nearer in small runs."""


def amounts(inputs: Inputs) -> Finding:
    """Samples, tokens, steps and passes of the run; the task_types that it trains."""
    samples = inputs.target.samples
    sizes = [len(s.ids) for s in samples]
    passes = 1 + max((b.epoch for b in inputs.batches), default=0)
    untyped = sum(s.task_type is None for s in samples)
    types = Counter(s.task_type for s in samples if s.task_type is not None)
    figures = {
        "samples": len(samples), "tokens": sum(sizes), "longest": max(sizes), "batches": len(inputs.batches),
        "passes": passes, "task_types": dict(types.most_common()), "without_task_type": untyped,
    }  # fmt: skip
    evidence = (
        f"{len(samples):,} samples, {sum(sizes):,} tokens, longest {max(sizes):,} of {inputs.recipe.max_length:,}; "
        f"{len(inputs.batches):,} batches, {passes} {'pass' if passes == 1 else 'passes'}; {len(types)} task_types"
    )
    if untyped:
        told = f"{evidence}; {untyped:,} samples have no task_type"
        cure = "name task_types, so that their losses can be told apart"
        return Finding("data", "warn", told, cure, figures=figures)
    return Finding("data", "pass", evidence, figures=figures)


def repetitions(inputs: Inputs) -> Finding:
    """Exact and near copies, and prompts with two answers, among the training examples (`data check` has more).

    Canaries are left out: they are repeated on purpose.
    """
    rows = inputs.target.rows
    own = [r for r in rows if not (r.task_type or "").startswith(f"{TYPE}/")]
    found = copies.duplicates(own)
    worst = max(found, key=lambda f: STATES.index(f.state))
    marked = [f for f in found if f.state != "pass"] or found
    lines = tuple(f"{e.where}  {e.text}" for f in marked for e in f.evidence)[:MOST_LINES]
    evidence = "; ".join(f.message for f in found)
    if len(own) < len(rows):
        evidence += f"; {len(rows) - len(own):,} lines of canaries are left out"
    return Finding("duplicates", worst.state, evidence, worst.cure, lines, {f.check: f.count for f in found})


def held_out(inputs: Inputs) -> Finding:
    """Held-out data: there, and none of it in what is trained, word for word or nearly (Jaccard from 0.7)."""
    name = "held-out"
    mine = inputs.held_out.rows
    if not mine:
        cure = "name files under `held_out`, and `eval_every`: without them overfitting is not seen"
        return Finding(name, "warn", "no file is named", cure)
    trained = [*inputs.target.rows, *inputs.replay.rows]
    found = copies.overlaps(trained, mine)
    exact = [pair for pair in found if pair[2] >= 1.0]
    lines = tuple(f"{mine[i].where} like {trained[j].where} ({s:.2f})" for i, j, s in found)[:MOST_LINES]
    figures = {"held_out": len(mine), "exact": len(exact), "near": len(found) - len(exact)}
    evidence = (
        f"{len(mine):,} examples; {len(exact):,} stand in the training data word for word, "
        f"{len(found) - len(exact):,} nearly"
    )
    cure = "take them out of one of the two: a held-out loss of trained text tells nothing"
    if exact:
        return Finding(name, "fail", evidence, cure, lines, figures)
    if found:
        return Finding(name, "warn", evidence, cure, lines, figures)
    if inputs.recipe.eval_every is None:
        return Finding(name, "warn", f"{evidence}; but it is never read", "set `eval_every`", figures=figures)
    return Finding(name, "pass", evidence, figures=figures)


def retention(inputs: Inputs) -> Finding:
    """A retention suite: there, readable, and none of its items in what is trained."""
    name = "retention suite"
    suite = inputs.retention
    if suite is None:
        cure = "name a suite under `retention`: losses do not tell what is forgotten"
        return Finding(name, "warn", "none is named: nothing watches general ability while training", cure)
    if suite.error:
        return Finding(name, "fail", suite.error, suite.cure)
    rows = [*inputs.target.rows, *inputs.replay.rows]
    found = leaks(list(suite.questions), [TrainingText(t.text, r.where) for r in rows for t in r.turns])
    return _as_ours(found, name, f"{suite.name}, {len(suite.questions):,} items: {found.message}")


def _as_ours(found: DataFinding, name: str, evidence: str) -> Finding:
    lines = tuple(f"{e.where}  {e.text}" for e in found.evidence)[:MOST_LINES]
    return Finding(name, found.state, evidence, found.cure, lines, {"count": found.count, "total": found.total})


def replay(inputs: Inputs) -> Finding:
    """Replay as a share of the tokens that the run reads, padding left out."""
    name = "replay"
    first, after = len(inputs.target.samples), len(inputs.trained)
    read = Counter(d for batch in inputs.batches for row in batch.rows for d in row)
    tokens = {d: n * len(inputs.documents[d].ids) for d, n in read.items()}
    total = sum(tokens.values())
    mine = sum(n for d, n in tokens.items() if first <= d < after)
    share = mine / total if total else 0.0
    recipe = inputs.recipe.replay
    asked = recipe.share if recipe is not None else 0.0
    unique = sum(len(inputs.documents[d].ids) for d in range(first, after))
    figures = {"share": share, "asked": asked, "tokens": mine, "all_tokens": total, "unique_tokens": unique}
    if recipe is None:
        cure = "mix in general data under `replay`: what is not rehearsed is what a fine-tune forgets (docs/arms.md)"
        return Finding(name, "warn", f"none in {total:,} tokens", cure, figures=figures)
    if recipe.from_base is not None:
        n = recipe.from_base.n
        told = f"{n:,} texts that the base writes before the first step, {100 * asked:.1f} % of the tokens"
        return Finding(name, "pass", told, figures=figures)
    evidence = (
        f"{100 * share:.1f} % of {total:,} tokens (asked for: {100 * asked:.1f} %); "
        f"each of {unique:,} replay tokens is read {mine / unique:.2f} times"
    )
    if abs(share - asked) > OFF:
        cure = "the run is short or its documents long: more steps, or shorter replay texts"
        return Finding(name, "warn", evidence, cure, figures=figures)
    return Finding(name, "pass", evidence, figures=figures)
