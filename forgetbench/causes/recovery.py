"""Recovery: does the answer come back when the question is put in another way, more often than luck gives it?

    other_view    the question in the other style (raw few-shot for chat, chat for raw), as the suite asks it there
    few_shot      the same view with `shots` more worked examples, or as many more as the task has
    continuation  a raw text that the item gives as `statement`: "The capital of Peru is"

*style*: it comes back under the other view. *access*: not there, but with worked examples or as a continuation.

Every rescue is another draw, so luck is measured on controls: items wrong on both sides, stably so in the fresh
samples, and wrong for the base under the same try too (where the base has the answer there, the candidate's is no
luck). An item is recovered by a try when at least `least` of its samples are right and

    p = max( P(Binomial(n, own) >= k), P(BetaBinomial(n, luck, SPREAD) >= k), share of controls with k or more )
      <= alpha / number of tries

own is the item's rate in the view: a rescue must beat mere repetition. luck is the controls' mean rate, one made-up
control among them that has the rate of chance agreement (luck.py). Luck differs from item to item, so that a binomial
at its mean would call too much recovered (9 to 11 % of items at 2.5 % with few controls, in simulations): its rates
are taken for Beta(luck SPREAD, (1 - luck) SPREAD) ones. The third term lets many controls (40 and more for two tries)
speak for themselves; of fewer a single one would decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from forgetbench.causes.ask import Case, Drawn, drawn_of, fresh, other_style, place
from forgetbench.causes.delivery import Searcher
from forgetbench.causes.gold import holds, short_golds
from forgetbench.causes.luck import other_items, pseudo_control, swapped, swapped_texts
from forgetbench.causes.triage import Group, Triaged
from forgetbench.causes.types import Count, Options, Try
from forgetbench.errors import UsageError
from forgetbench.ledger import Ledger
from forgetbench.planning.plan import request_id, sampling_seed
from forgetbench.rounds import Question, Side
from forgetbench.types import Decode, Generate, ItemKey, Judged, Prompt, Request, View

if TYPE_CHECKING:
    from forgetbench.planning.plan import TaskJob

ROUND = "recovery"
SPREAD = 4.0
"""Sum of the weights of the Beta distribution of luck over items: a broad one."""
_TURN = 3
_HAIR = 1e-6
_HALF = 0.5
_LINE = 12
"""Words of a continuation in which the answer has to come."""

Key = tuple[ItemKey, View]


class Asked(NamedTuple):
    """One try of one case: a question of the task, or a text to continue."""

    name: str
    case: Case
    question: Question | None
    request: Request

    def drawn(self, ledger: Ledger) -> Drawn:
        if self.question is not None:
            return drawn_of(self.question, self.case.pair.metric, ledger)
        return _continued(self.case, self.request, ledger)


def recover(
    lost: Sequence[Triaged],
    controls: Sequence[Triaged],
    base: Side,
    candidate: Side,
    options: Options,
    ledger: Ledger,
    searcher: Searcher,
) -> dict[Key, tuple[Try, ...]]:
    """All tries of every lost case, judged by the stable controls of its task and view; asks one round."""
    if not lost:
        return {}
    groups = {t.sampled.case.group for t in lost}
    chosen = [t.sampled.case for t in controls]
    of_lost = [tries_of(t.sampled.case, candidate, options) for t in lost]
    of_controls = [(tries_of(c, candidate, options), tries_of(c, base, options)) for c in chosen]
    asked = [a for tries in of_lost for a in tries]
    asked += [a for both in of_controls for tries in both for a in tries]
    ledger.ask(ROUND, (a.request for a in asked))
    pool = _pool(of_controls, ledger)
    made_up = _chances([a for tries in of_lost for a in tries], options, ledger, searcher)
    found = {}
    for triaged, tries in zip(lost, of_lost, strict=True):
        own, case = triaged.stability.candidate_rate, triaged.sampled.case
        if not tries:
            ledger.note("there is no other way to ask", where=case.where)
        level = options.alpha / max(1, len(tries))
        judged = [
            judge_try(
                a.name, a.drawn(ledger), own, pool[case.group][a.name], made_up[case.group, a.name], level, options
            )
            for a in tries
        ]
        found[case.key] = tuple(t for t in judged if t is not None)
    for group in groups:
        if not any(pool[group].values()):
            items = sum(t.sampled.case.group == group for t in lost)
            ledger.note("no stable control, so that luck is chance agreement alone", items, where=place(*group))
    return found


def _chances(
    asked: Sequence[Asked], options: Options, ledger: Ledger, searcher: Searcher
) -> Mapping[tuple[Group, str], float]:
    """The made-up control's rate, by task and view and try."""
    groups: dict[tuple[Group, str], list[Asked]] = defaultdict(list)
    for a in asked:
        groups[a.case.group, a.name].append(a)
    found = {}
    for key, members in groups.items():
        measurable = searcher.usable(members[0].case)
        chances = [c for a in members if measurable and (c := _chance(a, options, ledger)) is not None]
        found[key] = pseudo_control(chances, measurable=measurable)
    return found


