"""The deployment preset around the real benchmarks: same scores with and without thinking before the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgetbench.tasks.base import in_style
from forgetbench.tasks.deployment import BUDGET, Asked, Deployment, deploy
from forgetbench.tasks.registry import TASK_NAMES, get_task
from forgetbench.tasks.source import DataSource
from forgetbench.types import Generation, Response

pytestmark = pytest.mark.realdata

THOUGHT = "<think>Let me see, 17 or 18? Answer: #### 5\n\nNo, I do not.</think>\n\n"
ANSWERS = (
    "The answer is 18.\n#### 18",
    "I have no comment.",
    "<<a title>> In short, there are two of them: 12, and 7.",
)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_limits_and_stops_of_every_benchmark(data_dir: Path, name: str) -> None:
    task = get_task(name, source=DataSource(data_dir=data_dir))
    item = task.load()[0]
    deployed = deploy(task)
    if task.prompt(item, 0).form == "rank":
        assert deployed is task
        return
    assert isinstance(deployed, Deployment)
    assert deployed.version.startswith(task.version)
    assert deployed.version != task.version
    for style in ("raw", "chat"):
        plain = in_style(task, style).prompt(item, 0)  # type: ignore[arg-type]
        spec = in_style(deployed, style).under(Asked(style)).prompt(item, 0)  # type: ignore[arg-type,attr-defined]
        assert spec.max_tokens == BUDGET >= plain.max_tokens
        assert (spec.question, spec.prefill, spec.shots) == (plain.question, plain.prefill, plain.shots)
        assert spec.stop == (plain.stop if style == "raw" or plain.prefill else ())


@pytest.mark.parametrize("name", ["gsm8k", "ifeval", "truthfulqa_gen"])
def test_thinking_changes_no_score(data_dir: Path, name: str) -> None:
    task = get_task(name, source=DataSource(data_dir=data_dir))
    deployed = deploy(task)
    for item in task.load()[:3]:
        for answer in ANSWERS:
            (plain,) = task.score(item, _said(answer))
            (thought,) = deployed.score(item, _said(THOUGHT + answer))
            (open_end,) = deployed.score(item, _said("<think>" + answer))
            assert (thought.scores, thought.outcome, thought.extracted) == (
                plain.scores,
                plain.outcome,
                plain.extracted,
            )
            assert thought.output == THOUGHT + answer
            assert thought.extra["thought"] is True
            assert open_end.outcome == "truncated"


def test_an_engines_failure_stays_one(data_dir: Path) -> None:
    deployed = deploy(get_task("gsm8k", source=DataSource(data_dir=data_dir)))
    item = deployed.load()[0]
    for response in (Response("r", error="dead"), _said("<think>x", "error"), _said("18", logprob=float("nan"))):
        (judged,) = deployed.score(item, response)
        assert (judged.outcome, judged.scores, judged.extra) == ("infra_error", {}, {})


def _said(text: str, finish: str = "stop", logprob: float = -0.1) -> Response:
    return Response("r", generations=(Generation(text, (1,), finish, (logprob,)),))  # type: ignore[arg-type]
