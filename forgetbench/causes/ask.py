"""Which items can be asked again, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from forgetbench.causes.types import Count, Direction, Options
from forgetbench.errors import UsageError
from forgetbench.ledger import Ledger
from forgetbench.rounds import Question, Side, question
from forgetbench.types import Decode, Item, ItemKey, Judged, Style, View

if TYPE_CHECKING:
    from forgetbench.analysis.types import Pair
    from forgetbench.planning.plan import TaskJob

_HALF = 0.5


def place(task: str, view: View) -> str:
    """Where a note holds."""
    return f"{task} ({view})"


@dataclass(frozen=True, slots=True)
class Case:
    """One item under one view: a flip, or a control that did not flip."""

    pair: Pair
    item: Item
    base: TaskJob
    candidate: TaskJob
    direction: Direction | None
    """None: a control."""

    @property
    def key(self) -> tuple[ItemKey, View]:
        return self.item.key, self.pair.view

    @property
    def group(self) -> tuple[str, View]:
        return self.pair.task, self.pair.view

    @property
    def where(self) -> str:
        """For notes."""
        return place(*self.group)

    @property
    def right(self) -> bool:
        """Of a control: right on both sides."""
        return (self.pair.base.score or 0.0) >= _HALF

    @property
    def kind(self) -> str:
        """Cases of a kind were selected in the same way."""
        return self.direction or ("right" if self.right else "wrong")


@dataclass(frozen=True, slots=True)
class Drawn:
    """Fresh samples of one side: what the task made of each, and how many it has right."""

    judged: tuple[Judged, ...]
    metric: str

    @property
    def count(self) -> Count:
        return Count(sum(self.is_right(j) for j in self.judged), len(self.judged))

    def is_right(self, judged: Judged) -> bool:
        return judged.scores[self.metric] >= _HALF

    @property
    def wrong(self) -> tuple[Judged, ...]:
        return tuple(j for j in self.judged if not self.is_right(j))

    def and_more(self, other: Drawn) -> Drawn:
        return Drawn(self.judged + other.judged, self.metric)


def drawn_of(asked: Question, metric: str, ledger: Ledger) -> Drawn:
    """What came back; samples without a score of the metric are left out."""
    judged = asked.judged(ledger.answers)
    return Drawn(tuple(j for j in judged if metric in j.scores), metric)


def fresh(
    job: TaskJob,
    item: Item,
    side: Side,
    options: Options,
    *,
    samples: int,
    turn: int = 0,
    max_tokens: int | None = None,
    num_fewshot: int | None = None,
) -> Question:
    """The item asked as the job asks it, with fresh samples. `turn`: another one draws others. Raises UsageError."""
    decode = Decode(options.temperature, job.decode.top_p, samples)
    replicate = options.replicate + turn
    return question(
        job, item, side.point, decode=decode, max_tokens=max_tokens, num_fewshot=num_fewshot, replicate=replicate
    )


def why_not(job: TaskJob, item: Item) -> str | None:
    """Why an item cannot be sampled, or None."""
    try:
        spec = job.task.prompt(item, job.num_fewshot)
    except UsageError as error:
        return str(error)
    if spec.form != "generate":
        return "its answers are ranked or read, not generated: there is nothing to sample"
    if spec.also:
        return "it asks several questions at once, and only one can be sampled"
    return None


def other_style(side: Side, job: TaskJob) -> TaskJob | None:
    """The job's task in the other style: as the suite asks it, else with the task's own default. None: it cannot be."""
    from forgetbench.planning.deployment import bind
    from forgetbench.tasks.base import in_style

    style: Style = "chat" if job.style == "raw" else "raw"
    for known in side.jobs:
        if (known.task.name, known.style, known.decode.temperature) == (job.task.name, style, 0.0):
            return side.job(known.task.name, known.view)
    if style == "chat" and not side.point.has_chat_template:
        return None
    inner = getattr(job.task, "task", job.task)
    shots = getattr(inner, "default_num_fewshot", {}).get(style, 0)
    try:
        task = bind(in_style(job.task, style), style, side.point, job.max_tokens)
    except UsageError:
        return None
    view: View = "chat" if style == "chat" else "ability"
    return replace(job, task=task, view=view, style=style, num_fewshot=shots)


def examples_of(judged: Sequence[Judged], limit: int = 3) -> tuple[str, ...]:
    """The most frequent outputs, each once."""
    return tuple(text for text, _ in Counter(j.output for j in judged).most_common(limit))
