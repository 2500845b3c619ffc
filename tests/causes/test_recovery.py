"""Recovery in excess of luck: the rule's error, its controls, and the ways of asking."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom, binom

from forgetbench.causes.ask import Drawn
from forgetbench.causes.find import find_causes
from forgetbench.causes.luck import FLOOR, UNKNOWN, other_items, pseudo_control, swapped, swapped_texts
from forgetbench.causes.recovery import SPREAD, judge_try, tries_of
from forgetbench.causes.triage import choose
from forgetbench.causes.types import Count, Options
from forgetbench.ledger import Ledger
from forgetbench.types import Generate, Generation, Judged, Response
from tests.causes.planted import Asked, World, mixed_base, mixed_sft, town

pytestmark = pytest.mark.unit
OPTIONS = Options()


def drawn(right: int, n: int = 10) -> Drawn:
    return Drawn(tuple(Judged({"m": float(i < right)}, "ok", f"out {i < right}", None, "") for i in range(n)), "m")


def test_p_value_by_hand() -> None:
    controls = [Count(1, 10), Count(0, 10), Count(5, 10)]
    found = judge_try("few_shot", drawn(8), 0.3, controls, 0.1, 0.025, OPTIONS)
    assert found is not None
    luck = (0.1 + 0.0 + 0.5 + 0.1) / 4
    wanted = max(binom.sf(7, 10, 0.3), betabinom.sf(7, 10, SPREAD * luck, SPREAD * (1 - luck)), 0.0)
    assert found.p_value == pytest.approx(wanted)
    assert found.luck == 0.3
    assert found.controls == 3
    assert found.example == "out True"


def test_an_answer_that_only_repeats_its_own_rate_is_no_recovery() -> None:
    low, high = (judge_try("few_shot", drawn(8), own, [], 0.1, 0.025, OPTIONS) for own in (0.02, 0.5))
    assert low is not None
    assert high is not None
    assert low.recovered
    assert not high.recovered
    assert judge_try("few_shot", drawn(0, 0), 0.0, [], 0.1, 0.025, OPTIONS) is None


@pytest.mark.parametrize("shape", [(0.5, 4.5), (1, 9), (0.2, 1.8), (5, 45), (2, 2), (1, 30)])
@pytest.mark.parametrize("controls", [0, 3, 50])
def test_luck_alone_is_called_a_recovery_in_at_most_one_try_in_20(shape: tuple[float, float], controls: int) -> None:
    """Items whose luck is drawn as the controls' is; level .025 a try, as with two tries. At worst .05 (docs)."""
    rng = np.random.default_rng(controls)
    a, b = shape
    tries = [drawn(k) for k in range(11)]
    hits, n = 0, 1000
    for _ in range(n):
        pool = [Count(int(k), 10) for k in rng.binomial(10, rng.beta(a, b, controls))]
        mine = tries[int(rng.binomial(10, rng.beta(a, b)))]
        found = judge_try("x", mine, 0.02, pool, max(FLOOR, a / (a + b)), 0.025, OPTIONS)
        assert found is not None
        hits += found.recovered
    assert hits <= 0.05 * n + 3 * np.sqrt(0.0475 * n)


@given(st.integers(0, 9), st.floats(0, 1), st.lists(st.integers(0, 10), max_size=6), st.floats(0, 1))
def test_more_right_answers_never_make_a_recovery_less_likely(
    right: int, own: float, pool: list[int], made_up: float
) -> None:
    controls = [Count(k, 10) for k in pool]
    fewer, more = (judge_try("x", drawn(k), own, controls, made_up, 0.05, OPTIONS) for k in (right, right + 1))
    assert fewer is not None
    assert more is not None
    assert more.p_value <= fewer.p_value + 1e-9
    assert more.recovered >= fewer.recovered
    assert 0.0 <= more.p_value <= 1.0 + 1e-9


def test_ways_of_asking_in_both_directions(tmp_path: Path) -> None:
    world = World(tmp_path, mixed_base, mixed_sft)
    base, sft = world.sides
    cases = choose(base, sft, world.comparison, OPTIONS, Ledger(world))
    for view, style, shots in (("chat", "raw", 3), ("ability", "chat", 5)):
        case = next(c for c in cases if c.pair.view == view)
        tries = {t.name: t for t in tries_of(case, sft, OPTIONS)}
        assert set(tries) == {"other_view", "few_shot"}
        assert Asked(tries["other_view"].request).style == style
        assert Asked(tries["few_shot"].request).style != style
        assert Asked(tries["few_shot"].request).shots == shots
        for t in tries.values():
            assert isinstance(t.request.body, Generate)
            assert t.request.body.temperature == OPTIONS.temperature
            assert len(t.request.body.seeds) == OPTIONS.tries


