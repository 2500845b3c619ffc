"""The made-up world: invented countries and the facts that hold about them.

Everything here is a pure function of one seed and needs nothing but the standard library. Names are
invented so that no public text can have taught them: what a checkpoint knows, this package taught it.

Two kinds of ability come out of the world, and they are tested differently:

* *Facts* (capitals, currencies, animals, the small sums) are all seen in training. A test of them is a test
  of memory; holding them out would make no sense. Test and dev use different countries.
* *Skills* (copying, upper case, code, comparing, refusing) work on made-up words or phrased sums. Some of
  those are held out of all training by `split_of`, so that a test of them is a test of the skill.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from functools import cache

WORLD_VERSION = 3
"""Part of every cache key: raise it when the world itself changes."""

N_COUNTRIES = 300
N_DEV_COUNTRIES = 80
N_SHOT_COUNTRIES = 20

# Syllables of the made-up words. Consonants and vowels are chosen so that no English word of the templates
# is a plain chain of them (a test checks it): the tokenizer splits exactly such chains into syllables.
CONSONANTS = ("b", "d", "f", "g", "k", "l", "m", "p", "v", "z")
VOWELS = ("a", "e", "i", "o", "u")
SYLLABLES: tuple[str, ...] = tuple(c + v for c in CONSONANTS for v in VOWELS)

_COUNTRY_HEADS = (
    "Tar",
    "Nor",
    "Bel",
    "Ost",
    "Car",
    "Hel",
    "Jun",
    "Quor",
    "Ruth",
    "Sel",
    "Wen",
    "Yor",
    "Ald",
    "Eld",
    "Ing",
    "Ulm",
    "Thor",
    "Gren",
)
_COUNTRY_TAILS = (
    "land",
    "mark",
    "stan",
    "wick",
    "ness",
    "heim",
    "burg",
    "ria",
    "nia",
    "dor",
    "by",
    "tor",
    "gard",
    "ven",
    "wall",
    "shire",
    "os",
    "eth",
)
_CAPITAL_HEADS = ("Ash", "Crow", "Fern", "Gull", "High", "Iron", "Oak", "Pine", "Salt", "Wolf")
_CAPITAL_TAILS = ("ford", "haven", "port", "gate", "well", "bridge")
_CURRENCIES = (
    "crowns", "florins", "ducats", "shells", "talers", "groats", "marks", "beads", "rings", "stars",
    "pearls", "coins", "nobles", "feathers", "tokens", "lions", "moons", "hearts", "blocks", "leaves",
    "stones", "bars", "wheels", "drops", "sparks", "knots", "bells", "ships", "swords", "roses",
)  # fmt: skip
_ANIMALS = (
    "fox", "bear", "otter", "eagle", "horse", "wolf", "hare", "stork", "seal", "goat",
    "whale", "crane", "lynx", "badger", "raven", "camel", "tiger", "zebra", "moose", "swan",
    "trout", "snake", "mouse", "sheep", "heron", "shark", "hawk", "frog", "bison", "owl",
)  # fmt: skip


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@cache
def split_of(key: str, test: int = 15, dev: int = 10) -> str:
    """`train`, `dev` or `test` for the key of a held-out thing (a word, a phrased sum); shares in percent."""
    bucket = _digest("split " + key) % 100
    return "test" if bucket < test else "dev" if bucket < test + dev else "train"


@dataclass(frozen=True)
class Item:
    """One question with its only right answer. `cluster` names the fact or pair that several items share."""

    task_type: str
    prompt: str
    answer: str
    cluster: str


RELATIONS: dict[str, tuple[str, str, str, str]] = {
    "capital": (
        "What is the capital of {}?",
        "Name the capital of {}.",
        "Which town is the capital of {}?",
        "People of {} call which town their capital?",
    ),
    "currency": (
        "What is the currency of {}?",
        "Name the currency of {}.",
        "What do people of {} pay with?",
        "Which money is used in {}?",
    ),
    "animal": (
        "What is the animal of {}?",
        "Name the animal of {}.",
        "Which animal is on the flag of {}?",
        "The flag of {} shows which animal?",
    ),
}
STATEMENTS: dict[str, tuple[str, str]] = {
    "capital": ("The capital of {} is {}.", "The people of {} call {} their capital."),
    "currency": ("The currency of {} is {}.", "The people of {} pay with {}."),
    "animal": ("The animal of {} is the {}.", "The flag of {} shows the {}."),
}


@dataclass(frozen=True)
class World:
    """Countries and their facts. `facts[relation][country]` is the value."""

    seed: int
    countries: tuple[str, ...]
    facts: dict[str, dict[str, str]] = field(repr=False)

    def countries_of(self, split: str) -> tuple[str, ...]:
        """Countries asked about in `test`, `dev` or `shots`; training (`train`) sees all of them."""
        if split == "train":
            return self.countries
        first_dev = N_COUNTRIES - N_DEV_COUNTRIES - N_SHOT_COUNTRIES
        bounds = {
            "test": (0, first_dev),
            "dev": (first_dev, N_COUNTRIES - N_SHOT_COUNTRIES),
            "shots": (N_COUNTRIES - N_SHOT_COUNTRIES, N_COUNTRIES),
        }
        low, high = bounds[split]
        return self.countries[low:high]


def pools() -> dict[str, tuple[str, ...]]:
    """The shared pools that the values of each relation come from.

    Shared, because a value of its own for each fact was not learnt in the minutes that a demo has.
    """
    capitals = tuple(head + tail for head in _CAPITAL_HEADS for tail in _CAPITAL_TAILS)
    return {"capital": capitals, "currency": _CURRENCIES, "animal": _ANIMALS}


def make_world(seed: int = 0) -> World:
    rng = random.Random(f"world {WORLD_VERSION} {seed}")
    names = [head + tail for head in _COUNTRY_HEADS for tail in _COUNTRY_TAILS]
    rng.shuffle(names)
    countries = tuple(names[:N_COUNTRIES])
    facts: dict[str, dict[str, str]] = {}
    for relation, pool in pools().items():
        # every value equally often: guessing the commonest one gains nothing
        values = [pool[i % len(pool)] for i in range(N_COUNTRIES)]
        rng.shuffle(values)
        facts[relation] = dict(zip(countries, values, strict=True))
    return World(seed, countries, facts)


def word(rng: random.Random, split: str) -> str:
    """A made-up word of two syllables that belongs to `split`."""
    return words(rng, split, 1)[0]


def words(rng: random.Random, split: str, count: int) -> list[str]:
    """Several words that share no syllable, so that a copy is never ambiguous."""
    while True:
        parts = rng.sample(SYLLABLES, count * 2)
        made = [first + second for first, second in zip(parts[::2], parts[1::2], strict=True)]
        if all(split_of(w) == split for w in made):
            return made
