"""Rejection sampling: N answers to an item, and the best one kept as training data (`forgetbench sample --best-of N`).

Items come from a custom set, or are the prompts of training files with their answers as references. Each answer is
scored by the item's own scorer. Of several right ones the *first* is kept, not the shortest or the most likely: it is a
plain draw from the model's right answers, and every other rule would teach a bias of its own. An answer that was cut at
its token limit is never kept, however right, since it would teach not to stop. Items without a right answer are listed
and left out, so what is kept is easier than what was asked: the report says by how much, per task_type.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from forgetbench.analysis.leaks import SHORTEST, plain, words
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning.plan import TaskJob
from forgetbench.planning.render import chat_messages
from forgetbench.rounds import question
from forgetbench.runs.assemble import judge
from forgetbench.scoring.outcome import judge_each, outcome_of
from forgetbench.scoring.scorers import TEXT_SCORERS, Normalise, Reference
from forgetbench.tasks.base import Task
from forgetbench.tasks.items import KeyMaker
from forgetbench.tasks.questions import question_of
from forgetbench.training.asking import Ask
from forgetbench.training.check.rows import UNTYPED, Row
from forgetbench.types import Decode, Generate, Generation, Item, ItemKey, Judged, Message, PromptSpec, Response, Style

REPLICATE = 200
"""Of sampling seeds, plus the user's seed: no sample is one of a comparison's or a probe's."""
_POINTS_AT_OPTIONS = frozenset(
    words(
        "which what of the following these those above below is are isn't aren't was were not true false correct "
        "incorrect right wrong best most least except one ones statement statements option options answer answers "
        "choice choices sentence sentences select choose pick a an all only in on to about and or that please "
        "下列以下面上述哪一个几项些种句说法叙陈述选择选项答案中是为的正确错误不对最符合属于关有请出找与和或"
    )
)
"""Words, and Chinese characters, of a question that its options alone make one."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The best answer to one item."""

    item: Item
    messages: tuple[Message, ...]
    """What was asked, without worked examples."""
    answer: str
    score: float
    seed: int
    sample: int
    right: int
    """How many of the tried answers were right."""
    tried: int
    why: str


class Without(NamedTuple):
    """An item that nothing was kept of."""

    item: Item
    why: str


@dataclass(frozen=True, slots=True)
class BestOf:
    kept: tuple[Kept, ...]
    without: tuple[Without, ...]
    """No right answer, or the engine failed."""
    in_suite: tuple[Item, ...]
    """Left out because the evaluation asks them."""

    @property
    def by_type(self) -> dict[str, tuple[int, int]]:
        """(kept, asked) of each task_type."""
        counts: dict[str, tuple[int, int]] = {}
        for items, k in (([r.item for r in self.kept], 1), ([w.item for w in self.without], 0)):
            for item in items:
                kept, asked = counts.get(item.task_type, (0, 0))
                counts[item.task_type] = kept + k, asked + 1
        return dict(sorted(counts.items()))


