"""Which items have something to believe, and what the base and the candidate answer to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from forgetbench.belief.agreement import Agree, normal
from forgetbench.belief.classify import modal_answer
from forgetbench.belief.prompts import FewShotDraw, order_of
from forgetbench.belief.types import Answer, Options
from forgetbench.ledger import Ledger
from forgetbench.rounds import Question, Side, question
from forgetbench.tasks.mmlu import Mmlu
from forgetbench.tasks.open_questions import OpenQuestions
from forgetbench.tasks.registry import CODE_TASKS
from forgetbench.types import Decode, Item, ItemKey, Judged

if TYPE_CHECKING:
    from forgetbench.analysis.types import Comparison
    from forgetbench.planning.plan import TaskJob

_NOTHING_BELIEVED = CODE_TASKS | {"ifeval"}
"""Programs and instructions: two right answers need have nothing in common."""
CLASSING, FRESH_BASE, FRESH_CANDIDATE = 100, 10_000, 20_000
"""First replicate of each kind of sample. Two sides of one checkpoint still draw apart."""


@dataclass(frozen=True, slots=True)
class Case:
    """One item, and how it is asked."""

    item: Item
    raw: TaskJob
    """Raw and few-shot: what the belief is asked by."""
    base: TaskJob
    """As the candidate is asked, where the base can be asked so; else raw. The floor's."""
    candidate: TaskJob


def cases_of(base: Side, candidate: Side, comparison: Comparison, options: Options, ledger: Ledger) -> list[Case]:
    """The items that both sides can be asked, at most `max_items` a task; what is left out is noted."""
    found: list[Case] = []
    is_open = any(isinstance(_inner(job.task), OpenQuestions) and job.view == options.view for job in candidate.jobs)
    for asked in candidate.jobs:
        name = asked.task.name
        if asked.decode.temperature:  # --samples: the same items a second time
            continue
        if asked.view != options.view or (options.tasks is not None and name not in options.tasks):
            continue
        mine, raw = candidate.job(name, options.view), base.job(name, "ability")
        reason = _unaskable(base, candidate, asked, mine, raw)
        if is_open and isinstance(_inner(asked.task), Mmlu):
            reason = "its open questions are in the suite as a task of their own"
        if mine is None or raw is None or reason:
            ledger.note(reason, len(asked.items), where=name)
            continue
        floor = base.job(name, options.view)
        if floor is None:
            why = f"the base is not asked in the {options.view} view, so that its floor is raw"
            ledger.note(why, len(raw.items), where=name)
            floor = raw
        shared = _paired(comparison, mine) & {item.key for item in raw.items}
        raw, floor, mine = (_open(job, shared) for job in (raw, floor, mine))
        items = sorted(mine.items, key=lambda item: order_of(item.key, options.seed))
        generated = [item for item in items if raw.task.prompt(item, 0).form == "generate" and item.gold.strip()]
        if len(generated) < len(items):
            why = "nothing is generated, only ranked, or there is no gold"
            ledger.note(why, len(items) - len(generated), where=name)
        if len(generated) > options.max_items:
            why = f"a random {options.max_items:,} a task were asked for beliefs; left out"
            ledger.note(why, len(generated) - options.max_items, where=name)
        found += [Case(item, raw, floor, mine) for item in generated[: options.max_items]]
    return found


def _unaskable(base: Side, candidate: Side, asked: TaskJob, mine: TaskJob | None, raw: TaskJob | None) -> str:
    name = asked.task.name
    if "imported" in (base.point.spec.engine, candidate.point.spec.engine):
        return "an imported run has no checkpoint that could be asked"
    if name in _NOTHING_BELIEVED:
        return "programs and instructions are no beliefs"
    if not asked.task.binary and not isinstance(_inner(asked.task), Mmlu):
        return "its answers are not right or wrong"
    if mine is None:
        return f"the candidate cannot be asked in the {asked.view} view"
    return "the base is not asked raw (view ability), which its belief is asked by" if raw is None else ""


def _inner(task: object) -> object:
    return getattr(task, "task", task)


