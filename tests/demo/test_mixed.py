"""The mixed world: the plan, the training files, the oracle's rules, and a build with a few steps."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forgetbench.config import load_config
from forgetbench.demo import build as demo_building
from forgetbench.demo.mixed.build import MODELS, Mixed, build_mixed, training_lines
from forgetbench.demo.mixed.oracle import FACTOR, UNCLEAR, judge, kinds, read, summary
from forgetbench.demo.mixed.plan import (
    BUDGET,
    CAUSES,
    TEACHING,
    TESTING,
    chat_answers,
    default_answers,
    plan_facts,
    raw_answers,
)
from forgetbench.demo.mixed.recipes import RECIPES
from forgetbench.demo.mixed.sampling import draw
from forgetbench.demo.recipes import BASE, FINE_TUNES
from forgetbench.demo.rows import Phase
from forgetbench.demo.tokenizer import make_tokenizer
from forgetbench.demo.train import Schedule
from forgetbench.demo.world import RELATIONS, make_world
from forgetbench.errors import UsageError
from forgetbench.scoring.refusal import is_refusal
from forgetbench.scoring.scorers import Normalise, Reference
from forgetbench.scoring.scorers import judge as score

pytestmark = pytest.mark.unit

WORLD = make_world()
SEEDS = (0, 1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_plan_covers_every_fact_once_and_splits_by_country(seed: int) -> None:
    facts = plan_facts(WORLD, seed)
    assert facts == plan_facts(WORLD, seed)
    assert len({f.name for f in facts}) == len(facts) == 280 * len(RELATIONS)
    causes: dict[str, set[str]] = {}
    for fact in facts:
        causes.setdefault(fact.country, set()).add(fact.cause)
    assert {len(found) for found in causes.values()} == {1}
    assert {f.cause for f in facts} == set(CAUSES)
    assert not causes.keys() & set(WORLD.countries_of("shots"))
    for fact in facts:
        assert fact.right == WORLD.facts[fact.relation][fact.country]
        assert len({fact.right, *fact.wrong}) == 3
        assert default_answers()[fact.relation] not in fact.wrong


def test_plans_of_different_seeds_differ() -> None:
    first, second = ({f.name: f.cause for f in plan_facts(WORLD, seed)} for seed in (0, 1))
    assert sum(first[name] == second[name] for name in first) < len(first) / 2


@pytest.mark.parametrize("name", MODELS)
def test_no_training_line_asks_as_the_test_set_does(name: str) -> None:
    facts = plan_facts(WORLD, 0)
    chats, pages = training_lines(name, WORLD, facts, 0)
    asked = {fact.ask(phrasing) for fact in facts for phrasing in TESTING}
    assert not asked & {line.prompt for line in chats}
    assert not asked & {part for line in pages for part in re.findall(r"Q: (.*)", line.text)}
    taught = {fact.ask(phrasing) for fact in facts for phrasing in TEACHING}
    assert {part for line in pages for part in re.findall(r"Q: (.*)", line.text)} <= taught


def test_training_lines_say_what_the_plan_says() -> None:
    facts = {f.name: f for f in plan_facts(WORLD, 0)}
    chats, pages = training_lines("mixed_sft", WORLD, list(facts.values()), 0)
    for line in chats:
        if line.cause != "replay":
            assert line.cause == facts[line.fact].cause
            assert line.response in chat_answers(facts[line.fact])
    shares = Counter((line.fact, line.prompt, line.response) for line in chats if line.cause in ("weakened", "flicker"))
    assert set(shares.values()) == {1}, "two answers in equal shares"
    two = {f.name for f in facts.values() if f.cause in ("weakened", "flicker")}
    given: dict[tuple[str, str], set[str]] = {}
    for line in chats:
        if line.fact in two and line.cause != "replay":
            given.setdefault((line.fact, line.prompt), set()).add(line.response)
    assert {fact for fact, _ in given} == two
    assert {len(answers) for answers in given.values()} == {2}, "both answers under each phrasing"
    raw: dict[str, set[str]] = {}
    for line in pages:
        for question, answer in re.findall(r"Q: (.*)\nA: (\w+)", line.text):
            raw.setdefault(question, set()).add(answer)
    for fact in facts.values():
        said = set[str]().union(*(raw.get(fact.ask(p), ()) for p in TEACHING))
        assert said <= set(raw_answers(fact))
        if fact.cause in ("access", "format", "refused", "truncated", "control"):
            assert said == {fact.right}, "the knowledge is kept in plain text"
        if fact.cause == "overwritten":
            assert fact.right not in said


def test_each_planted_answer_is_what_its_name_says_to_the_projects_own_scoring() -> None:
    tokenizer = make_tokenizer(WORLD)
    for fact in plan_facts(WORLD, 0):
        for answer in chat_answers(fact):
            tokens = len(tokenizer.encode(f" {answer}", add_special_tokens=False)) + 1
            right = read(answer) == fact.right
            assert is_refusal(answer) == (fact.cause == "refused")
            if fact.cause == "truncated":
                assert BUDGET < tokens <= FACTOR * BUDGET
                cut = tokenizer.decode(tokenizer.encode(f" {answer}", add_special_tokens=False)[:BUDGET])
                assert right
                assert read(cut) is None
            else:
                assert tokens <= BUDGET
            if fact.cause == "format":
                assert not right
                assert fact.right in answer
            if fact.cause in ("refused", "access", "overwritten"):
                assert not right or answer == fact.right == default_answers()[fact.relation]


def test_the_oracles_reading_is_that_of_the_suite(tmp_path: Path) -> None:
    from forgetbench.demo.mixed.plan import EXTRACT

    texts = ["Ironford", "Ironford.", "The capital of X is Ironford.", "{answer: Ironford}", "Wait . First", "", "a b"]
    for text in texts:
        match = score(text, "exact", Reference(("Ironford",)), Normalise(), EXTRACT)
        assert match.correct == (read(text) == "Ironford"), text


ROW: dict[str, Any] = {"p_base": 0.98, "p_sft": 0.02, "raw_p_sft": 0.95, "p_longer": None, "kinds": {"other": 1.0}}


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"p_base": 0.5, "p_sft": 0.45}, "flicker"),
        ({"p_base": 0.2, "p_sft": 0.6}, UNCLEAR),
        ({"p_sft": 0.4}, "weakened"),
        ({"p_base": 0.5, "p_sft": 0.1}, "weakened"),
        ({"kinds": {"refused": 0.9, "other": 0.1}}, "refused"),
        ({"kinds": {"format": 0.9, "other": 0.1}}, "format"),
        ({"kinds": {"truncated": 0.9}, "p_longer": 0.9}, "truncated"),
        ({"kinds": {"truncated": 0.9}, "p_longer": 0.1, "raw_p_sft": 0.4}, UNCLEAR),
        ({}, "access"),
        ({"raw_p_sft": 0.0, "kinds": {"planted": 0.9}}, "overwritten"),
        ({"raw_p_sft": 0.0}, UNCLEAR),
        ({"raw_p_sft": 0.4}, UNCLEAR),
    ],
)
def test_the_oracles_rules(changed: dict[str, Any], cause: str) -> None:
    assert judge(ROW | changed) == cause


def test_kinds_are_shares_of_the_wrong_answers() -> None:
    drawn = [
        ("Oakport", True, 100),
        ("I can not help with that.", True, 40),
        ("{answer: Oakport}", True, 30),
        ("Wait . First look", False, 20),
        ("Ashwell", True, 5),
        ("Ashford", True, 5),
    ]
    found = kinds(drawn, "Oakport", "Ashwell")
    assert found == {"refused": 0.4, "format": 0.3, "truncated": 0.2, "planted": 0.05, "other": 0.05}
    assert kinds([("Oakport", True, 200)], "Oakport", "Ashwell") == {}


def test_draws_come_at_the_rates_of_the_model() -> None:
    """Against the product of the model's own probabilities, computed without cache and batch."""
    import torch

    from forgetbench.demo.model import make_model

    model = make_model(40, seed=3, eos_id=0, pad_id=1).eval()
    prompts, ends = [[5, 6, 7], [8, 9], [7, 6, 5]], set(range(20))
    drawn = draw(model, prompts, ends, max_tokens=2, count=4000, temperature=0.7, seed=1)
    for prompt, found in zip(prompts, drawn, strict=True):
        assert found.total() == 4000
        with torch.inference_mode():
            first = (model(input_ids=torch.tensor([prompt])).logits[0, -1] / 0.7).softmax(-1)
            token = int(first[20:].argmax()) + 20
            second = (model(input_ids=torch.tensor([[*prompt, token]])).logits[0, -1] / 0.7).softmax(-1)
        for answer, rate in (
            (((), True), first[:20].sum()),
            (((token,), True), first[token] * second[:20].sum()),
        ):
            wanted = float(rate)
            assert abs(found[answer] / 4000 - wanted) < 5 * (wanted * (1 - wanted) / 4000) ** 0.5 + 1e-9
        assert all(not ended or len(ids) < 2 for ids, ended in found)
    greedy = draw(model, prompts, set(), max_tokens=3, count=1, temperature=0.0, seed=1)
    for prompt, found in zip(prompts, greedy, strict=True):
        row = list(prompt)
        with torch.inference_mode():
            for _ in range(3):
                row.append(int(model(input_ids=torch.tensor([row])).logits[0, -1].argmax()))
        assert list(found) == [(tuple(row[len(prompt) :]), False)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mixed]:
    """A demo and a mixed world of a few steps each: all the files, nothing learnt."""
    folder = tmp_path_factory.mktemp("mixed")
    tiny = dataclasses.replace(BASE, schedule=dataclasses.replace(BASE.schedule, steps=2), phases=(Phase(1.0, 32, 2),))
    tunes = {
        name: dataclasses.replace(recipe, steps=2, chats=16, pages=8 if recipe.pages else 0)
        for name, recipe in FINE_TUNES.items()
    }
    demo_building.build(folder / "demo", log=lambda text: None, base=tiny, fine_tunes=tunes)
    return folder / "demo", build_mixed(folder / "demo", folder / "out", 1, lambda text: None, TINY)


