"""Prompts asked in other words, on tasks that write their worked examples in ways of their own."""

from __future__ import annotations

import pytest

from forgetbench.belief.prompts import FewShotDraw
from forgetbench.tasks.lm_eval_bridge import LmEvalTask
from forgetbench.tasks.lm_eval_prompts import OWN_SHOTS
from tests.parity.bridged import own_sums

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> LmEvalTask:
    folder = tmp_path_factory.mktemp("tasks")
    own_sums(folder, 40, num_fewshot=2, max_gen_toks=6)
    return LmEvalTask("sums", include=folder)


@pytest.mark.parametrize("shots", [OWN_SHOTS, 0, 1, 2])
def test_a_task_that_writes_its_examples_into_its_question_is_asked_as_it_stands(sums: LmEvalTask, shots: int) -> None:
    item = sums.load()[3]
    prompts = [FewShotDraw(sums, draw, 0, {}).prompt(item, shots) for draw in range(3)]
    assert prompts == [sums.prompt(item, shots)] * 3
    assert prompts[0].question.count("=") == 1 + (2 if shots == OWN_SHOTS else shots)
