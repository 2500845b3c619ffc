"""Plans: stable ids, no question asked twice, every origin kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from forgetbench.checkpoints import Checkpoint
from forgetbench.planning import TaskJob, build_plan
from forgetbench.planning.order import in_order
from forgetbench.planning.plan import sampling_seed
from forgetbench.types import GREEDY, Decode, Generate, ItemKey, PromptSpec
from tests.planning.conftest import FakeTask

pytestmark = pytest.mark.unit
TEXTS = ["delta", "alpha", "alpha", "charlie", "bravo", "alphabet"]


def ranked(name: str = "r", texts: list[str] = TEXTS) -> FakeTask:
    return FakeTask(name, texts, lambda t: PromptSpec("rank", f"Q: {t}", choices=("A", "B")))


def written(name: str = "w", texts: list[str] = TEXTS, stop: tuple[str, ...] = ("\n",)) -> FakeTask:
    return FakeTask(name, texts, lambda t: PromptSpec("generate", f"Q: {t}", stop=stop, max_tokens=32))


def job(task: FakeTask, **changes: object) -> TaskJob:
    settings: dict[str, object] = {"view": "ability", "style": "raw", **changes}
    return TaskJob(task, task.load(), **settings)  # type: ignore[arg-type]


def test_deterministic_and_in_order(checkpoint: Checkpoint) -> None:
    jobs = [job(written()), job(ranked()), job(ranked(), view="chat", style="chat")]
    plan = build_plan(jobs, checkpoint)
    assert plan == build_plan(jobs, checkpoint)
    assert plan.requests == build_plan(jobs[::-1], checkpoint).requests
    assert list(plan.requests) == in_order(plan.requests)
    texts = [r.prompt.text for r in plan.requests]
    assert len(set(texts)) == len([a for a, b in pairwise([None, *texts]) if a != b])  # a text's requests adjoin


def test_ids_do_not_depend_on_limit_order_or_company(checkpoint: Checkpoint) -> None:
    whole = build_plan([job(written()), job(ranked())], checkpoint)
    ids = {(o.item, o.view): r for r, origins in whole.origins.items() for o in origins}
    task = ranked()
    some = list(task.load())[1:4]
    random.Random(3).shuffle(some)
    part = build_plan([TaskJob(task, some, "ability", "raw")], checkpoint)
    for request, origins in part.origins.items():
        for origin in origins:
            assert ids[origin.item, origin.view] == request
    assert {r.request_id for r in part.requests} < {r.request_id for r in whole.requests}


def test_equal_prompts_share_one_greedy_request(checkpoint: Checkpoint) -> None:
    plan = build_plan([job(ranked()), job(ranked("copy")), job(ranked(), view="as_used")], checkpoint)
    assert len(plan.requests) == 5  # six texts, two of them equal
    assert len({r.request_id for r in plan.requests}) == 5
    alpha = next(r for r in plan.requests if r.prompt.text == "Q: alpha")
    origins = plan.origins[alpha.request_id]
    assert {(o.item.task, o.item.occurrence, o.view) for o in origins} == {
        (task, occurrence, view)
        for task, view in (("r", "ability"), ("r", "as_used"), ("copy", "ability"))
        for occurrence in (0, 1)
    }
    assert len({o.prompt_text_hash for o in origins}) == 1


def test_samples_are_drawn_for_each_item(checkpoint: Checkpoint) -> None:
    decode = Decode(temperature=0.8, top_p=0.9, n=3)
    plan = build_plan([job(written(), decode=decode)], checkpoint)
    assert len(plan.requests) == 6  # equal prompts, but other seeds
    bodies = [r.body for r in plan.requests if isinstance(r.body, Generate)]
    assert all((b.temperature, b.top_p, len(b.seeds)) == (0.8, 0.9, 3) for b in bodies)
    seeds = [s for b in bodies for s in b.seeds]
    assert len(set(seeds)) == 18
    assert all(0 <= s < 2**63 for s in seeds)
    assert {o.decode_id for origins in plan.origins.values() for o in origins} == {"T0.8/p0.9/K3"}


def test_seeds_differ_by_everything_they_should() -> None:
    base = (ItemKey("t", "h", 0), "p", Decode(1.0, n=2), 0, 0, "c")
    others = [
        (ItemKey("u", "h", 0), *base[1:]),
        (ItemKey("t", "h", 1), *base[1:]),
        (base[0], "q", *base[2:]),
        (*base[:2], Decode(0.5, n=2), *base[3:]),
        (*base[:2], Decode(1.0, 0.9, n=2), *base[3:]),
        (*base[:3], 1, 0, "c"),
        (*base[:3], 0, 1, "c"),
        (*base[:5], "d"),
    ]
    assert len({sampling_seed(*x) for x in [base, *others]}) == 9
    assert sampling_seed(*base) == sampling_seed(*base)


def test_more_samples_begin_with_the_same_ones(checkpoint: Checkpoint) -> None:
    few, many = (
        [r.body for r in build_plan([job(written(), decode=Decode(0.8, n=n))], checkpoint).requests] for n in (2, 5)
    )
    for a, b in zip(few, many, strict=True):
        assert isinstance(a, Generate)
        assert isinstance(b, Generate)
        assert b.seeds[:2] == a.seeds


def test_greedy_ignores_sampling_settings_and_ranks_are_greedy(checkpoint: Checkpoint) -> None:
    plain = build_plan([job(written())], checkpoint)
    cold = build_plan([job(written(), decode=Decode(temperature=0.0, top_p=0.5, n=1))], checkpoint)
    assert plain.requests == cold.requests
    hot = build_plan([job(ranked(), decode=Decode(temperature=1.0, n=4))], checkpoint)
    assert hot.requests == build_plan([job(ranked())], checkpoint).requests
    assert {o.decode_id for origins in hot.origins.values() for o in origins} == {GREEDY}


def test_what_changes_an_id(make: Callable[..., Checkpoint]) -> None:
    def ids(changes: dict[str, object], task: FakeTask | None = None, script: str = "{}") -> frozenset[str]:
        plan = build_plan([job(task or written(), **changes)], make(script=script))
        return frozenset(r.request_id for r in plan.requests)

    decode = Decode(temperature=1.0)
    variants = [
        ids({}),
        ids({"max_tokens": 33}),
        ids({"stop": ("x",)}),
        ids({"stop": ()}),
        ids({"style": "chat"}),
        ids({"decode": decode}),
        ids({}, ranked()),
        ids({}, script='{"default": {"text": "x"}}'),
    ]
    assert len(set(variants)) == len(variants)
    assert ids({"view": "as_used"}) == variants[0]  # a view is a reason, not a question
    assert ids({"max_tokens": 32, "stop": ("\n",)}) == variants[0]


def test_replicates_draw_anew_and_greedy_stays(checkpoint: Checkpoint) -> None:
    hot = [job(written(), decode=Decode(temperature=1.0, n=2))]
    one, two = build_plan(hot, checkpoint), build_plan(hot, checkpoint, replicate=1)
    assert not {r.request_id for r in one.requests} & {r.request_id for r in two.requests}
    assert {o.replicate for origins in two.origins.values() for o in origins} == {1}
    cold = [job(written())]
    assert build_plan(cold, checkpoint).requests == build_plan(cold, checkpoint, replicate=1).requests


def test_chat_without_a_template_is_said_and_skipped(make: Callable[..., Checkpoint]) -> None:
    plan = build_plan([job(ranked(), view="chat", style="chat"), job(ranked())], make("base", template=None))
    assert len(plan.requests) == 5
    (line,) = plan.skipped
    assert line == "base: the chat view needs a chat template and base has none: 6 items not asked"


def test_what_a_template_refuses_is_said_once(make: Callable[..., Checkpoint]) -> None:
    refusing = make(template="{{ raise_exception('no questions') }}")
    plan = build_plan([job(ranked(), view="chat", style="chat")], refusing)
    assert plan.requests == ()
    (line,) = plan.skipped
    assert "no questions" in line
    assert "(6 items not asked)" in line


def test_ability_prompts_are_the_same_for_two_checkpoints(make: Callable[..., Checkpoint]) -> None:
    """The hash in an origin is of the text alone: what comparisons check."""

    def hashes(checkpoint: Checkpoint) -> dict[ItemKey, str]:
        plan = build_plan([job(ranked())], checkpoint)
        return {o.item: o.prompt_text_hash for origins in plan.origins.values() for o in origins}

    one, two = make("a", script="{}"), make("b", script='{"rules": []}')
    assert one.digest != two.digest
    assert hashes(one) == hashes(two)