def _open(job: TaskJob, shared: set[ItemKey]) -> TaskJob:
    """The job on the shared items; MMLU's without its options."""
    items = tuple(item for item in job.items if item.key in shared)
    inner = _inner(job.task)
    if not isinstance(inner, Mmlu):
        return replace(job, items=items)
    task = OpenQuestions(inner)
    return replace(job, task=task, items=task.opened(items), max_tokens=None, stop=None)


def _paired(comparison: Comparison, job: TaskJob) -> set[ItemKey]:
    """Keys of the job's items that the comparison paired; all where it holds none of the task."""
    known = [s for s in comparison.scores if (s.task, s.view) == (job.task.name, job.view)]
    own = {item.key for item in job.items}
    return own & {key for s in known for key in s.keys} if known else own


@dataclass
class Drawing:
    """Makes the questions that are asked with worked examples drawn anew."""

    options: Options
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)

    def classing(self, case: Case, side: Side) -> tuple[list[Question], list[Question]]:
        """(greedy, sampled) of each draw. Draws that end in one prompt share one greedy question."""
        shots, draws = case.raw.num_fewshot or self.options.shots, range(self.options.draws)
        greedy = [self._question(case.raw, case.item, side, draw, shots) for draw in draws]
        decode = Decode(self.options.temperature, n=self.options.samples)
        sampled = [self._question(case.raw, case.item, side, d, shots, decode, CLASSING + d) for d in draws]
        return list({q.request.request_id: q for q in greedy}.values()), sampled

    def fresh(self, job: TaskJob, item: Item, side: Side, first: int) -> list[Question]:
        """Sampled, as the job asks the item but for the draw of its examples; none of these classed the item."""
        draws = range(self.options.draws, self.options.draws + self.options.fresh)
        decode = Decode(self.options.temperature)
        return [self._question(job, item, side, d, job.num_fewshot, decode, first + d) for d in draws]

    def again(self, case: Case, side: Side) -> Question:
        """Raw and few-shot, greedy, with a draw of examples that no other question has."""
        shots = case.raw.num_fewshot or self.options.shots
        return self._question(case.raw, case.item, side, self.options.draws + self.options.fresh, shots)

    def _question(
        self,
        job: TaskJob,
        item: Item,
        side: Side,
        draw: int,
        shots: int,
        decode: Decode = Decode(),  # noqa: B008 - frozen
        replicate: int = 0,
    ) -> Question:
        sizes = self.sizes.setdefault(f"{job.task.name}/{job.style}", {})
        return question(
            replace(job, task=FewShotDraw(job.task, draw, self.options.seed, sizes)),
            item,
            side.point,
            decode=decode,
            max_tokens=self.options.max_tokens,
            num_fewshot=shots,
            replicate=replicate,
        )


def modal_fresh(answers: Sequence[Answer], item: Item, agree: Agree) -> Answer | None:
    """A side's answer: the modal one of its fresh answers. None: most of them are no answers."""
    given = [a for a in answers if a.text is not None]
    return modal_answer(given, item, agree)[0] if 2 * len(given) > len(answers) else None


def answers_to(asked: Sequence[Question], ledger: Ledger) -> list[Answer]:
    """What the task makes of every answer that came back."""
    return [answer_of(j, q.job.task.metrics[0]) for q in asked for j in q.judged(ledger.answers)]


def answer_of(judged: Judged, metric: str) -> Answer:
    """What was answered; an answer that was refused or cut off is none, unless it is right all the same."""
    correct = judged.scores.get(metric) == 1.0
    text = (judged.extracted or "").strip()
    if not text or (judged.outcome != "ok" and not correct):
        return Answer(None, correct)
    output = judged.output
    written = output.strip()
    surface = written if normal(written) == normal(text) else text
    return Answer(text, correct, surface, output[: len(output) - len(output.lstrip())])


def usable(questions: Mapping[ItemKey, Sequence[Question]], ledger: Ledger) -> dict[ItemKey, list[Answer]]:
    """Answers by item; an item without any is noted and left out."""
    found = {key: answers_to(asked, ledger) for key, asked in questions.items()}
    missing = sum(not answers for answers in found.values())
    if missing:
        ledger.note("no answer could be had", missing)
    return {key: answers for key, answers in found.items() if answers}
