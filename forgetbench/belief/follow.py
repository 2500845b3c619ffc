"""What is asked about items that diverged: how likely both answers are, where the candidate leaves the base's answer,
and whether another question brings that answer back."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from forgetbench.belief.agreement import Agree, begins_with, first_sentence, normal
from forgetbench.belief.ask import Case, Drawing, answers_to
from forgetbench.belief.prompts import Continuation, Ranked
from forgetbench.belief.types import Answer, FirstDivergence, Margins, Mode
from forgetbench.errors import UsageError
from forgetbench.ledger import Ledger
from forgetbench.planning.plan import request_id
from forgetbench.rounds import Question, Side, question
from forgetbench.tasks.questions import question_of
from forgetbench.types import Decode, Read, Reading, Request, Response

DISTRACTORS = 2
"""Beliefs of other items that a ranking offers beside the two answers, of an item without options."""


@dataclass(frozen=True, slots=True)
class Parted:
    """An item on which the candidate says something else than the base."""

    case: Case
    belief: Answer
    candidate: Answer


def ask_margins(parted: Sequence[Parted], base: Side, candidate: Side, ledger: Ledger) -> list[Margins | None]:
    """Each side under the prompt that it is asked by; None where neither could be had."""
    sides = ((candidate, [p.case.candidate for p in parted]), (base, [p.case.base for p in parted]))
    asked: list[list[Question | None]] = []
    for side, jobs in sides:
        column: list[Question | None] = []
        for p, job in zip(parted, jobs, strict=True):
            lead = p.belief.lead if job.style == "raw" else p.candidate.lead
            task = Ranked(job.task, (p.belief.surface, p.candidate.surface), lead, job.style)
            column.append(_or_none(replace(job, task=task), p, side, ledger))
        asked.append(column)
    requests = [q.request for column in asked for q in column if q is not None]
    ledger.ask("belief-margins", requests, optional="no likelihood margins")
    theirs, mine = ([_margin(q, ledger) for q in column] for column in asked)
    pairs = zip(theirs, mine, strict=True)
    return [None if s is None and b is None else Margins(s, b) for s, b in pairs]


def _or_none(job: Any, p: Parted, side: Side, ledger: Ledger) -> Question | None:
    try:
        return question(job, p.case.item, side.point)
    except UsageError as error:
        ledger.note(f"no likelihood margin: {error}")
        return None


def _margin(asked: Question | None, ledger: Ledger) -> float | None:
    response = None if asked is None else ledger.answers.get(asked.request.request_id)
    if response is None or response.error is not None or len(response.scores) != 2:
        return None
    found = response.scores[0].logprob - response.scores[1].logprob
    return found if math.isfinite(found) else None


def ask_first_divergence(
    parted: Sequence[Parted], candidate: Side, drawing: Drawing, ledger: Ledger
) -> list[FirstDivergence | None]:
    """The base's answer read by the candidate, raw and few-shot, with the candidate's own tokens."""
    try:
        tokenizer = candidate.point.tokenizer()
    except UsageError as error:
        ledger.note(f"no first divergent token: {error}", len(parted))
        return [None] * len(parted)
    bodies: list[Read] = []
    requests: list[Request] = []
    for p in parted:
        prompt = drawing.again(p.case, candidate).request.prompt
        body = Read(tuple(tokenizer.encode(p.belief.lead + p.belief.surface, add_special_tokens=False)))
        digest = candidate.point.digest
        bodies.append(body)
        requests.append(Request(request_id(digest, prompt, body), digest, prompt, body))
    ledger.ask("belief-path", requests, optional="no first divergent token")
    found: list[FirstDivergence | None] = []
    for request, body in zip(requests, bodies, strict=True):
        response = ledger.answers.get(request.request_id)
        reading = None if response is None or response.error is not None else response.reading
        found.append(None if reading is None else first_divergence(body.token_ids, reading, tokenizer))
    return found


def first_divergence(token_ids: Sequence[int], reading: Reading, tokenizer: Any) -> FirstDivergence:
    """Where the most likely token first is another one than the answer's. `tokenizer` decodes ids."""
    places = zip(token_ids, reading.argmax, strict=True)
    position = next((i for i, (token, best) in enumerate(places) if token != best), None)
    at = len(token_ids) - 1 if position is None else position
    return FirstDivergence(
        position=position,
        n_tokens=len(token_ids),
        expected="" if position is None else tokenizer.decode([token_ids[at]]),
        preferred="" if position is None else tokenizer.decode([reading.argmax[at]]),
        logprob=reading.logprobs[at],
        logprob_sum=math.fsum(reading.logprobs),
    )


