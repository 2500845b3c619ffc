"""Other texts asked in the way that an item is asked: its worked examples, its format, its template.

Everything that a probe asks goes through a *host*: an item of a task and how both sides ask it. The host's prompt is
made as always, and the text of its question replaced in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from forgetbench.analysis.leaks import Words, words
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning.plan import TaskJob
from forgetbench.probing.modal import normal
from forgetbench.probing.types import Answered, Variant
from forgetbench.probing.variants import is_cjk
from forgetbench.rounds import Asker, Question, Side, question
from forgetbench.tasks.base import Task
from forgetbench.tasks.items import KeyMaker
from forgetbench.tasks.questions import question_of
from forgetbench.types import Decode, Item, ItemKey, Judged, Message, Outcome, PromptSpec, Response, View

ROUND = "probe"
REPLICATE = 100
"""Of sampling seeds, so that no sample of a probe is one of the comparison's."""
RAW_STOP = ("\nQ:", "\n\n")
"""Where an answer to `Q: ... A:` ends: a checkpoint without a template goes on with questions of its own."""
_SHORT = 30
"""Words of an output that is an answer as it stands; of a longer one what the task extracts is."""
_GREETINGS = tuple(map(words, ("对不起", "不好意思", "抱歉", "很抱歉", "非常抱歉", "不客气", "不用谢", "你好", "您好")))
_NEITHER = tuple(
    words(phrase)
    for phrase in (
        *("对于", "对比", "对吗", "是否", "是不", "是吗", "是谁", "是哪", "是什么", "是个好问题", "否则", "no idea"),
        *("不知", "不清楚", "不太清楚", "不确定", "不太确定", "不能确定", "不能判断", "不能回答", "不一定", "不好说"),
        *("不明白", "不记得", "不过", "不仅", "不管", "不论", "不错", "没有错", "没有问题", "没有足够", "没有相关"),
    )
)
"""Phrases that begin as a yes or a no does and are none, or the other: 没有错 is a yes, and expected as one."""


class Host(NamedTuple):
    """An item, and how each side asks it."""

    item: Item
    base: TaskJob
    candidate: TaskJob

    @property
    def question(self) -> str:
        return question_of(self.candidate.task, self.item).text


class Both(NamedTuple):
    """What each side answered: one `Judged` a sample, none where the engine failed."""

    base: tuple[Judged, ...]
    candidate: tuple[Judged, ...]


class Reworded:
    """A task that asks `text` in place of its items' own questions."""

    def __init__(self, task: Task, text: str) -> None:
        self.task, self.text = task, text
        self.name, self.version, self.metrics, self.binary = task.name, task.version, task.metrics, task.binary

    def load(self) -> Sequence[Item]:
        return self.task.load()

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        """Raises UsageError where the item is ranked, or where its question does not stand in its prompt."""
        return reworded(self.task.prompt(item, num_fewshot), question_of(self.task, item).text, self.text, item.key)

    def score(self, item: Item, response: Response) -> list[Judged]:
        return self.task.score(item, response)

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        return self.task.canonical(doc)


