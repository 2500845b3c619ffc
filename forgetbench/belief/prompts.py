"""An item asked in other words: other worked examples, its statement, given options. Each wraps a task.

What a task makes of an answer stays as it is; only the prompt changes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from forgetbench.errors import UsageError
from forgetbench.tasks.base import Task
from forgetbench.types import Item, ItemKey, Judged, PromptSpec, Response, Style

POOL = 4
"""A draw takes its examples from up to so many times as many as it shows."""


class Rewritten:
    """A task whose prompts a subclass rewrites."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name, self.version = task.name, task.version
        self.metrics, self.binary = task.metrics, task.binary

    def load(self) -> Sequence[Item]:
        return self.task.load()

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        return self.task.prompt(item, num_fewshot)

    def score(self, item: Item, response: Response) -> list[Judged]:
        return self.task.score(item, response)

    def canonical(self, doc: Mapping[str, object]) -> ItemKey | None:
        return self.task.canonical(doc)


class FewShotDraw(Rewritten):
    """One draw of worked examples: which ones and in which order is fixed by item, draw and seed."""

    def __init__(self, task: Task, draw: int, seed: int, sizes: dict[str, int]) -> None:
        """sizes: how many examples an item of a stratum can have, found once and shared by all draws."""
        super().__init__(task)
        self._draw, self._seed, self._sizes = draw, seed, sizes

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        """As the task's own where it has no examples to draw from: none, or some that it writes into its question
        itself (lm-eval's tasks, whose own number is OWN_SHOTS, below 0)."""
        own = None
        try:
            own = self.task.prompt(item, num_fewshot)
        except UsageError:  # so many are not there: as many as there are
            if num_fewshot <= 0:
                raise
        if own is not None and (num_fewshot <= 0 or not own.shots):
            return own
        spec = self._widest(item, num_fewshot)
        count = min(num_fewshot, len(spec.shots))
        tag = f"{self._seed}/{self._draw}/{item.key}"
        return replace(spec, shots=tuple(random.Random(tag).sample(spec.shots, count)))

    def _widest(self, item: Item, num_fewshot: int) -> PromptSpec:
        group = f"{item.task_type}/{item.stratum}/{num_fewshot}"
        for count in range(self._sizes.get(group, POOL * num_fewshot), 0, -1):
            try:
                spec = self.task.prompt(item, count)
            except UsageError:
                continue
            self._sizes[group] = count
            return spec
        self._sizes[group] = 0
        return self.task.prompt(item, 0)


class Continuation(Rewritten):
    """The item's `statement`, to be continued, where it has one; else its question without any example."""

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        spec = self.task.prompt(item, 0)
        statement = item.doc.get("statement")
        if not isinstance(statement, str):
            return spec
        return PromptSpec(form="generate", question=statement.rstrip(), stop=("\n",), max_tokens=spec.max_tokens)


class Ranked(Rewritten):
    """The item with given answers to rank, each as a checkpoint would write it after the prompt."""

    def __init__(self, task: Task, answers: Sequence[str], lead: str, style: Style) -> None:
        """lead: the blanks that answers begin with. Not always the task's delimiter: after TruthfulQA's question
        comes a line end, which the checkpoint writes itself."""
        super().__init__(task)
        self._choices, self._style = tuple(lead + answer for answer in answers), style

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        spec = replace(self.task.prompt(item, num_fewshot), form="rank", choices=self._choices, stop=(), also=())
        if self._style == "chat" and not spec.plain:
            return spec
        # Raw text has the delimiter before every choice: it goes into the examples' answers.
        shots = tuple(replace(shot, answer=spec.answer_delimiter + shot.answer) for shot in spec.shots)
        return replace(spec, shots=shots, answer_delimiter="")


def order_of(key: ItemKey, seed: int) -> bytes:
    """What items are sorted by where only some are taken: a larger limit keeps those of a smaller one."""
    return hashlib.sha256(f"{seed}/{key}".encode()).digest()
