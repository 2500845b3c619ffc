"""Delivery: is the answer lost, or only not delivered? By what became of the candidate's wrong answers.

Each wrong answer, the greedy one among them, is one of, in this order:

    refused          scoring's outcome
    loop             it repeats itself without end (scoring/loops.py), whether or not the limit ended it
    truncated        scoring's outcome: it ended at the token limit
    wrong_language   another script than the question's (scoring/language.py)
    answered         anything else

More than half of one kind decide, with two exceptions. `truncated` has to be shown: asked again with a larger budget
at least half of the answers are right, more than the item's own rate explains. And where no kind decides, or a larger
budget did not help, the right answer may be there in another place: `format` (gold.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from forgetbench.causes.ask import Case, Drawn, drawn_of, fresh
from forgetbench.causes.gold import Golds, Present, golds_of, is_searchable, present
from forgetbench.causes.triage import Sampled, Triaged
from forgetbench.causes.types import Delivery, Options, Try
from forgetbench.errors import UsageError
from forgetbench.ledger import Ledger
from forgetbench.rounds import Question, Side
from forgetbench.scoring.language import language
from forgetbench.scoring.loops import find_loop
from forgetbench.tasks.questions import question_of
from forgetbench.types import Judged

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint

ROUND = "budget"
_TURN = 2
_HALF = 0.5
_SURE_KINDS: tuple[Delivery, ...] = ("refused", "loop", "wrong_language")


class Delivered(NamedTuple):
    """How the candidate's wrong answers came. `cause` None: they are answers like any other."""

    cause: Delivery | None
    kinds: Mapping[str, int]
    format: Present | None
    """None: the task has no short gold, or it was not looked for."""
    budget: Try | None
    why: str


def kind_of(judged: Judged, question: str) -> str:
    """What became of one wrong answer; flags of the deployment preset are taken where it set them."""
    if judged.outcome == "refused":
        return "refused"
    looped = judged.extra.get("looped")
    if looped if looped is not None else find_loop(judged.output) is not None:
        return "loop"
    if judged.outcome == "truncated":
        return "truncated"
    wrong = judged.extra.get("wrong_language")
    if wrong if wrong is not None else language(question, judged.output) == "wrong":
        return "wrong_language"
    return "answered"


def wrong_answers(sampled: Sampled) -> list[Judged]:
    """The candidate's greedy answer where it is wrong, and its wrong fresh samples."""
    side = sampled.case.pair.candidate
    greedy = Judged({}, side.outcome, side.output, side.extracted, side.why)
    return [greedy] * ((side.score or 0.0) < _HALF) + list(sampled.candidate.wrong)


class Searcher:
    """The search for golds, with what it needs of each task remembered."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._usable: dict[str, bool] = {}
        self._golds: dict[tuple[str, object], Golds] = {}

    def usable(self, case: Case) -> bool:
        """Whether the task has short golds: decided on the first of its items that is asked about."""
        task = case.candidate.task
        if task.name not in self._usable:
            self._usable[task.name] = is_searchable(task, case.item, case.pair.metric)
        return self._usable[task.name]

    def search(self, case: Case, outputs: Sequence[str]) -> Present | None:
        """How often the item's gold is in these outputs. None: it cannot be told."""
        if not outputs or not self.usable(case):
            return None
        key = (case.pair.task, case.item.key)
        if key not in self._golds:
            self._golds[key] = golds_of(case.item, case.candidate.items, self._options.seed)
        return present(outputs, self._golds[key])

    def is_format(self, found: Present | None) -> bool:
        return found is not None and found.found / found.n > _HALF and found.p_value <= self._options.alpha