def _chance(asked: Asked, options: Options, ledger: Ledger) -> float | None:
    case = asked.case
    others = other_items(case.item, case.candidate.items, options.seed)
    response = ledger.answers.get(asked.request.request_id)
    if response is None or response.error is not None:
        return None
    if asked.question is None:
        return swapped_texts(others, asked.drawn(ledger).judged)
    return swapped(asked.question.job.task, others, response, case.pair.metric)


def judge_try(
    name: str, drawn: Drawn, own: float, controls: Sequence[Count], made_up: float, level: float, options: Options
) -> Try | None:
    """Whether one try recovered an item. None: it was not answered.

    own: the item's rate in its view; made_up: the rate of the control beside the real ones; level: alpha of one try.
    """
    from scipy.stats import betabinom, binom

    if not drawn.judged:
        return None
    count = drawn.count
    # Held inside (0, 1): chance agreement may be 1, and a Beta distribution needs both its weights.
    luck = min((sum(c.rate for c in controls) + made_up) / (len(controls) + 1), 1.0 - _HAIR)
    repeated = float(binom.sf(count.right - 1, count.n, own))
    by_luck = float(betabinom.sf(count.right - 1, count.n, SPREAD * luck, SPREAD * (1.0 - luck)))
    # Below 1 / level controls a single one of them would decide.
    as_good = sum(c.rate >= count.rate for c in controls) / len(controls) if len(controls) * level >= 1.0 else 0.0
    p_value = max(repeated, by_luck, as_good)
    example = next((j.output for j in drawn.judged if drawn.is_right(j)), drawn.judged[0].output)
    recovered = p_value <= level and count.rate >= options.least
    return Try(name, count, max(own, luck), len(controls), p_value, recovered, example)


def tries_of(case: Case, side: Side, options: Options) -> list[Asked]:
    """Every way in which this side can be asked for the item again."""
    job = side.job(case.pair.task, case.pair.view)
    if job is None:
        return []
    found = []
    other = other_style(side, job)
    if other is not None:
        question = _question(other, case, side, options, other.num_fewshot)
        if question is not None:
            found.append(Asked("other_view", case, question, question.request))
    for shots in range(job.num_fewshot + options.shots, job.num_fewshot, -1) if job.num_fewshot >= 0 else ():
        question = _question(job, case, side, options, shots)
        if question is not None:
            found.append(Asked("few_shot", case, question, question.request))
            break
    request = _continuation(job, case, side, options)
    if request is not None:
        found.append(Asked("continuation", case, None, request))
    return found


def _question(job: TaskJob, case: Case, side: Side, options: Options, shots: int) -> Question | None:
    try:
        if job.task.prompt(case.item, shots).form != "generate":
            return None
        return fresh(job, case.item, side, options, samples=options.tries, turn=_TURN, num_fewshot=shots)
    except UsageError:
        return None  # fewer worked examples, or no template for it: there is no such try


def _continuation(job: TaskJob, case: Case, side: Side, options: Options) -> Request | None:
    statement = case.item.doc.get("statement")
    if not isinstance(statement, str) or not short_golds(case.item):
        return None
    text = statement.rstrip()
    prompt = Prompt(text=text)
    decode = Decode(options.temperature, 1.0, options.tries)
    seeds = tuple(
        sampling_seed(case.item.key, text, decode, sample, options.replicate + _TURN, side.point.digest)
        for sample in range(options.tries)
    )
    limit = job.max_tokens if job.max_tokens is not None else job.task.prompt(case.item, job.num_fewshot).max_tokens
    body = Generate(max_tokens=limit, stop=("\n",), temperature=options.temperature, seeds=seeds)
    return Request(request_id(side.point.digest, prompt, body), side.point.digest, prompt, body)


def _continued(case: Case, request: Request, ledger: Ledger) -> Drawn:
    """Continuations are right where a short gold comes in their first words; the task's scorer wants an answer."""
    response = ledger.answers.get(request.request_id)
    metric = case.pair.metric
    if response is None or response.error is not None:
        return Drawn((), metric)
    judged = []
    for g in response.generations:
        if g.finish_reason != "error":
            head = " ".join(g.text.split()[:_LINE])
            right = any(holds(head, gold) for gold in short_golds(case.item))
            judged.append(Judged({metric: float(right)}, "ok", g.text, head, "A continuation."))
    return Drawn(tuple(judged), metric)


def _pool(
    asked: Sequence[tuple[Sequence[Asked], Sequence[Asked]]], ledger: Ledger
) -> Mapping[Group, Mapping[str, Sequence[Count]]]:
    """The candidate's successes on controls, by task and view and try; without those that the base has there."""
    pool: dict[Group, dict[str, list[Count]]] = defaultdict(lambda: defaultdict(list))
    for candidate, base in asked:
        of_base = {a.name: a.drawn(ledger).count for a in base}
        for a in candidate:
            known, count = of_base.get(a.name), a.drawn(ledger).count
            if count.n and (known is None or known.rate < _HALF):
                pool[a.case.group][a.name].append(count)
    return pool