class TrainingPrompts:
    """The prompts of training examples as a task, scored against the answers that the file has."""

    version = "1"
    metrics: tuple[str, ...] = ("correct",)
    binary = True

    def __init__(self, name: str, rows: Sequence[Row], scorer: str, *, max_tokens: int = 256) -> None:
        """rows: of which those that ask and answer are taken. Raises UsageError for an unknown scorer."""
        if scorer not in TEXT_SCORERS:
            raise UsageError("--scorer", f"'{scorer}' is unknown", f"use one of {', '.join(TEXT_SCORERS)}")
        self.name, self._scorer, self._max_tokens = name, scorer, max_tokens
        key_of = KeyMaker(name)
        self._rows: dict[ItemKey, Row] = {}
        self._answers: dict[ItemKey, list[str]] = {}
        items = []
        for row in rows:
            if row.plain or not (row.answer or "").strip() or not row.prompt.strip():
                continue
            task_type = row.task_type or UNTYPED
            doc = {"task_type": task_type, "prompt": row.prompt}
            key = key_of(doc)
            if key.occurrence:  # a prompt that stands twice is asked once, and either answer is right
                self._answers[replace(key, occurrence=0)].append(row.answer or "")
                continue
            self._answers[key] = [row.answer or ""]
            self._rows[key] = row
            items.append(Item(key, task_type, doc, row.answer or "", "", source=row.where))
        self._items = tuple(items)

    def load(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        turns = self._rows[item.key].turns
        last = max(i for i, t in enumerate(turns) if t.role == "assistant")
        messages = tuple(Message(t.role, t.text) for t in turns[:last] if t.role in ("system", "user", "assistant"))  # type: ignore[arg-type]
        text = str(item.doc["prompt"])
        return PromptSpec(
            "generate",
            f"Q: {text}\nA:",
            messages=messages if messages and messages[-1].role == "user" else (Message("user", text),),
            stop=("\nQ:",),
            max_tokens=self._max_tokens,
        )

    def score(self, item: Item, response: Response) -> list[Judged]:
        reference = Reference(tuple(self._answers[item.key]))

        def judged(generation: Generation) -> Judged:
            match = TEXT_SCORERS[self._scorer](generation.text, reference, Normalise())
            outcome = outcome_of(
                generation.text,
                correct=match.correct,
                extracted=match.extracted,
                finish_reason=generation.finish_reason,
                refusal_wanted=False,
            )
            return Judged({"correct": float(match.correct)}, outcome, generation.text, match.extracted, match.why)

        return judge_each(response, judged)

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        return None


def question_hash(text: str, choices: Sequence[str] = ()) -> str:
    """Of a question's content: case, width and blanks aside."""
    return hashlib.sha256("\n".join(plain(t) for t in (text, *choices)).encode("utf-8", "surrogatepass")).hexdigest()


def suite_hashes(tasks: Sequence[Task]) -> frozenset[str]:
    """Of all questions of a suite, selected or not, and the content hashes of their items.

    A question with options counts without them too, where its text says by itself what is asked and no other item of
    the suite has it with other options.
    """
    found: set[str] = set()
    options: dict[str, set[str]] = {}
    for task in tasks:
        for item in task.load():
            text, choices = question_of(task, item)
            whole = question_hash(text, choices)
            found |= {item.key.content_hash, whole}
            if choices and _says_enough(text):
                options.setdefault(question_hash(text), set()).add(whole)
    return frozenset(found | {alone for alone, wholes in options.items() if len(wholes) == 1})


def _says_enough(text: str) -> bool:
    """Whether a question is one without its options. "Which of the following is true?" needs them, and so may what is
    shorter than SHORTEST words (a Chinese character is one)."""
    said = words(text)
    return len(said) >= SHORTEST and not set(said) <= _POINTS_AT_OPTIONS


def _hashes(task: Task, item: Item) -> set[str]:
    """What an item may be known to a suite by. Its document can hold more than was asked last, such as a system turn,
    so of a chat the last user turn and all of them count too; and a question without its options, as in `suite_hashes`.
    """
    text, choices = question_of(task, item)
    said = [m.content for m in task.prompt(item, 0).messages or () if m.role == "user"]
    texts = {text, *said[-1:], "\n\n".join(said) or text}
    alone = {question_hash(t) for t in texts if choices and _says_enough(t)}
    return {item.key.content_hash, *(question_hash(t, choices) for t in texts), *alone}


def best_of(
    task: Task,
    point: Checkpoint,
    ask: Ask,
    n: int,
    *,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
    suite: Collection[str] = (),
) -> BestOf:
    """n answers to each item and the best of them. In chat where the model has a template, else raw.

    suite: `suite_hashes` of what the evaluation asks; such items are left out. The score is the task's first metric;
    1 is right. Raises UsageError where an item ranks options or has no scorer, and for n or a temperature out of range.
    """
    if n < 1:
        raise UsageError("--best-of", f"is {n}", "use 1 or more")
    if temperature <= 0:
        raise UsageError("--temperature", f"is {temperature:g}", "use more than 0: greedy answers are all the same")
    if not task.metrics:
        raise UsageError(f"set '{task.name}'", "has no scorer, so no answer is better than another", "name a scorer")
    known = frozenset(suite)
    items: list[Item] = []
    in_suite: list[Item] = []
    for item in task.load():
        (in_suite if _hashes(task, item) & known else items).append(item)
    for item in items:
        if task.prompt(item, 0).form != "generate":
            problem = "ranks options, so there is no answer to keep"
            raise UsageError(
                f"item {item.key} ({item.source})", problem, "use a set whose items are answered with a text"
            )
    style: Style = "chat" if point.has_chat_template else "raw"
    decode = Decode(temperature, top_p, n)
    shots = getattr(task, "default_num_fewshot", {}).get(style, 0)
    job = TaskJob(task, items, "as_used", style, num_fewshot=shots, decode=decode)
    made = [(item, question(job, item, point, replicate=REPLICATE + seed)) for item in items]
    answers = ask([q.request for _, q in made])
    kept: list[Kept] = []
    without: list[Without] = []
    for item, q in made:
        response = answers.get(q.request.request_id)
        if response is None or not response.generations:
            without.append(Without(item, "the engine failed on it"))
            continue
        judged = judge(task, item, response, n)
        body = q.request.body
        assert isinstance(body, Generate)
        one = _best(task, item, judged, response.generations, body.seeds)
        if one is None:
            without.append(Without(item, _why(task, judged, response.generations)))
        else:
            kept.append(one)
    return BestOf(tuple(kept), tuple(without), tuple(in_suite))


def lines(found: BestOf, point: Checkpoint, decode_id: str) -> list[dict[str, Any]]:
    """Chat training data, one line an item, with where each answer came from."""
    return [
        {
            **({} if k.item.task_type == UNTYPED else {"task_type": k.item.task_type}),
            "messages": [
                *({"role": m.role, "content": m.content} for m in k.messages),
                {"role": "assistant", "content": k.answer},
            ],
            "provenance": {
                "source": k.item.source,
                "item": str(k.item.key),
                "model": point.alias,
                "digest": point.digest,
                "decode": decode_id,
                "seed": k.seed,
                "sample": k.sample,
                "score": k.score,
                "right": k.right,
                "tried": k.tried,
            },
        }
        for k in found.kept
    ]


def _best(
    task: Task, item: Item, judged: Sequence[Judged], generations: Sequence[Generation], seeds: Sequence[int]
) -> Kept | None:
    metric = task.metrics[0]
    scores = [j.scores.get(metric, 0.0) if _whole(j, g) else 0.0 for j, g in zip(judged, generations, strict=True)]
    right = sum(s >= 1.0 for s in scores)
    if not right:
        return None
    at = max(range(len(scores)), key=lambda i: (scores[i], -i))
    spec = replace(task.prompt(item, 0), shots=())
    messages = chat_messages(spec)
    if spec.messages is None and spec.chat_question is None:
        asked = question_of(task, item)
        messages = (Message("user", asked.text),)
    answer = generations[at].text.strip()
    return Kept(item, messages, answer, scores[at], seeds[at], at, right, len(scores), judged[at].why)


def _whole(judged: Judged, generation: Generation) -> bool:
    """Whether the answer is one that a model should learn to give."""
    return generation.finish_reason == "stop" and judged.outcome == "ok" and bool(generation.text.strip())


def _why(task: Task, judged: Sequence[Judged], generations: Sequence[Generation]) -> str:
    cut = sum(
        j.scores.get(task.metrics[0], 0.0) >= 1.0 and g.finish_reason != "stop"
        for j, g in zip(judged, generations, strict=True)
    )
    if cut:
        return f"{cut} of {len(judged)} right answers were cut at the token limit, and no whole one is right"
    return f"none of {len(judged)} answers is right, such as: {judged[0].why}"
