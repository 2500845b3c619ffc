"""Which flips and controls are sampled again, and what their samples say."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from forgetbench.analysis.types import Comparison, Pair
from forgetbench.causes.ask import Case, Drawn, drawn_of, fresh, why_not
from forgetbench.causes.posterior import fit_prior, posteriors, stability
from forgetbench.causes.types import Options, Stability
from forgetbench.errors import UsageError
from forgetbench.ledger import Ledger
from forgetbench.rounds import Question, Side
from forgetbench.types import GREEDY, ItemKey, View

ROUND = "triage"
_TURNS = (0, 1)
"""Added to the replicate: the first samples, and the further ones of what is undetermined then."""

Group = tuple[str, View]


class Sampled(NamedTuple):
    """One case with the fresh samples of both sides."""

    case: Case
    base: Drawn
    candidate: Drawn


class Triaged(NamedTuple):
    sampled: Sampled
    stability: Stability


def choose(base: Side, candidate: Side, comparison: Comparison, options: Options, ledger: Ledger) -> list[Case]:
    """Flips of both directions (a random subset of too many) and controls, for each task and view that flipped."""
    groups: dict[Group, list[Pair]] = defaultdict(list)
    for pair in comparison.pairs:
        if pair.decode_id == GREEDY and pair.flip in ("lost", "gained", "same"):
            groups[pair.task, pair.view].append(pair)
    cases: list[Case] = []
    for (task, view), pairs in sorted(groups.items()):
        flips = [p for p in pairs if p.flip != "same"]
        if not flips:
            continue
        jobs = base.job(task, view), candidate.job(task, view)
        if jobs[0] is None or jobs[1] is None:
            ledger.notes[f"{task}, {view} view: a side cannot be asked again, so its flips have no cause"] += len(flips)
            continue
        items = {item.key: item for item in jobs[1].items}
        rng = random.Random(f"causes {options.seed} {task} {view}")
        if len(flips) > options.most_flips:
            line = (
                f"{task}, {view} view: a random {options.most_flips:,} flips were looked at, and counts scaled up, of"
            )
            ledger.notes[line] += len(flips)
            flips = rng.sample(flips, options.most_flips)
        for pair in flips + _controls(pairs, options.controls, rng):
            item = items.get(ItemKey(pair.task, pair.content_hash, pair.occurrence))
            reason = "it is not in the suite any more" if item is None else why_not(jobs[1], item)
            if item is None or reason is not None:
                if pair.flip != "same":
                    ledger.notes[f"{task}, {view} view: no cause, since {reason}"] += 1
                continue
            direction = None if pair.flip == "same" else ("lost" if pair.flip == "lost" else "gained")
            cases.append(Case(pair, item, jobs[0], jobs[1], direction))  # type: ignore[arg-type]
    return cases


def _controls(pairs: Sequence[Pair], wanted: int, rng: random.Random) -> list[Pair]:
    """Concordant pairs, half of them right on both sides; one half fills up what the other lacks."""
    right = [p for p in pairs if p.flip == "same" and p.base.score == 1.0]
    wrong = [p for p in pairs if p.flip == "same" and p.base.score == 0.0]
    of_wrong = min(len(wrong), max(wanted // 2, wanted - len(right)))
    of_right = min(len(right), wanted - of_wrong)
    return rng.sample(right, of_right) + rng.sample(wrong, of_wrong)


def draw(cases: Sequence[Case], base: Side, candidate: Side, options: Options, ledger: Ledger) -> list[Triaged]:
    """Fresh samples of both sides for every case, more of the undetermined flips, and the stability of each."""
    sampled = _ask(cases, base, candidate, options, ledger, options.samples, _TURNS[0])
    triaged = label(sampled, options)
    open_ = [t.sampled.case for t in triaged if t.stability.label == "undetermined" and t.sampled.case.direction]
    if not open_ or not options.more:
        return triaged
    further = {s.case.key: s for s in _ask(open_, base, candidate, options, ledger, options.more, _TURNS[1])}
    return label([_joined(s, further.get(s.case.key)) for s in sampled], options)


def _ask(
    cases: Sequence[Case], base: Side, candidate: Side, options: Options, ledger: Ledger, samples: int, turn: int
) -> list[Sampled]:
    asked: list[tuple[Case, Question, Question]] = []
    for case in cases:
        try:
            first = fresh(case.base, case.item, base, options, samples=samples, turn=turn)
            second = fresh(case.candidate, case.item, candidate, options, samples=samples, turn=turn)
        except UsageError as error:
            ledger.notes[f"{case.pair.task}, {case.pair.view} view: not sampled: {error}"] += 1
            continue
        asked.append((case, first, second))
    ledger.ask(ROUND, (q.request for _, *both in asked for q in both))
    found = []
    for case, first, second in asked:
        drawn = drawn_of(first, case.pair.metric, ledger), drawn_of(second, case.pair.metric, ledger)
        if drawn[0].judged and drawn[1].judged:
            found.append(Sampled(case, *drawn))
        else:
            ledger.notes[f"{case.pair.task}, {case.pair.view} view: a side gave no fresh sample"] += 1
    return found


def _joined(first: Sampled, further: Sampled | None) -> Sampled:
    if further is None:
        return first
    return Sampled(first.case, first.base.and_more(further.base), first.candidate.and_more(further.candidate))


def label(sampled: Iterable[Sampled], options: Options) -> list[Triaged]:
    """Each kind of case (lost, gained, right, wrong) of a task and view has its own prior (posterior.py)."""
    kinds: Mapping[tuple[Group, str], list[Sampled]] = defaultdict(list)
    for s in sampled:
        kinds[s.case.group, s.case.kind].append(s)
    found: list[Triaged] = []
    for members in kinds.values():
        base, candidate = [s.base.count for s in members], [s.candidate.count for s in members]
        each = posteriors(fit_prior(base, candidate), base, candidate)
        for s, posterior, b, c in zip(members, each, base, candidate, strict=True):
            found.append(Triaged(s, stability(posterior, b, c, s.case.direction or "lost", options)))
    return found
