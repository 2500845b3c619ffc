"""The whole search on a made-up task in which every cause is planted."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from forgetbench.causes.find import find_causes
from forgetbench.causes.types import Causes, Options
from forgetbench.planning.plan import sampling_seed
from forgetbench.types import Decode, Generate
from tests.causes.planted import CAUSE_OF, PLAN, Asked, World, mixed_base, mixed_sft, number_of, town

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Causes]:
    world = World(tmp_path_factory.mktemp("mixed"), mixed_base, mixed_sft)
    return world, find_causes(*world.sides, world.comparison, world)


def planted_of(world: World) -> dict[object, str]:
    return {item.key: CAUSE_OF[number_of(world, item)] for item in world.task.load()}


def test_each_planted_cause_is_found_in_chat(mixed: tuple[World, Causes]) -> None:
    world, causes = mixed
    planted = planted_of(world)
    table = Counter(
        (planted[f.key], "overwritten" if f.overwritten else f.cause)
        for f in causes.found
        if f.view == "chat" and f.direction == "lost"
    )
    for cause in ("format", "refused", "truncated", "style", "access", "overwritten", "loop", "wrong_language"):
        right, wrong = table[cause, cause], sum(n for (p, c), n in table.items() if p == cause and c != cause)
        assert right >= 0.8 * len(PLAN[cause]), (cause, table)
        assert wrong <= 1, (cause, table)
    for cause in ("weakened", "flicker"):
        mine = {c: n for (p, c), n in table.items() if p == cause}
        assert mine.get(cause, 0) >= 0.75 * sum(mine.values()), (cause, table)


def test_delivery_and_style_are_not_seen_where_they_were_not_planted(mixed: tuple[World, Causes]) -> None:
    world, causes = mixed
    planted = planted_of(world)
    raw = [(planted[f.key], f.cause) for f in causes.found if f.view == "ability" and f.direction == "lost"]
    assert raw
    assert {p for p, _ in raw} <= {"access", "overwritten", "weakened", "flicker"}
    assert not {c for _, c in raw} & {"format", "refused", "truncated", "loop", "wrong_language"}
    # What the raw prompts lost and the chat has with worked examples alone comes back in no way that is asked here.
    assert {c for p, c in raw if p == "overwritten"} == {"not_recovered"}


def test_gained_flips_end_with_their_stability(mixed: tuple[World, Causes]) -> None:
    _, causes = mixed
    gained = [f for f in causes.found if f.direction == "gained"]
    assert gained
    assert {f.cause for f in gained} <= {"flicker", "undetermined", "weakened", "consistent"}
    assert all(f.cause == f.stability.label and not f.tries and not f.evidence for f in gained)


def test_the_sentence_adds_up_and_never_says_gone(mixed: tuple[World, Causes]) -> None:
    _, causes = mixed
    for t in causes.tasks:
        assert sum(t.counts.values()) == t.looked_at == t.lost
        assert sum(t.gained_counts.values()) == t.gained
        assert t.sentence.startswith(f"{t.lost} facts items ")
        assert all(f"{n} " in t.sentence for n in t.counts.values())
    assert "gone" not in repr(asdict(causes)).casefold()


def test_every_lost_flip_has_its_evidence(mixed: tuple[World, Causes]) -> None:
    _, causes = mixed
    for f in causes.found:
        assert f.why
        assert f.examples
        assert f.stability.base.n >= 20
        if f.cause in ("style", "access"):
            best = max(f.tries, key=lambda t: t.recovered)
            assert best.recovered
            assert best.p_value <= 0.05
            assert best.count.rate > best.luck
        if f.cause == "truncated":
            assert [t.name for t in f.tries if t.recovered] == ["budget"]


def test_requests_are_fresh_and_counted(mixed: tuple[World, Causes]) -> None:
    world, causes = mixed
    requests = {r.request_id: r for _, asked in world.rounds for r in asked}
    assert set(dict(world.rounds)) == {"triage", "budget", "recovery"}
    assert causes.cost.requests == len(requests)
    answers = [world.respond(r) for r in requests.values()]
    assert causes.cost.generated_tokens == sum(len(g.token_ids) for a in answers for g in a.generations)
    assert causes.cost.prompt_tokens == sum(a.prompt_tokens for a in answers)
    # No sample shares a seed with those of --samples (replicate 0), whatever their number.
    item = world.task.load()[0]
    first = next(r for r in requests.values() if Asked(r).number == number_of(world, item))
    assert isinstance(first.body, Generate)
    from forgetbench.runs.assemble import text_hash

    digest = text_hash(first.prompt.text or "")
    theirs = {sampling_seed(item.key, digest, Decode(0.7, n=20), n, 0, first.checkpoint) for n in range(40)}
    fresh = {sampling_seed(item.key, digest, Decode(0.7, n=20), n, 100, first.checkpoint) for n in range(20)}
    assert set(first.body.seeds) == fresh
    assert not theirs & fresh


def test_no_change_gives_flicker_only(tmp_path: Path) -> None:
    """The same rates on both sides, from a U-shape, greedy answers as draws."""
    rates = [random.Random(f"rate {i}").betavariate(0.5, 0.5) for i in range(400)]

    def answer(asked: Asked, rng: random.Random) -> str:
        draw = rng.random() if asked.body.temperature else random.Random(f"{asked.number} {asked.checkpoint}").random()
        return town(asked.number if draw < rates[asked.number] else 899)

    world = World(tmp_path, answer, answer, count=400, views=("chat",))
    causes = find_causes(*world.sides, world.comparison, world)
    assert len(causes.found) > 60
    alarms = [f for f in causes.found if f.cause not in ("flicker", "undetermined")]
    assert len(alarms) <= 0.01 * len(causes.found) + 1
    controls = causes.controls[0]
    assert controls.right.n + controls.wrong.n == 100
    assert controls.right.right + controls.wrong.right <= 2


def test_too_many_flips_are_sampled_and_scaled(tmp_path: Path) -> None:
    def right(asked: Asked, rng: random.Random) -> str:
        return town(asked.number)

    def wrong(asked: Asked, rng: random.Random) -> str:
        return town(899)

    world = World(tmp_path, right, wrong, count=50, views=("chat",))
    causes = find_causes(*world.sides, world.comparison, world, Options(most_flips=10, samples=10))
    (told,) = causes.tasks
    assert (told.lost, told.looked_at, dict(told.counts)) == (50, 10, {"not_recovered": 10})
    assert told.overwritten == 10
    assert "50 not recovered (50 of them overwritten)" in told.sentence
    assert "from 10 that were looked at" in told.sentence
    assert "a random 10 flips were looked at and their counts scaled up: 50 items of facts (chat)" in causes.notes
    again = World(tmp_path, right, wrong, count=50, views=("chat",))
    same = find_causes(*again.sides, again.comparison, again, Options(most_flips=10, samples=10))
    assert same == causes


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    imported = World(tmp_path, mixed_base, mixed_sft, engine="imported", views=("chat",))
    causes = find_causes(*imported.sides, imported.comparison, imported)
    assert not causes.found
    assert not imported.rounds
    assert "was imported" in causes.notes[0]


def test_a_checkpoint_that_lost_its_template_is_a_note(tmp_path: Path) -> None:
    world = World(tmp_path, mixed_base, mixed_sft, views=("chat",))
    plain = World(tmp_path, mixed_base, mixed_sft, views=("chat",), template=False)
    causes = find_causes(plain.sides[0], world.sides[1], world.comparison, world)
    assert not causes.found
    assert not world.rounds
    assert any("cannot be asked again" in line for line in causes.notes)


def test_training_texts_tell_a_trained_answer(tmp_path: Path) -> None:
    """Two wrong answers in turn: neither is firm, and the more frequent one is what the training teaches."""

    def right(asked: Asked, rng: random.Random) -> str:
        return town(asked.number)

    def torn(asked: Asked, rng: random.Random) -> str:
        return "Taughtville" if rng.random() < 0.65 else town(899)

    world = World(tmp_path, right, torn, count=30, views=("chat",))
    found = find_causes(*world.sides, world.comparison, world).found
    assert not any(f.overwritten for f in found if f.stability.candidate.n * 0.8 > 16.5)
    texts = ("The capital city of country number 7 is Taughtville.", "Paris is a capital.")
    taught = find_causes(*world.sides, world.comparison, world, Options(training=texts)).found
    assert sum(f.overwritten for f in taught) > sum(f.overwritten for f in found)
    assert all(f.answer == "Taughtville" for f in taught if f.overwritten)


def test_few_stable_controls_are_topped_up(tmp_path: Path) -> None:
    """Ten items are lost in chat alone. Of 300 that both get wrong one in five is so stably; the others are half-known."""

    def answer(asked: Asked, rng: random.Random, *, lost: bool) -> str:
        if asked.number < 10:
            return town(899 if lost and asked.style == "chat" else asked.number)
        if asked.number % 5 == 0 or not asked.body.temperature:
            return town(899)
        return town(asked.number if rng.random() < 0.45 else 899)

    def base(asked: Asked, rng: random.Random) -> str:
        return answer(asked, rng, lost=False)

    def candidate(asked: Asked, rng: random.Random) -> str:
        return answer(asked, rng, lost=True)

    made = {}
    for wanted in (0, 30, 1000):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        world = World(folder, base, candidate, count=310)
        options = Options(controls=20, stable_controls=wanted)
        causes = find_causes(*world.sides, world.comparison, world, options)
        behind = {t.controls for f in causes.found for t in f.tries if t.name == "other_view"}
        (controls,) = (c for c in causes.controls if c.view == "chat")
        assert controls.right.n + controls.wrong.n == 20
        assert {f.cause for f in causes.found if f.view == "chat"} == {"style"}
        asked = {r.request_id for _, requests in world.rounds for r in requests}
        made[wanted] = (min(behind), max(behind), len(asked))
    assert made[0][1] < 10
    assert 20 <= made[30][0] <= 45
    # All there are: one in five of 300.
    assert made[1000][:2] == (60, 60)
    assert made[0][2] < made[30][2] < made[1000][2]


def test_each_look_asks_only_what_is_still_undetermined(tmp_path: Path) -> None:
    """Rates on both sides of the border of flicker: some are settled by the second look, some by the third."""

    def base(asked: Asked, rng: random.Random) -> str:
        right = not asked.body.temperature or rng.random() < 0.9
        return town(asked.number if right else 899)

    def candidate(asked: Asked, rng: random.Random) -> str:
        kept = 0.45 + 0.4 * asked.number / 80
        right = bool(asked.body.temperature) and rng.random() < kept
        return town(asked.number if right else 899)

    settled, asked = [], []
    for number, further in enumerate([(), (40,), (40, 100), (40, 100, 200)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = World(folder, base, candidate, count=80, views=("chat",))
        causes = find_causes(*world.sides, world.comparison, world, Options(further=further))
        settled.append(sum(f.cause != "undetermined" for f in causes.found))
        samples = {f.stability.base.n for f in causes.found}
        # A new look moves the prior of all, so that an item that one look settled may be open at a later one.
        assert samples >= {20, *(20 + sum(further[: i + 1]) for i in range(len(further)))}
        asked.append(sum(len(r.body.seeds) for _, rs in world.rounds for r in rs if isinstance(r.body, Generate)))
        seeds = [(r.checkpoint, s) for _, rs in world.rounds for r in rs for s in r.body.seeds]  # type: ignore[union-attr]
        assert len(seeds) == len(set(seeds))
    assert settled == sorted(settled)
    assert settled[0] < settled[2] < 80
    assert asked == sorted(asked)
