"""MMLU against lm-eval: two items of every subject, raw and chat, five shots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forgetbench.tasks.mmlu import SUBJECTS, Mmlu
from forgetbench.tasks.select import select
from forgetbench.types import Style

from .both import run_lm_eval, run_ours
from .conftest import PER_SUBJECT

pytestmark = [pytest.mark.parity, pytest.mark.realdata, pytest.mark.slow]

TOLERANCE = 1e-4


def check(
    mmlu: Mmlu,
    manager: Any,
    folder: Path,
    style: Style,
    subjects: list[str],
    num_fewshot: int,
    max_length: int | None = None,
) -> int:
    """Compare item by item; returns how many items were compared."""
    items = [i for i in select(mmlu.load(), PER_SUBJECT, per_stratum=True) if i.stratum in subjects]
    ours = run_ours(mmlu, items, style, folder, num_fewshot, max_length=max_length)
    theirs = run_lm_eval(
        manager,
        [f"mmlu_{s}" for s in subjects],
        folder,
        style=style,
        num_fewshot=num_fewshot,
        limit=PER_SUBJECT,
        batch_size=4,
        max_length=max_length,
    )
    compared = 0
    for samples in theirs.values():
        for sample in samples:
            key = mmlu.canonical(sample["doc"])
            assert key is not None
            mine = ours[key]
            assert [a[0] for a in sample["arguments"]] == [mine.prompt] * 4
            assert tuple(a[1] for a in sample["arguments"]) == mine.continuations
            for (logprob, greedy), score in zip(sample["filtered_resps"], mine.response.scores, strict=True):
                assert score.logprob == pytest.approx(float(logprob), abs=TOLERANCE)
                assert str(score.is_greedy) == str(greedy)
            [judged] = mine.judged
            assert judged.scores == {"acc": sample["acc"]}
            assert judged.outcome == "ok"
            compared += 1
    return compared


@pytest.mark.parametrize("style", ["raw", "chat"])
def test_every_subject(mmlu: Mmlu, lm_eval_manager: Any, qwen_folder: Path, style: Style) -> None:
    compared = check(mmlu, lm_eval_manager, qwen_folder, style, sorted(SUBJECTS), 5)
    assert compared == PER_SUBJECT * 57


@pytest.mark.parametrize(("style", "num_fewshot"), [("raw", 5), ("chat", 5), ("raw", 0)])
def test_a_tokenizer_that_adds_bos(
    mmlu: Mmlu, lm_eval_manager: Any, llama_folder: Path, style: Style, num_fewshot: int
) -> None:
    subjects = ["anatomy", "high_school_european_history", "moral_scenarios"]
    assert check(mmlu, lm_eval_manager, llama_folder, style, subjects, num_fewshot) == PER_SUBJECT * 3


@pytest.mark.parametrize("style", ["raw", "chat"])
def test_a_context_that_is_too_short(mmlu: Mmlu, lm_eval_manager: Any, qwen_folder: Path, style: Style) -> None:
    """What does not fit is cut on the left, at the same token."""
    assert check(mmlu, lm_eval_manager, qwen_folder, style, ["anatomy", "virology"], 5, 300) == PER_SUBJECT * 2


def test_the_four_groups_are_lm_evals() -> None:
    """Subject to category, from the `tag` of each registered YAML file."""
    import lm_eval
    import yaml

    folder = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    theirs = {}
    for path in folder.glob("mmlu_*.yaml"):
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        theirs[entry["dataset_name"]] = entry["tag"].removeprefix("mmlu_").removesuffix("_tasks")
    assert theirs == dict(SUBJECTS)