def test_the_other_view_is_asked_though_the_suite_has_one_view_only(tmp_path: Path) -> None:
    world = World(tmp_path, mixed_base, mixed_sft, views=("chat",))
    base, sft = world.sides
    case = choose(base, sft, world.comparison, OPTIONS, Ledger(world))[0]
    (other,) = (t for t in tries_of(case, sft, OPTIONS) if t.name == "other_view")
    asked = Asked(other.request)
    assert (asked.style, asked.shots) == ("raw", 2)


def test_what_comes_back_as_a_continuation_is_access(tmp_path: Path) -> None:
    def right(asked: Asked, rng: random.Random) -> str:
        return town(asked.number)

    def only_continues(asked: Asked, rng: random.Random) -> str:
        return f"{town(asked.number)} , as all know" if asked.statement else town(rng.randrange(300, 900))

    world = World(tmp_path, right, only_continues, count=40, views=("chat",), statements=True)
    causes = find_causes(*world.sides, world.comparison, world)
    assert len(causes.found) == 40
    for f in causes.found:
        assert f.cause == "access"
        assert [t.name for t in f.tries if t.recovered] == ["continuation"]
        assert f.why.startswith("continuation: 10 of 10 right")
    sent = [r for name, requests in world.rounds if name == "recovery" for r in requests if Asked(r).statement]
    assert {(r.prompt.text or "").split(" number")[0] for r in sent} == {"The seat of country"}
    assert len({seed for r in sent for seed in r.body.seeds}) == 40 * 10  # type: ignore[union-attr]


def test_what_every_item_answers_is_no_recovery(tmp_path: Path) -> None:
    """The raw prompt makes the candidate say one thing to everything; for some items it is right."""

    def right(asked: Asked, rng: random.Random) -> str:
        return town(asked.number)

    def lists(asked: Asked, rng: random.Random) -> str:
        return town(899) if asked.style == "chat" else town(rng.choice((3, asked.number)))

    world = World(tmp_path, right, lists, count=60, views=("chat",))
    found = {f.cause for f in find_causes(*world.sides, world.comparison, world).found}
    assert found <= {"style", "not_recovered"}

    def one(asked: Asked, rng: random.Random) -> str:
        return town(899) if asked.style == "chat" else town(3)

    world = World(tmp_path, right, one, count=60, views=("chat",))
    causes = find_causes(*world.sides, world.comparison, world)
    assert sum(f.cause == "style" for f in causes.found) <= 1
    assert any("no stable control" in line for line in causes.notes)


def test_controls_that_the_base_has_elsewhere_are_not_luck(tmp_path: Path) -> None:
    """Half of the items both lack in chat only: their raw answers are knowledge, and must not hide a recovery."""

    def base(asked: Asked, rng: random.Random) -> str:
        known = asked.number < 100 or asked.style == "raw"
        return town(asked.number) if known else town(rng.randrange(300, 900))

    def sft(asked: Asked, rng: random.Random) -> str:
        return town(asked.number) if asked.style == "raw" else town(rng.randrange(300, 900))

    world = World(tmp_path, base, sft, count=200, views=("chat",))
    causes = find_causes(*world.sides, world.comparison, world)
    lost = [f for f in causes.found if f.direction == "lost"]
    assert len(lost) == 100
    assert {f.cause for f in lost} == {"style"}
    assert {t.controls for f in lost for t in f.tries if t.name == "other_view"} == {0}


def test_chance_agreement(tmp_path: Path) -> None:
    world = World(tmp_path, mixed_base, mixed_sft)
    items = world.task.load()
    others = other_items(items[0], items, 0)
    assert len(others) == 10
    assert items[0] not in others
    one = others[0]
    gold = str(one.doc["references"][0])
    response = Response("r", (Generation(gold, (0,), "stop"), Generation("nothing", (0,), "stop")))
    assert swapped(world.task, others, response, "correct") == pytest.approx(1 / 20)
    judged = [Judged({}, "ok", gold, gold, ""), Judged({}, "ok", "x", "x", "")]
    assert swapped_texts(others, judged) == pytest.approx(1 / 20)
    assert swapped_texts([], judged) is None
    assert swapped(world.task, [], response, "correct") is None
    assert pseudo_control([0.0, 0.0], measurable=True) == FLOOR
    assert pseudo_control([0.6, 0.8], measurable=True) == pytest.approx(0.7)
    assert pseudo_control([0.6], measurable=False) == UNKNOWN
