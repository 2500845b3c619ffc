"""From evidence to a cause, and from causes to a sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from forgetbench.causes.ask import examples_of
from forgetbench.causes.delivery import Delivered, wrong_answers
from forgetbench.causes.gold import holds
from forgetbench.causes.triage import Sampled, Triaged
from forgetbench.causes.types import CAUSES, WORDS, Cause, CauseCounts, Found, Options, Try
from forgetbench.tasks.questions import question_of
from forgetbench.types import Judged, View

_HALF = 0.5
_SHARED = 0.6
"""Share of the question's longer words that a training text has to have."""
_WORD = re.compile(r"\w{4,}")
_WHERE: Mapping[View, str] = {
    "chat": "broken for your users",
    "as_used": "broken as used",
    "ability": "lost under the shared raw prompts",
}


class Firm(NamedTuple):
    answer: str | None
    """The candidate's most frequent answer. None: it has none."""
    overwritten: bool
    why: str


def found_of(triaged: Triaged, delivered: Delivered | None, tries: Sequence[Try], options: Options) -> Found:
    """The cause of one flip. delivered: None where stability is the end of it."""
    sampled, label = triaged.sampled, triaged.stability.label
    case = sampled.case
    firm = Firm(None, False, "")
    budget = () if delivered is None or delivered.budget is None else (delivered.budget,)
    recovered = [t for t in tries if t.recovered]
    cause: Cause
    if delivered is None:
        cause, why = label, _rates(triaged)
    elif delivered.cause is not None:
        cause, why = delivered.cause, delivered.why
    elif recovered:
        best = next((t for t in recovered if t.name == "other_view"), recovered[0])
        cause = "style" if best.name == "other_view" else "access"
        why = f"{best.name}: {best.count.right} of {best.count.n} right, luck {best.luck:.2f} (p = {best.p_value:.2g})."
    elif not is_lost(triaged, options):
        cause, why = label, _rates(triaged)
    else:
        firm = firm_answer(sampled, options)
        cause, why = "not_recovered", firm.why or "No way of asking brought it back."
    evidence: Counter[str] = Counter() if delivered is None else Counter(delivered.kinds)
    if delivered is not None and delivered.format is not None:
        evidence["holds_gold"] = delivered.format.found
    return Found(
        key=case.item.key,
        view=case.pair.view,
        direction=case.direction or "lost",
        cause=cause,
        stability=triaged.stability,
        evidence=dict(evidence),
        tries=(*budget, *tries),
        examples=examples_of(wrong_answers(sampled)),
        overwritten=firm.overwritten,
        answer=firm.answer,
        why=why,
        task_type=case.item.task_type,
        cluster=case.item.cluster,
    )


def is_lost(triaged: Triaged, options: Options) -> bool:
    """Whether next to nothing is left: consistent, or weakened (of a base that was itself unsure) to at most `low`."""
    return triaged.stability.label == "consistent" or triaged.stability.candidate_rate <= options.low


def _rates(triaged: Triaged) -> str:
    b, s = triaged.stability.base, triaged.stability.candidate
    return f"Fresh samples: the base right in {b.right} of {b.n}, the candidate in {s.right} of {s.n}."


def firm_answer(sampled: Sampled, options: Options) -> Firm:
    """Whether one answer stands firmly in the place of the right one, or is one that the training teaches."""
    mine, theirs = (Counter(map(_answer, d.judged)) for d in (sampled.candidate, sampled.base))
    answer, times = mine.most_common(1)[0]
    share, before = times / mine.total(), theirs[answer] / theirs.total()
    if not answer:
        return Firm(None, False, "")
    if share >= options.firm and before <= (1.0 - options.firm) / 2.0:
        return Firm(answer, True, f'"{answer}" in {times} of {mine.total()} samples, and the base does not say so.')
    if share > _HALF and options.training and _is_trained(sampled, answer, options.training):
        return Firm(answer, True, f'"{answer}" is what the training data says.')
    return Firm(answer, False, "")


def _answer(judged: Judged) -> str:
    return " ".join((judged.extracted or judged.output).split())


def _is_trained(sampled: Sampled, answer: str, training: Sequence[str]) -> bool:
    asked = _words(question_of(sampled.case.candidate.task, sampled.case.item).text)
    if not asked:
        return False
    return any(holds(text, answer) and len(asked & _words(text)) >= _SHARED * len(asked) for text in training)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def counts_of(task: str, view: View, lost: int, gained: int, found: Sequence[Found]) -> CauseCounts:
    """The causes of one task and view. lost, gained: all flips, looked at or not."""
    mine = [f for f in found if f.direction == "lost"]
    counts = _ordered(mine)
    overwritten = sum(f.overwritten for f in mine)
    return CauseCounts(
        task=task,
        view=view,
        lost=lost,
        gained=gained,
        looked_at=len(mine),
        counts=counts,
        gained_counts=_ordered([f for f in found if f.direction == "gained"]),
        overwritten=overwritten,
        sentence=_sentence(task, view, lost, len(mine), counts, overwritten),
    )


def _ordered(found: Sequence[Found]) -> dict[Cause, int]:
    counts = Counter(f.cause for f in found)
    return {cause: counts[cause] for cause in CAUSES if counts[cause]}


def _sentence(task: str, view: View, lost: int, seen: int, counts: Mapping[Cause, int], overwritten: int) -> str:
    head = f"{lost:,} {task} item{'' if lost == 1 else 's'} {_WHERE[view]}"
    if not lost:
        return f"No {task} item {_WHERE[view]}."
    if not seen:
        return f"{head}: no cause looked for."
    scale = lost / seen

    def part(cause: Cause, n: int) -> str:
        words = f"{round(n * scale):,} {WORDS.get(cause, cause)}"
        if cause == "not_recovered" and overwritten:
            words += f" ({round(overwritten * scale):,} of them overwritten)"
        return words

    about = "" if seen == lost else f" (from {seen:,} that were looked at)"
    return f"{head}{about}: {', '.join(part(c, n) for c, n in counts.items())}."
