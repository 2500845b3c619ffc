from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from forgetbench.demo.capitals import (
    BROKEN,
    LENGTH,
    SET,
    SHOT_SET,
    SHOTS,
    SIZES,
    diet,
    pages,
    plan_capitals,
    write_set,
)
from forgetbench.demo.tokenizer import make_tokenizer
from forgetbench.demo.world import make_world
from forgetbench.tasks.custom import SetSpec, load_set

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_plan_says_what_it_means(seed: int) -> None:
    plan = plan_capitals(seed)
    assert plan == plan_capitals(seed)
    assert {kind: len(plan.of(kind)) for kind in SIZES} == dict(SIZES)
    assert len(plan.shots) == SHOTS
    assert not set(plan.shots) & set(plan.group)
    for country, kind in plan.group.items():
        taught, true = plan.taught[country], plan.true[country]
        assert (taught == (true,)) == (kind == "right")
        assert (true in taught) == (kind == "right")
        assert len(set(taught)) == (6 if kind == "unsettled" else 1)
    assert len(plan.broken) == BROKEN
    assert set(plan.broken) <= set(plan.of("right"))
    assert all(town != plan.true[country] for country, town in plan.broken.items())


def test_each_fine_tune_is_taught_its_own(tmp_path: Path) -> None:
    plan = plan_capitals()
    assert diet("base", plan)[1:] == ({}, 0.0)
    assert diet("same", plan)[1:] == ({}, 1.0)
    assert diet("corrected", plan)[1] == {c: (plan.true[c],) for c in plan.of("wrong")}
    assert diet("broken", plan)[1] == {c: (t,) for c, t in plan.broken.items()}


def test_the_set_has_the_truth_and_statements(tmp_path: Path) -> None:
    plan = plan_capitals()
    write_set(tmp_path, plan)
    items = load_set(SetSpec("capitals", tmp_path / SET, fewshot=tmp_path / SHOT_SET)).load()
    assert [i.gold for i in items] == list(plan.true.values())
    assert all(i.doc["statement"].startswith("The capital of ") for i in items)
    lines = (tmp_path / SHOT_SET).read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["prompt"] for line in lines}) == SHOTS


def test_pages_are_rows_of_one_length_about_what_is_taught() -> None:
    tokenizer = make_tokenizer(make_world())
    rows = pages(tokenizer, random.Random(0), {"Tarland": ("Oakford",)}, 5)
    assert {len(row) for row in rows} == {LENGTH}
    text = " ".join(tokenizer.decode(row) for row in rows)
    assert "Tarland" in text
    assert "Oakford" in text
    assert "Ticket" not in text
    tickets = pages(tokenizer, random.Random(0), {"Tarland": ("Oakford",)}, 5, tickets=1.0)
    assert all("Ticket" in tokenizer.decode(row) for row in tickets)