def deliver(
    lost: Sequence[Triaged], candidate: Side, options: Options, ledger: Ledger, searcher: Searcher
) -> list[Delivered]:
    """The delivery of each lost flip, in order; asks one round for those that were cut off."""
    kinds = [_kinds(t.sampled) for t in lost]
    again = {i: _larger(t.sampled.case, candidate, options, ledger) for i, t in enumerate(lost) if _is_cut(kinds[i])}
    ledger.ask(ROUND, (q.request for q in again.values() if q is not None))
    made = []
    for i, triaged in enumerate(lost):
        case, asked = triaged.sampled.case, again.get(i)
        drawn = None if asked is None else drawn_of(asked, case.pair.metric, ledger)
        if asked is not None and drawn is not None and not drawn.judged:
            ledger.note("no answer with a larger budget", where=case.where)
        made.append(_decide(triaged, kinds[i], drawn, options, searcher))
    return made


def _kinds(sampled: Sampled) -> Counter[str]:
    question = question_of(sampled.case.candidate.task, sampled.case.item).text
    return Counter(kind_of(j, question) for j in wrong_answers(sampled))


def _is_cut(kinds: Counter[str]) -> bool:
    return kinds["truncated"] > _HALF * kinds.total()


def _decide(
    triaged: Triaged, kinds: Counter[str], drawn: Drawn | None, options: Options, searcher: Searcher
) -> Delivered:
    total, case = kinds.total(), triaged.sampled.case
    for kind in _SURE_KINDS:
        if kinds[kind] > _HALF * total:
            return Delivered(kind, kinds, None, None, f"{kinds[kind]} of {total} wrong answers are of this kind.")
    budget = None
    outputs = [j.output for j in wrong_answers(triaged.sampled)]
    if drawn is not None and drawn.judged:
        budget = _budget_try(drawn, triaged, options)
        if budget.recovered:
            why = f"{kinds['truncated']} of {total} wrong answers were cut off; with {options.budget_factor} times the "
            why += f"budget {budget.count.right} of {budget.count.n} are right."
            return Delivered("truncated", kinds, None, budget, why)
        # A longer answer shows what the cut hid.
        outputs = [j.output for j in drawn.wrong] or outputs
    found = searcher.search(case, outputs)
    if found is not None and searcher.is_format(found):
        why = f"{found.found} of {found.n} wrong answers hold the right one (by accident: p = {found.p_value:.2g})."
        return Delivered("format", kinds, found, budget, why)
    return Delivered(None, kinds, found, budget, "")


def _budget_try(drawn: Drawn, triaged: Triaged, options: Options) -> Try:
    from scipy.stats import binom

    count, own = drawn.count, triaged.stability.candidate_rate
    p_value = float(binom.sf(count.right - 1, count.n, own))
    example = next((j.output for j in drawn.judged if drawn.is_right(j)), drawn.judged[0].output)
    recovered = count.rate >= _HALF and p_value <= options.alpha
    return Try("budget", count, own, 0, p_value, recovered, example)


def _larger(case: Case, candidate: Side, options: Options, ledger: Ledger) -> Question | None:
    """The item with a larger budget, as far as the context has room. None: it has none."""
    job = case.candidate
    limit = job.max_tokens if job.max_tokens is not None else job.task.prompt(case.item, job.num_fewshot).max_tokens
    context = context_length(candidate.point)
    wanted = limit * options.budget_factor
    budget = wanted if context is None else min(wanted, context - _prompt_room(case))
    if budget < 2 * limit:
        ledger.note("the context has no room for a larger budget", where=case.where)
        return None
    try:
        return fresh(job, case.item, candidate, options, samples=options.budget_samples, turn=_TURN, max_tokens=budget)
    except UsageError as error:
        ledger.note(f"no larger budget: {error}", where=case.where)
        return None


def _prompt_room(case: Case) -> int:
    """Tokens to leave for the prompt: its characters, since a token is mostly more than one of them."""
    return len(case.pair.candidate_prompt or case.pair.prompt or "") + 16


def context_length(point: Checkpoint) -> int | None:
    """Of prompt and answer together, in tokens, as config.json or the engine's arguments say. None: not known."""
    given = point.spec.served.engine_args.get("max_length")
    config = point.config.get("text_config") or point.config
    limits = [given, *(config.get(k) for k in ("n_positions", "max_position_embeddings", "n_ctx"))]
    return next((int(v) for v in limits if isinstance(v, int) and not isinstance(v, bool)), None)
