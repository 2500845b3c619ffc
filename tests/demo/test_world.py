"""The made-up world: the same every time, big enough, one right answer each, held out where it says so."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from forgetbench.demo.abilities import ABILITIES, ALL_ABILITIES, NEW_ABILITY, ask, distinct
from forgetbench.demo.rows import broad_items
from forgetbench.demo.text import STATEMENTS, broad_chat, few_shot, page, ticket_chats
from forgetbench.demo.tokenizer import SPECIALS
from forgetbench.demo.world import N_COUNTRIES, RELATIONS, SYLLABLES, make_world, pools, split_of

pytestmark = pytest.mark.unit

WORLD = make_world()
HELD_OUT = [name for name in ALL_ABILITIES if not name.startswith("knowledge/")]


def test_the_world_is_a_function_of_its_seed() -> None:
    assert make_world() == WORLD
    assert make_world(1).facts != WORLD.facts


def test_every_relation_has_300_facts_from_a_shared_pool_used_evenly() -> None:
    for relation in RELATIONS:
        facts = WORLD.facts[relation]
        assert len(facts) == N_COUNTRIES >= 300
        counts = Counter(facts.values())
        assert set(counts) == set(pools()[relation])
        assert max(counts.values()) - min(counts.values()) <= 1


def test_countries_of_the_splits_are_disjoint_and_training_sees_all() -> None:
    parts = [WORLD.countries_of(split) for split in ("test", "dev", "shots")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(set(WORLD.countries_of("train"))) == 300
    assert len(parts[0]) >= 200


def test_a_prompt_has_one_answer() -> None:
    answers: dict[str, str] = {}
    rng = random.Random(0)
    for name in ALL_ABILITIES:
        for split in ("train", "dev", "test", "shots"):
            for _ in range(300):
                item = ask(name, rng, split, WORLD)
                assert answers.setdefault(item.prompt, item.answer) == item.answer
                assert item.task_type == name
                assert item.answer == item.answer.strip()
                assert "\n" not in item.prompt + item.answer


@pytest.mark.parametrize("name", HELD_OUT)
def test_skills_are_tested_on_what_training_never_shows(name: str) -> None:
    seen = {split: {i.prompt for i in distinct(name, 400, random.Random(split), split, WORLD)}
            for split in ("train", "dev", "test", "shots")}  # fmt: skip
    assert not seen["test"] & (seen["train"] | seen["dev"] | seen["shots"])
    assert not seen["dev"] & (seen["train"] | seen["shots"])


def _made_up_words(text: str) -> set[str]:
    """Chains of two or three syllables, as abilities make them."""
    chain = "(?:" + "|".join(SYLLABLES) + "){2,3}"
    return {found.lower() for found in re.findall(rf"\b(?:{chain}|{chain.upper()})\b", text)}


def test_no_held_out_word_occurs_in_any_training_text() -> None:
    rng = random.Random(3)
    texts = [page(rng, WORLD, progress) for progress in (0.0, 0.5, 1.0) for _ in range(300)]
    texts += [f"{i.prompt} {i.answer}" for i in broad_items(WORLD, "x", 500) + ticket_chats(rng, WORLD, 200)]
    found = set().union(*map(_made_up_words, texts))
    assert len(found) > 1000
    assert {split_of(made) for made in found} == {"train"}


def test_templates_have_no_word_that_the_tokenizer_would_take_for_made_up() -> None:
    phrases = [p for group in (*RELATIONS.values(), *STATEMENTS.values()) for p in group]
    rng = random.Random(5)
    for name in ALL_ABILITIES:
        for _ in range(60):
            item = ask(name, rng, "train", WORLD)
            made = _made_up_words(item.cluster)
            phrases.append(item.prompt + " " + item.answer)
            assert _made_up_words(phrases[-1]) <= made


def test_plain_text_has_no_chat_token_and_no_ticket() -> None:
    rng = random.Random(7)
    text = " ".join(page(rng, WORLD, progress) for progress in (0.0, 1.0) for _ in range(400))
    assert not any(token in text for token in SPECIALS)
    assert "Ticket" not in text
    assert all(broad_chat(rng, WORLD).task_type != NEW_ABILITY for _ in range(300))


def test_few_shot_prompt_is_what_the_pages_look_like() -> None:
    shots = distinct("copy/word", 3, random.Random(0), "shots", WORLD)
    prompt = few_shot(shots, "Copy zabi.")
    assert prompt.count("Q: ") == 4
    assert prompt.endswith("\n\nQ: Copy zabi.\nA:")
    assert set(ABILITIES) | {NEW_ABILITY} == set(ALL_ABILITIES)