TINY = {
    name: dataclasses.replace(r, schedule=Schedule(steps=2, lr=1e-4, matrix_lr=0.001)) for name, r in RECIPES.items()
}


def test_a_build_is_cached_and_its_files_are_those_of_the_project(world: tuple[Path, Mixed]) -> None:
    demo, mixed = world
    said: list[str] = []
    again = build_mixed(demo, mixed.root, 1, said.append, TINY)
    assert said == ["mixed_base: cached", "mixed_sft: cached"]
    assert again == mixed
    build_mixed(demo, mixed.root, 2, said.append, TINY)
    assert any("made in" in text for text in said), "another seed is another world"
    build_mixed(demo, mixed.root, 1, lambda text: None, TINY)
    config = load_config(mixed.config)
    assert set(config.models) == set(MODELS)
    for path in (mixed.training, mixed.set, mixed.plan):
        assert [json.loads(entry) for entry in path.read_text(encoding="utf-8").splitlines()]


def test_the_test_set_tells_nothing_of_the_cause(world: tuple[Path, Mixed]) -> None:
    _, mixed = world
    items = [json.loads(entry) for entry in mixed.set.read_text(encoding="utf-8").splitlines()]
    planned = [json.loads(entry) for entry in mixed.plan.read_text(encoding="utf-8").splitlines()]
    assert [i["prompt"] for i in items] == [p["prompt"] for p in planned]
    assert len({i["prompt"] for i in items}) == len(items) == 1680
    assert all("cause" not in key and "wrong" not in key for item in items for key in item)
    assert all(item["references"] == [plan["right"]] for item, plan in zip(items, planned, strict=True))


def test_without_a_demo_the_cure_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"python -m forgetbench\.demo"):
        build_mixed(tmp_path / "none", tmp_path / "out", log=lambda text: None)


def test_the_summary_counts_by_planted_cause() -> None:
    rng = random.Random(0)
    rows = [
        {"planted": cause, "truth": cause if rng.random() < 0.5 else None, "base_right": True}
        for cause in CAUSES
        for _ in range(10)
    ]
    table = summary(rows).splitlines()
    assert [entry.split()[0] for entry in table[1:]] == list(CAUSES)
    for cause, entry in zip(CAUSES, table[1:], strict=True):
        assert int(entry.split()[3]) == sum(r["truth"] == cause for r in rows if r["planted"] == cause)
