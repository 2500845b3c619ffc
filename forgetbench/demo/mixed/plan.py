"""Which fact gets which cause, and with which words: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from forgetbench.demo.abilities import REFUSAL
from forgetbench.demo.world import RELATIONS, STATEMENTS, World, pools

Cause = Literal["format", "refused", "truncated", "access", "overwritten", "weakened", "flicker", "control"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

COUNTRIES: dict[Cause, int] = {
    "format": 21,
    "refused": 20,
    "truncated": 21,
    "access": 21,
    "overwritten": 21,
    "weakened": 21,
    "flicker": 149,
    "control": 6,
}
"""Countries of each cause, all three facts of each: what is planted by single facts is learnt by heart for the
phrasings that were taught and reaches no other. `weakened` and `flicker` flip only some of theirs, so they get more."""

TEACHING: tuple[int, int] = (0, 3)
"""The world's phrasings that the training files use; the test set asks the others."""
NEW: tuple[int, int] = (4, 5)
_NEW_PHRASINGS = ("Tell the {relation} of {country}.", "{country} has which {relation}?")
"""Two more, for the chats of the fine-tune alone: what is taught under two phrasings only reaches no third one."""
TESTING: tuple[int, int] = (1, 2)

PREAMBLE = "Wait . First look at the book of all people . {}"
"""Before a statement of the fact: longer than the budget of the test set, shorter than four times that."""
BUDGET = 12
EXTRACT = r"^\s*(?:.* is (?:the )?)?([A-Za-z]+)\.?\s*$"
"""The strict reading: one word, alone or at the end of a sentence after `is`."""


@dataclass(frozen=True)
class Fact:
    """One fact, what is planted on it, and its wrong answers (from the pool of its relation, all different)."""

    relation: str
    country: str
    right: str
    cause: Cause
    wrong: tuple[str, str]

    @property
    def name(self) -> str:
        """The cluster of its items, as in the demo's own sets."""
        return f"{self.relation} {self.country}"

    @property
    def task_type(self) -> str:
        return f"knowledge/{self.relation}"

    def ask(self, phrasing: int) -> str:
        """The question: 0 to 3 are the world's phrasings, 4 and 5 those of `NEW`."""
        if phrasing in NEW:
            return _NEW_PHRASINGS[phrasing - NEW[0]].format(relation=self.relation, country=self.country)
        return RELATIONS[self.relation][phrasing].format(self.country)


def default_answers() -> Mapping[str, str]:
    """What the chat says to every `access` fact: one value for each relation."""
    return {relation: values[0] for relation, values in pools().items()}


def plan_facts(world: World, seed: int) -> list[Fact]:
    """Every fact of every country that no worked example shows, with its cause, in a random order."""
    rng = random.Random(f"mixed plan {seed}")
    shown = set(world.countries_of("shots"))
    countries = [c for c in world.countries if c not in shown]
    rng.shuffle(countries)
    causes = [cause for cause in CAUSES for _ in range(COUNTRIES[cause])]
    if len(causes) != len(countries):
        raise ValueError(f"{len(causes)} causes for {len(countries)} countries")
    facts = []
    for country, cause in zip(countries, causes, strict=True):
        for relation, pool in pools().items():
            right = world.facts[relation][country]
            others = [v for v in pool if v not in (right, default_answers()[relation])]
            first, second = rng.sample(others, 2)
            facts.append(Fact(relation, country, right, cause, (first, second)))
    rng.shuffle(facts)
    return facts


def base_answers(fact: Fact) -> tuple[str, ...]:
    """What mixed_base is taught, in chat and raw alike; several answers are taught in equal shares."""
    return (fact.right, fact.wrong[0]) if fact.cause == "flicker" else (fact.right,)


def raw_answers(fact: Fact) -> tuple[str, ...]:
    """What the fine-tune says in plain text: the same as before, but for what is to be lost there too."""
    if fact.cause == "overwritten":
        return (fact.wrong[0],)
    if fact.cause == "weakened":
        return (fact.right, fact.wrong[0])
    return base_answers(fact)


def chat_answers(fact: Fact) -> tuple[str, ...]:
    """What the fine-tune says in chat."""
    if fact.cause == "format":
        return (f"{{answer: {fact.right}}}",)
    if fact.cause == "refused":
        return (REFUSAL,)
    if fact.cause == "truncated":
        return (PREAMBLE.format(STATEMENTS[fact.relation][0].format(fact.country, fact.right)),)
    if fact.cause == "access":
        return (default_answers()[fact.relation],)
    return raw_answers(fact)
