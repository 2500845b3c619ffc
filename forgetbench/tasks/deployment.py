"""The deployment preset: any task that generates, asked and read as a shipped model is.

    parity      (default) lm-eval's exact token limits and stop strings; what is published with them
    deployment  - an equal, long budget for both checkpoints: `BUDGET` new tokens, or the task's `max_tokens`
                - thinking between the template's tags is taken off before scoring (scoring/thinking.py); a
                  block that never ends is `truncated`, whatever the finish reason
                - stop strings: see below
                - each answer is flagged `looped`, `wrong_language`, `thought` (Record.extra), which are
                  counted beside unparsed, truncated and refused, and change no score

Stop strings. In chat a turn ends with the template's own token, and lm-eval's strings only cut answers, so
they are dropped: GSM8K's "Question:" (a model that restates the question loses its answer), IFEval's and
TruthfulQA's blank lines, a custom set's default. They stay where they are what ends an answer: in raw style,
where a base model would go on with the next question, and under an assistant prefill (a code fence that the
task opened). What the suite itself sets as `stop` always holds. Ranked items are passed through unchanged.

The version carries the preset; tags and template are the checkpoint's, whose digest is in the identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from forgetbench.scoring.language import language
from forgetbench.scoring.loops import find_loop
from forgetbench.scoring.outcome import broken_logprobs
from forgetbench.scoring.thinking import COMMON, Split, Tags, split_thinking
from forgetbench.tasks.base import Task, in_style
from forgetbench.types import Generation, Item, ItemKey, Judged, PromptSpec, Response, Style

BUDGET = 4096
"""New tokens for an answer with its thinking, where the suite sets no `max_tokens`."""
FORMAT = "1"
"""Version of this file's rules; part of the identity of results."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a checkpoint is asked: what the wrapper has to know of it."""

    style: Style = "raw"
    tags: tuple[Tags, ...] = COMMON
    opened: Tags | None = None
    """The tag that the template writes at the end of the prompt."""


def deploy(task: Task) -> Task:
    """The task under the deployment preset; one that only ranks is the same under both."""
    generates = any(task.prompt(item, 0).form != "rank" for item in task.load())
    return Deployment(task) if generates else task


class Deployment:
    """A task under the deployment preset; see the module's docstring."""

    def __init__(self, task: Task, asked: Asked | None = None) -> None:
        self.task = task
        self.asked = asked or Asked()
        self.name = task.name
        self.version = f"{task.version}+deployment{FORMAT}-{BUDGET}"
        self.metrics = task.metrics
        self.binary = task.binary

    def under(self, asked: Asked) -> Deployment:
        """The same task for a checkpoint and style."""
        return Deployment(self.task, asked)

    def in_style(self, style: Style) -> Deployment:
        return Deployment(in_style(self.task, style), self.asked)

    def load(self) -> Sequence[Item]:
        return self.task.load()

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        spec = self.task.prompt(item, num_fewshot)
        if spec.form == "rank":
            return spec
        keeps_stops = self.asked.style == "raw" or spec.prefill
        return replace(spec, stop=spec.stop if keeps_stops else (), max_tokens=max(BUDGET, spec.max_tokens))

    def score(self, item: Item, response: Response) -> list[Judged]:
        """The task's own scores of what is left without the thinking; raw outputs and flags beside them."""
        if response.error is not None or not response.generations:
            return self.task.score(item, response)
        splits = [self._split(item, g) for g in response.generations]
        # Log-probabilities stay those of thinking and answer: a broken one is for the task to see.
        answers = tuple(replace(g, text=s.answer) for g, s in zip(response.generations, splits, strict=True))
        judged = self.task.score(item, replace(response, generations=answers))
        question = self._question(item)
        return [self._flagged(j, g, s, question) for j, g, s in zip(judged, response.generations, splits, strict=True)]

    def _split(self, item: Item, generation: Generation) -> Split:
        return split_thinking(generation.text, self.asked.tags, self.asked.opened)

    def _question(self, item: Item) -> str:
        spec = self.task.prompt(item, 0)
        if spec.messages is not None:
            return next((m.content for m in reversed(spec.messages) if m.role == "user"), "")
        return spec.chat_question or spec.question

    def _flagged(self, judged: Judged, generation: Generation, split: Split, question: str) -> Judged:
        if judged.outcome == "infra_error" or broken_logprobs(generation.logprobs):
            return judged
        loop = find_loop(generation.text)
        extra: dict[str, Any] = {
            **judged.extra,
            "looped": loop is not None,
            "wrong_language": language(question, split.answer) == "wrong",
            "thought": split.has_thinking,
        }
        if loop is not None:
            extra["loop"] = {"unit": loop.unit[:200], "repeats": round(loop.repeats, 1), "end": loop.end}
        why, outcome = judged.why, judged.outcome
        if not split.closed:
            outcome = "truncated"
            why = f"The thinking never ended, so no answer followed it. {why}"
        elif split.has_thinking:
            why = f"Without its {len(split.thinking):,} characters of thinking: {why}"
        return replace(judged, output=generation.text, why=why, outcome=outcome, extra=extra)

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        return self.task.canonical(doc)
