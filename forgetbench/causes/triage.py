"""Which flips and controls are sampled again, and what their samples say."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from forgetbench.analysis.types import Comparison, Pair
from forgetbench.causes.ask import Case, Drawn, drawn_of, fresh, place, why_not
from forgetbench.causes.posterior import fit_prior, posteriors, stability
from forgetbench.causes.types import Options, Stability
from forgetbench.errors import UsageError
from forgetbench.ledger import Ledger
from forgetbench.rounds import Question, Side
from forgetbench.types import GREEDY, ItemKey, View

if TYPE_CHECKING:
    from forgetbench.planning.plan import TaskJob

ROUND = "triage"
_FIRST, _FURTHER = 0, (1, *range(4, 100))
"""Added to the replicate: the first samples, and each further look. Rounds about causes have 2 and 3."""

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
            why = "a side cannot be asked again, so that flips have no cause"
            ledger.note(why, len(flips), where=place(task, view))
            continue
        rng = random.Random(f"causes {options.seed} {task} {view}")
        if len(flips) > options.most_flips:
            why = f"a random {options.most_flips:,} flips were looked at and their counts scaled up"
            ledger.note(why, len(flips), where=place(task, view))
            flips = rng.sample(flips, options.most_flips)
        cases += _cases(flips + _controls(pairs, options.controls, rng), jobs[0], jobs[1], ledger)
    return cases


def _cases(pairs: Sequence[Pair], base: TaskJob, candidate: TaskJob, ledger: Ledger) -> list[Case]:
    items = {item.key: item for item in candidate.items}
    cases = []
    for pair in pairs:
        item = items.get(_key(pair))
        reason = "it is not in the suite any more" if item is None else why_not(candidate, item)
        if item is None or reason is not None:
            if pair.flip != "same":
                ledger.note(f"no cause, since {reason}", where=place(pair.task, pair.view))
            continue
        direction = None if pair.flip == "same" else ("lost" if pair.flip == "lost" else "gained")
        cases.append(Case(pair, item, base, candidate, direction))  # type: ignore[arg-type]
    return cases


def _controls(pairs: Sequence[Pair], wanted: int, rng: random.Random) -> list[Pair]:
    """Concordant pairs, half of them right on both sides; one half fills up what the other lacks."""
    right = [p for p in pairs if p.flip == "same" and p.base.score == 1.0]
    wrong = [p for p in pairs if _is_both_wrong(p)]
    of_wrong = min(len(wrong), max(wanted // 2, wanted - len(right)))
    of_right = min(len(right), wanted - of_wrong)
    return rng.sample(right, of_right) + rng.sample(wrong, of_wrong)


def stable_controls(
    lost: Sequence[Triaged],
    triaged: Sequence[Triaged],
    base: Side,
    candidate: Side,
    comparison: Comparison,
    options: Options,
    ledger: Ledger,
) -> list[Triaged]:
    """Items that both sides have stably wrong, by the task and view of the lost ones: what recovery measures luck on.

    Where the controls hold fewer than `options.stable_controls`, further items wrong on both sides are sampled, as
    many as should do at the share that held so far. They count nowhere else.
    """
    wrong: dict[Group, list[Triaged]] = {t.sampled.case.group: [] for t in lost}
    for t in triaged:
        if t.sampled.case.kind == "wrong" and t.sampled.case.group in wrong:
            wrong[t.sampled.case.group].append(t)
    more: list[Case] = []
    for (task, view), had in sorted(wrong.items()):
        stable = sum(is_stably_wrong(t, options) for t in had)
        if not had or stable >= options.stable_controls:
            continue
        known = {t.sampled.case.key for t in had}
        asked_so = (task, view, GREEDY)
        mine = [p for p in comparison.pairs if (p.task, p.view, p.decode_id) == asked_so and _is_both_wrong(p)]
        rest = [p for p in mine if (_key(p), view) not in known]
        needed = math.ceil((options.stable_controls - stable) * (len(had) + 1) / (stable + 1))
        rng = random.Random(f"more controls {options.seed} {task} {view}")
        case = had[0].sampled.case
        more += _cases(rng.sample(rest, min(needed, len(rest))), case.base, case.candidate, ledger)
    sampled = [t.sampled for members in wrong.values() for t in members]
    sampled += _ask(more, base, candidate, options, ledger, options.samples, _FIRST)
    return [t for t in label(sampled, options) if is_stably_wrong(t, options)]


def _is_both_wrong(pair: Pair) -> bool:
    return pair.flip == "same" and pair.base.score == 0.0


def _key(pair: Pair) -> ItemKey:
    return ItemKey(pair.task, pair.content_hash, pair.occurrence)


def is_stably_wrong(triaged: Triaged, options: Options) -> bool:
    """Wrong on both sides in the run, and for the most part in fresh samples."""
    if triaged.sampled.case.kind != "wrong":
        return False
    return max(triaged.stability.base_rate, triaged.stability.candidate_rate) <= options.low


def draw(cases: Sequence[Case], base: Side, candidate: Side, options: Options, ledger: Ledger) -> list[Triaged]:
    """Fresh samples of both sides for every case, more of the undetermined flips, and the stability of each."""
    sampled = _ask(cases, base, candidate, options, ledger, options.samples, _FIRST)
    triaged = label(sampled, options)
    for samples, turn in zip(options.further, _FURTHER, strict=False):
        open_ = [t.sampled.case for t in triaged if t.stability.label == "undetermined" and t.sampled.case.direction]
        if not open_:
            break
        more = {s.case.key: s for s in _ask(open_, base, candidate, options, ledger, samples, turn)}
        sampled = [_joined(s, more.get(s.case.key)) for s in sampled]
        triaged = label(sampled, options)
    return triaged


def _ask(
    cases: Sequence[Case], base: Side, candidate: Side, options: Options, ledger: Ledger, samples: int, turn: int
) -> list[Sampled]:
    asked: list[tuple[Case, Question, Question]] = []
    for case in cases:
        try:
            first = fresh(case.base, case.item, base, options, samples=samples, turn=turn)
            second = fresh(case.candidate, case.item, candidate, options, samples=samples, turn=turn)
        except UsageError as error:
            ledger.note(f"not sampled: {error}", where=case.where)
            continue
        asked.append((case, first, second))
    ledger.ask(ROUND, (q.request for _, *both in asked for q in both))
    found = []
    for case, first, second in asked:
        drawn = drawn_of(first, case.pair.metric, ledger), drawn_of(second, case.pair.metric, ledger)
        if drawn[0].judged and drawn[1].judged:
            found.append(Sampled(case, *drawn))
        else:
            ledger.note("a side gave no fresh sample", where=case.where)
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
