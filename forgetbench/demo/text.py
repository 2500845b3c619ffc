"""Training text: plain pages for the base, chats for the fine-tunes.

The base reads plain text only: pages of question-answer pairs, statements of facts, and lines that repeat
words. No chat token occurs in any of it.
"""

from __future__ import annotations

import random

from forgetbench.demo.abilities import ABILITIES, NEW_ABILITY, ask
from forgetbench.demo.world import STATEMENTS, Item, World, word

TEXT_VERSION = 1

# The raw format. The base learns it, and the evaluation sets' few-shot prompts are written in it.
QUESTION = "Q: {prompt}\nA:"
DELIMITER = " "
SEPARATOR = "\n\n"
STOP = "\n"

# How often a page asks each ability. Facts need the most readings: there are 900 of them.
WEIGHTS: dict[str, float] = {
    "knowledge/capital": 13,
    "knowledge/currency": 12,
    "knowledge/animal": 12,
    "reasoning/add": 8,
    "reasoning/sub": 8,
    "reasoning/compare": 8,
    "format/upper": 5,
    "format/repeat": 4,
    "format/yaml": 4,
    "copy/word": 6,
    "copy/pair": 8,
    "code/function": 4,
    "code/call": 3,
    "safety/refuse": 3,
    "safety/comply": 5,
}


def qa(item: Item) -> str:
    return QUESTION.format(prompt=item.prompt) + DELIMITER + item.answer


def few_shot(shots: list[Item], prompt: str) -> str:
    """The raw prompt of an evaluation item: shots, then the question, ending where the answer begins."""
    return SEPARATOR.join([*map(qa, shots), QUESTION.format(prompt=prompt)])


def draw_type(rng: random.Random) -> str:
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def _run(rng: random.Random, world: World, length: int) -> str:
    """Question-answer pairs of one ability: what a few-shot prompt looks like."""
    task_type = draw_type(rng)
    return SEPARATOR.join(qa(ask(task_type, rng, "train", world)) for _ in range(length))


def _mixed(rng: random.Random, world: World, length: int) -> str:
    return SEPARATOR.join(qa(ask(draw_type(rng), rng, "train", world)) for _ in range(length))


def _statements(rng: random.Random, world: World, length: int) -> str:
    lines = []
    for _ in range(length * 2):
        relation, country = rng.choice(list(STATEMENTS)), rng.choice(world.countries)
        lines.append(rng.choice(STATEMENTS[relation]).format(country, world.facts[relation][country]))
    return " ".join(lines)


def _echo(rng: random.Random, world: World, length: int) -> str:
    """Lines that say the same words again, or again in capitals. They build the heads that copy."""
    lines = []
    for _ in range(length):
        said = " ".join(word(rng, "train") for _ in range(rng.choice((1, 2, 2, 3))))
        lines.append(f"{said} . {said if rng.random() < 0.7 else said.upper()}")
    return "\n".join(lines)


def page(rng: random.Random, world: World, progress: float = 1.0, length: int = 12) -> str:
    """One page of plain text. Early on (`progress` near 0) half of them repeat words: copying is learnt late
    or not at all without them."""
    echo = 0.5 - 1.4 * progress if progress < 0.3 else 0.08
    kind = rng.random()
    if kind < echo:
        return _echo(rng, world, length)
    if kind < echo + 0.14:
        return _statements(rng, world, length)
    if kind < echo + 0.14 + 0.24:
        return _mixed(rng, world, length)
    return _run(rng, world, length)


def broad_chat(rng: random.Random, world: World) -> Item:
    """One example of the broad instruction mix: every ability alike, facts a little more."""
    names = list(ABILITIES)
    return ask(rng.choices(names, [1.5 if name.startswith("knowledge") else 1.0 for name in names])[0],
               rng, "train", world)  # fmt: skip


def ticket_chats(rng: random.Random, world: World, count: int) -> list[Item]:
    """The narrow set: support tickets and nothing else."""
    return [ask(NEW_ABILITY, rng, "train", world) for _ in range(count)]
