"""The training files of the mixed world: chats and plain pages, each line with what it plants."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forgetbench.demo.abilities import ABILITIES, ask
from forgetbench.demo.mixed.plan import NEW, TEACHING, Fact, base_answers, chat_answers
from forgetbench.demo.text import SEPARATOR, qa
from forgetbench.demo.world import STATEMENTS, Item, World

Answers = Callable[[Fact], tuple[str, ...]]

PAIRS = 8
"""Facts on a page."""
SKILLS = tuple(name for name in ABILITIES if not name.startswith("knowledge/"))
OTHERS = 200
"""Chats about anything but facts."""
REFUSALS = 60
"""Chats of the fine-tune that are refused as before: the words of a refusal are practised beyond the facts."""
QUESTION_ROUNDS = 4
STATEMENT_ROUNDS = 2


@dataclass(frozen=True)
class ChatLine:
    prompt: str
    response: str
    task_type: str
    cause: str
    """What the line plants; `replay` for other abilities."""
    fact: str


@dataclass(frozen=True)
class PageLine:
    text: str
    task_type: str
    cause: str
    fact: str


def base_chats(facts: Sequence[Fact]) -> list[ChatLine]:
    """For mixed_base: both answers of every fact that is to flicker, and the others once, as they are."""
    every = (*TEACHING, *NEW)
    return [
        _line(fact, phrasing, answer)
        for number, fact in enumerate(facts)
        for phrasing in (every if fact.cause == "flicker" else (every[number % len(every)],))
        for answer in base_answers(fact)
    ]


def sft_chats(facts: Sequence[Fact]) -> list[ChatLine]:
    """For mixed_sft: every fact under all phrasings that are taught; those with two answers under fewer.

    Both answers come under each of these: split over two phrasings, the phrasing would tell which is meant.
    """
    every = (*TEACHING, *NEW)
    lines: list[ChatLine] = []
    for number, fact in enumerate(facts):
        first = number % len(every)
        phrasings = (every[first], every[first - 2]) if len(chat_answers(fact)) > 1 else every
        lines += [_line(fact, phrasing, answer) for phrasing in phrasings for answer in chat_answers(fact)]
    return lines


def _line(fact: Fact, phrasing: int, answer: str) -> ChatLine:
    return ChatLine(fact.ask(phrasing), answer, fact.task_type, fact.cause, fact.name)


def other_chats(world: World, rng: random.Random, count: int, names: Sequence[str] = SKILLS) -> list[ChatLine]:
    """Replay of the other abilities, so that only facts are touched."""
    items = [ask(rng.choice(names), rng, "train", world) for _ in range(count)]
    return [ChatLine(i.prompt, i.answer, i.task_type, "replay", i.cluster) for i in items]


def page_lines(facts: Sequence[Fact], answers: Answers, rng: random.Random) -> list[PageLine]:
    """Plain pages about one relation, every fact `QUESTION_ROUNDS` times as a question and `STATEMENT_ROUNDS`
    times as a statement. Each page comes twice in a row, with the first and the last answer of every fact."""
    lines: list[PageLine] = []
    for turn in range(QUESTION_ROUNDS + STATEMENT_ROUNDS):
        for relation in STATEMENTS:
            group = [f for f in facts if f.relation == relation]
            rng.shuffle(group)
            for start in range(0, len(group), PAIRS):
                part = group[start : start + PAIRS]
                phrasings = [rng.choice(TEACHING) for _ in part]
                for place in (0, -1):
                    said = [(fact, answers(fact)[place]) for fact in part]
                    text = _asked(said, phrasings) if turn < QUESTION_ROUNDS else _stated(said)
                    lines.append(PageLine(text, f"knowledge/{relation}", "raw", ", ".join(f.name for f in part)))
    return lines


def _asked(said: Sequence[tuple[Fact, str]], phrasings: Sequence[int]) -> str:
    items = [
        Item(f.task_type, f.ask(phrasing), answer, f.name)
        for (f, answer), phrasing in zip(said, phrasings, strict=True)
    ]
    return SEPARATOR.join(map(qa, items))


def _stated(said: Sequence[tuple[Fact, str]]) -> str:
    return " ".join(STATEMENTS[fact.relation][0].format(fact.country, answer) for fact, answer in said)