def ask_recovery(
    parted: Sequence[Parted], beliefs: Sequence[Answer], candidate: Side, drawing: Drawing, ledger: Ledger, agree: Agree
) -> tuple[list[frozenset[Mode]], tuple[Mode, ...]]:
    """By which modes each item's base answer came back, and the modes that could be asked.

    Ranking has the prompt of the few-shot mode; the answer with the largest summed log-probability comes first, of
    equal ones the first given (as tasks/ranking.py has it). beliefs: the base's answers to all items of the comparison,
    which distractors are taken from.
    """
    continued = [_continuation(p, candidate, drawing) for p in parted]
    again = [drawing.again(p.case, candidate) for p in parted]
    ledger.ask("belief-recovery", [q.request for q in (*continued, *again)])
    ranked = [
        _ranking(p, q, beliefs, candidate, drawing.options.seed, agree) for p, q in zip(parted, again, strict=True)
    ]
    optional = "no recovery by ranking"
    can_rank = ledger.ask("belief-recovery", [q.request for q in ranked], optional=optional)
    found: list[frozenset[Mode]] = []
    for p, texts, few, options in zip(parted, continued, again, ranked, strict=True):
        modes: set[Mode] = set()
        wanted = p.belief.text or ""
        if any(_continues(text, wanted, p, agree) for text in _outputs(texts, ledger)):
            modes.add("continuation")
        if any(a.text is not None and agree(wanted, a.text, p.case.item) for a in answers_to([few], ledger)):
            modes.add("few-shot")
        if can_rank and _first_is_best(ledger.answers.get(options.request.request_id)):
            modes.add("ranking")
        found.append(frozenset(modes))
    return found, ("continuation", "few-shot", "ranking") if can_rank else ("continuation", "few-shot")


def _continuation(p: Parted, side: Side, drawing: Drawing) -> Question:
    job = replace(p.case.raw, task=Continuation(p.case.raw.task))
    return question(job, p.case.item, side.point, decode=Decode(), max_tokens=drawing.options.max_tokens, num_fewshot=0)


def _ranking(p: Parted, again: Question, beliefs: Sequence[Answer], side: Side, seed: int, agree: Agree) -> Question:
    """The base's answer first, then the candidate's, then others."""
    answers = (p.belief.surface, p.candidate.surface, *distractors(p, beliefs, seed, agree))
    task = Ranked(again.job.task, answers, p.belief.lead, again.job.style)
    return question(replace(again.job, task=task), p.case.item, side.point)


def distractors(p: Parted, beliefs: Sequence[Answer], seed: int, agree: Agree) -> list[str]:
    """What a ranking offers beside the answers of base and candidate, and what is neither: the item's other options,
    or where it has none `DISTRACTORS` beliefs of other items."""
    item, taken = p.case.item, [a.text or "" for a in (p.belief, p.candidate)]
    options = [choice.strip().rstrip(".") for choice in question_of(p.case.raw.task, item).choices]
    drawn = random.Random(f"{seed}/{item.key}").sample(beliefs, 0 if options else len(beliefs))
    found: dict[str, str] = {}
    for text, surface in [*zip(options, options, strict=True), *((b.text or "", b.surface) for b in drawn)]:
        if text and not any(agree(text, known, item) for known in taken):
            found.setdefault(normal(text), surface)
        if not options and len(found) == DISTRACTORS:
            break
    return list(found.values())


def _outputs(asked: Question, ledger: Ledger) -> list[str]:
    response = ledger.answers.get(asked.request.request_id)
    return [] if response is None or response.error is not None else [g.text for g in response.generations]


def _continues(text: str, wanted: str, p: Parted, agree: Agree) -> bool:
    """A continuation goes on after its answer: what opens it counts, not what may follow."""
    opening = first_sentence(text)
    return bool(opening) and (begins_with(text, wanted) or agree(wanted, opening, p.case.item))


def _first_is_best(response: Response | None) -> bool:
    """Whether the first option, the base's answer, is the most likely one."""
    if response is None or response.error is not None or not response.scores:
        return False
    logprobs = [s.logprob for s in response.scores]
    return all(map(math.isfinite, logprobs)) and logprobs[0] == max(logprobs)
