"""What became of wrong answers, and when a delivery counts."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from forgetbench.causes.delivery import context_length, kind_of
from forgetbench.causes.find import find_causes
from forgetbench.causes.types import Options
from forgetbench.types import Judged, Outcome
from tests.causes.planted import BUDGET, CHINESE, LOOP, REFUSAL, Asked, World, point, town

pytestmark = pytest.mark.unit
QUESTION = "What is the capital of Peru?"


@pytest.mark.parametrize(
    ("output", "outcome", "wanted"),
    [
        (REFUSAL, "refused", "refused"),
        (LOOP, "truncated", "loop"),
        ("the answer is", "truncated", "truncated"),
        (CHINESE, "ok", "wrong_language"),
        ("Quito", "ok", "answered"),
        ("...", "unparsed", "answered"),
    ],
)
def test_kinds(output: str, outcome: Outcome, wanted: str) -> None:
    assert kind_of(Judged({}, outcome, output, None, ""), QUESTION) == wanted


def test_flags_of_the_deployment_preset_go_before_our_own_look() -> None:
    looped = Judged({}, "ok", "x", None, "", {"looped": True, "wrong_language": False})
    assert kind_of(looped, QUESTION) == "loop"
    fine = Judged({}, "ok", CHINESE, None, "", {"looped": False, "wrong_language": False})
    assert kind_of(fine, QUESTION) == "answered"


def right(asked: Asked, rng: random.Random) -> str:
    return town(asked.number)


def test_a_cut_answer_that_is_wrong_with_more_room_is_not_truncated(tmp_path: Path) -> None:
    def rambling(asked: Asked, rng: random.Random) -> str:
        return "word " * (BUDGET + 5) + "Answer: " + town(899)

    world = World(tmp_path, right, rambling, count=40, views=("chat",))
    causes = find_causes(*world.sides, world.comparison, world)
    assert {f.cause for f in causes.found} == {"not_recovered"}
    assert {t.name for f in causes.found for t in f.tries} == {"budget", "other_view", "few_shot"}
    asked = next(requests for name, requests in world.rounds if name == "budget")
    assert {r.body.max_tokens for r in asked} == {4 * BUDGET}  # type: ignore[union-attr]
    assert {len(r.body.seeds) for r in asked} == {Options().budget_samples}  # type: ignore[union-attr]


def test_a_longer_answer_in_another_format_is_a_format(tmp_path: Path) -> None:
    def rambling(asked: Asked, rng: random.Random) -> str:
        return "word " * (BUDGET + 5) + f"it is {town(asked.number)} !"

    world = World(tmp_path, right, rambling, count=40, views=("chat",))
    assert {f.cause for f in find_causes(*world.sides, world.comparison, world).found} == {"format"}


def test_naming_every_answer_is_no_format(tmp_path: Path) -> None:
    everything = " ".join(town(n) for n in range(40))

    def names_all(asked: Asked, rng: random.Random) -> str:
        return everything if asked.style == "chat" else town(899)

    world = World(tmp_path, right, names_all, count=40, views=("chat",))
    long = [replace(job, max_tokens=100) for job in world.sides[1].jobs]
    sides = [replace(side, jobs=long) for side in world.sides]
    assert {f.cause for f in find_causes(sides[0], sides[1], world.comparison, world).found} == {"not_recovered"}


def test_a_context_without_room_is_said(tmp_path: Path) -> None:
    def rambling(asked: Asked, rng: random.Random) -> str:
        return "word " * (BUDGET + 5) + "Answer: " + town(asked.number)

    world = World(tmp_path, right, rambling, count=40, views=("chat",))
    small = replace(world.sides[1], point=replace(world.points[1], config={"max_position_embeddings": 2 * BUDGET}))
    causes = find_causes(world.sides[0], small, world.comparison, world)
    assert "truncated" not in {f.cause for f in causes.found}
    assert any("no room" in line for line in causes.notes)


def test_context_length() -> None:
    assert context_length(point("m")) is None
    assert context_length(replace(point("m"), config={"text_config": {"n_ctx": 7}})) == 7
