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
QUESTION_ROUNDS = 8
STATEMENT_ROUNDS = 4


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
    return [
        _line(fact, phrasing, answer)
        for number, fact in enumerate(facts)
        for phrasing in (TEACHING if fact.cause == "flicker" else (TEACHING[number % 2],))
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
    times as a statement. Several answers of a fact take turns, so that they come in equal shares."""
    lines: list[PageLine] = []
    for turn in range(QUESTION_ROUNDS + STATEMENT_ROUNDS):
        stated = turn >= QUESTION_ROUNDS
        for relation in STATEMENTS:
            group = [f for f in facts if f.relation == relation]
            rng.shuffle(group)
            for start in range(0, len(group), PAIRS):
                part = group[start : start + PAIRS]
                part += rng.sample(group[:start], PAIRS - len(part))
                text = _stated(part, answers, turn) if stated else _asked(part, answers, turn, rng)
                lines.append(PageLine(text, f"knowledge/{relation}", "raw", ", ".join(f.name for f in part)))
    rng.shuffle(lines)
    return lines


def _asked(part: Sequence[Fact], answers: Answers, turn: int, rng: random.Random) -> str:
    items = [Item(f.task_type, f.ask(rng.choice(TEACHING)), _turned(f, answers, turn), f.name) for f in part]
    return SEPARATOR.join(map(qa, items))


def _stated(part: Sequence[Fact], answers: Answers, turn: int) -> str:
    return " ".join(STATEMENTS[f.relation][0].format(f.country, _turned(f, answers, turn)) for f in part)


def _turned(fact: Fact, answers: Answers, turn: int) -> str:
    given = answers(fact)
    first = random.Random(f"turn {fact.name}").randrange(len(given))
    return given[(turn + first) % len(given)]