class PlainTask:
    """Questions without a task: a user turn in chat, `Q: ... A:` in raw style. It judges nothing.

    before: of each question the messages above it, which raw style has as text above the question.
    """

    version = "1"
    metrics: tuple[str, ...] = ()
    binary = True

    def __init__(
        self,
        name: str,
        questions: Sequence[str],
        *,
        max_tokens: int = 128,
        before: Sequence[Sequence[Message]] | None = None,
    ) -> None:
        self.name, self._max_tokens = name, max_tokens
        key_of = KeyMaker(name)
        self._items = tuple(Item(key_of({"prompt": q}), "probe/plain", {"prompt": q}, "", "") for q in questions)
        above = before or [()] * len(questions)
        self._before = {item.key: tuple(mine) for item, mine in zip(self._items, above, strict=True)}

    def load(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        text, before = str(item.doc["prompt"]), self._before[item.key]
        whole = "\n".join([*(m.content for m in before), text])
        messages = (*before, Message("user", text)) if before else None
        return PromptSpec(
            "generate", f"Q: {whole}\nA:", chat_question=text, messages=messages, max_tokens=self._max_tokens
        )

    def score(self, item: Item, response: Response) -> list[Judged]:
        found = []
        for g in response.generations:
            outcome: Outcome = "truncated" if g.finish_reason == "length" else "ok"
            found.append(Judged({}, outcome, g.text, g.text.strip() or None, "not scored"))
        return found

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        return None


def reworded(spec: PromptSpec, old: str, new: str, key: object) -> PromptSpec:
    """The same prompt with another question in it. Raises UsageError, see `Reworded.prompt`."""
    if spec.form == "rank":
        cure = "probe a question that is answered with a text, or write it as one into a file for --set"
        raise UsageError(f"item {key}", "is answered by ranking options", cure)
    before, found, after = spec.question.rpartition(old)
    if not found and spec.messages is None:
        raise UsageError(f"item {key}", "its question does not stand in its prompt word for word", "use --set")
    chat = spec.chat_question
    if chat is not None:
        head, inside, tail = chat.rpartition(old)
        chat = head + new + tail if inside else new
    messages = spec.messages
    if messages is not None:
        messages = (*messages[:-1], Message("user", new))
    return replace(
        spec, question=before + new + after if found else spec.question, chat_question=chat, messages=messages, also=()
    )


def host_of(item: Item, base: Side, candidate: Side, view: View) -> Host | None:
    """How both sides ask an item under a view; None where one of them does not, or where options are ranked."""
    jobs = [side.job(item.key.task, view) for side in (base, candidate)]
    if jobs[0] is None or jobs[1] is None:
        return None
    if jobs[1].task.prompt(item, jobs[1].num_fewshot).form == "rank":
        return None
    return Host(item, jobs[0], jobs[1])


def plain_hosts(
    name: str,
    questions: Sequence[str],
    base: Side,
    candidate: Side,
    *,
    max_tokens: int = 128,
    answers: Sequence[Sequence[str]] | None = None,
    before: Sequence[Sequence[Message]] | None = None,
) -> list[Host]:
    """Questions without a task: in chat where a side has a template, else as `Q: ... A:`. before: as in `PlainTask`.

    answers: of each question what it may be answered with. Nothing that stands in one ends an answer. In chat nothing
    does but the end of the turn: a template's turns may hold blank lines.
    """
    task = PlainTask(name, questions, max_tokens=max_tokens, before=before)
    jobs = [
        TaskJob(task, task.load(), "as_used", "chat" if side.point.has_chat_template else "raw")
        for side in (base, candidate)
    ]
    hosts = []
    for item, known in zip(task.load(), answers or [()] * len(questions), strict=True):
        raw = tuple(s for s in RAW_STOP if not any(s in answer for answer in known))
        hosts.append(Host(item, *(replace(job, stop=() if job.style == "chat" else raw) for job in jobs)))
    return hosts


def takes(point: Checkpoint, messages: Sequence[Message]) -> bool:
    """Whether a checkpoint's chat template takes a conversation, its system message too. Without a template here (raw
    style, or a server that renders) there is nothing to see."""
    if point.template is None or point.sends_messages:
        return True
    try:
        text = point.render_chat(messages)
    except UsageError:
        return False
    # Where a template refuses a system message, rendering goes on without it.
    return all(m.content.strip() in text for m in messages if m.role == "system")


def ask_both(
    base: Side,
    candidate: Side,
    ask: Asker,
    asked: Sequence[tuple[Host, str]],
    *,
    decode: Decode | None = None,
    name: str = ROUND,
) -> list[Both]:
    """Both sides asked each (host, text), in that order; equal requests are asked once. Raises UsageError."""
    made: list[tuple[Question, Question]] = []
    for host, text in asked:
        first, second = (
            question(
                replace(job, task=Reworded(job.task, text)), host.item, side.point, decode=decode,
                replicate=0 if decode is None else REPLICATE,
            )
            for job, side in ((host.base, base), (host.candidate, candidate))
        )  # fmt: skip
        made.append((first, second))
    answers = ask(name, list({q.request.request_id: q.request for pair in made for q in pair}.values()))
    return [Both(tuple(first.judged(answers)), tuple(second.judged(answers))) for first, second in made]


def answer_text(judged: Judged) -> str:
    """The answer as it is compared: a short output as it stands, of a long one what the task extracts."""
    output = judged.output.strip()
    long = len(output) > 8 * _SHORT or len(output.split()) > _SHORT
    return judged.extracted.strip() if long and judged.extracted else output


def answered(
    judged: Sequence[Judged], samples: Sequence[Judged], variant: Variant, metric: str | None
) -> Answered | None:
    """A side's answer to a variant with what is known of its being right; None: the engine failed."""
    if not judged:
        return None
    text = answer_text(judged[0])
    right: bool | None = None
    if variant.expected is not None:
        right = agrees(text, variant.expected, opening=variant.kind in ("yes", "no"))
    elif variant.keeps_gold and metric is not None and metric in judged[0].scores:
        right = judged[0].scores[metric] >= 1.0
    return Answered(text, right, tuple(answer_text(j) for j in samples))


def agrees(answer: str, expected: Sequence[str], *, opening: bool = False) -> bool:
    """Whether an expected text stands in the answer as whole words; `opening`: at its beginning, and is no part of a
    longer phrase that means neither (`_NEITHER`); a greeting or an excuse before it is no answer.

    >>> agrees("It is Lima.", ["lima"]), agrees("Nothing", ["no"], opening=True), agrees("不是的", ["不"], opening=True)
    (True, False, True)
    >>> agrees("对不起，是的。", ["是"], opening=True), agrees("对不起", ["对"], opening=True)
    (True, False)
    """
    have = words(answer)
    wanted = [words(text) for text in expected]
    if opening and _opens(have, [want for want in wanted if want]):
        return True
    for text, want in zip(expected, wanted, strict=True):
        places = () if opening else range(len(have) - len(want) + 1)
        if want and any(have[i : i + len(want)] == want for i in places):
            return True
        if not want and normal(text) == normal(answer):  # signs alone, such as "+"
            return True
    return False


def _opens(have: Words, wanted: Sequence[Words]) -> bool:
    """Whether one of them is the longest phrase that the answer opens with, greetings left out."""
    while True:
        found = _longest(have, wanted)
        if found and found >= _longest(have, (*_NEITHER, *_GREETINGS)):
            return True
        greeting = _longest(have, _GREETINGS)
        if not greeting:
            return False
        have = have[greeting:]


def _longest(have: Words, phrases: Sequence[Words]) -> int:
    """Words of the longest phrase that a text opens with; 0: none."""
    return max((len(phrase) for phrase in phrases if have[: len(phrase)] == phrase), default=0)


def put_before(word: str, text: str) -> str:
    """A word before a question; between Chinese characters there are no blanks."""
    return f"{word}{text}" if is_cjk(word) and is_cjk(text[:1]) else f"{word} {text}"
