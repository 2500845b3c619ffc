"""Further questions of an item, and text that no template may touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from forgetbench.checkpoints import Checkpoint
from forgetbench.planning import TaskJob, build_plan
from forgetbench.types import Decode, PromptSpec, Score
from tests.planning.conftest import FakeTask

pytestmark = pytest.mark.unit


def informed(text: str) -> PromptSpec:
    """Options after a question, then alone: every item asks the second."""
    alone = PromptSpec("rank", "", choices=(" A", " B"), answer_delimiter="", plain=True)
    return PromptSpec("rank", f"Q: {text}", choices=("A", "B"), also=(alone,))


def test_every_question_has_its_place_and_a_shared_one_is_asked_once(checkpoint: Checkpoint) -> None:
    task = FakeTask("t", [f"item {n}" for n in range(4)], informed)
    for view, style in (("ability", "raw"), ("chat", "chat")):
        plan = build_plan([TaskJob(task, task.load(), view, style)], checkpoint)  # type: ignore[arg-type]
        assert len(plan.requests) == 5
        [alone] = [r for r in plan.requests if r.prompt.text == ""]
        assert alone.prompt.add_special_tokens  # plain in chat too
        assert isinstance(alone.body, Score)
        assert alone.body.continuations == (" A", " B")
        origins = {r: plan.origins[r.request_id] for r in plan.requests}
        assert {o.part for o in origins[alone]} == {1}
        assert {o.item for o in origins[alone]} == {i.key for i in task.load()}
        assert {o.part for r, found in origins.items() if r is not alone for o in found} == {0}


def test_an_item_is_asked_whole_or_not_at_all(checkpoint: Checkpoint) -> None:
    def spec(text: str) -> PromptSpec:
        more = PromptSpec("generate", "more", max_tokens=3)
        return replace(informed(text), also=(more,)) if text == "both" else informed(text)

    task = FakeTask("t", ["both", "one"], spec)
    hot = build_plan([TaskJob(task, task.load(), "ability", "raw", decode=Decode(0.7, 0.9, 2))], checkpoint)
    assert {o.item for found in hot.origins.values() for o in found} == {task.load()[1].key}
    [line] = hot.skipped
    assert "both rank and generate" in line
    greedy = build_plan([TaskJob(task, task.load(), "ability", "raw")], checkpoint)
    assert not greedy.skipped
    assert len(greedy.requests) == 4


def test_ids_of_tasks_with_one_question_are_what_they_were(make: Callable[..., Checkpoint]) -> None:
    """Nothing that this adds may enter the id of a request, or every stored run would be asked again."""
    checkpoint = replace(make(), digest="0" * 16)
    task = FakeTask("t", ["x"], lambda text: PromptSpec("rank", f"Q: {text}", choices=("A", "B")))
    [request] = build_plan([TaskJob(task, task.load(), "ability", "raw")], checkpoint).requests
    assert request.request_id == "018d98e1e4058825a4a27256"
