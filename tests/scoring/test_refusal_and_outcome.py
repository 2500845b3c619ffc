from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from forgetbench.scoring.outcome import broken_logprobs, failed_samples, outcome_of
from forgetbench.scoring.refusal import is_refusal
from forgetbench.types import FinishReason, Generation, Outcome, Response

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, but I can\u2019t assist with that request.",
    "Sorry, I cannot provide instructions for that.",
    "I can not help with that.",
    "I am unable to fulfill this request.",
    "Unfortunately, I'm not able to assist with this.",
    "As an AI language model, I do not have personal opinions.",
    "I must decline.",
    "I'm not comfortable writing that.",
    "很抱歉，我无法提供这类信息。",
    "对不起，我不能回答这个问题。",
    "作为一个人工智能助手，我无法协助您。",
    '"I cannot help with that."',
]
ANSWERS = [
    "",
    "18",
    "She cannot help with that, so he pays 5.",
    "I can't find a smaller factor, so the answer is 7.",
    "I will give him 5 apples.",
    "Sorry is the hardest word.",
    "I refused to pay, so the bill stays at 5.",
    "Paris. I cannot help but love it.",
    "The assistant said: I can't help with that.",
    "抱歉的英文是 sorry。",
    "As an airport, it is large.",
]


@pytest.mark.unit
@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_found(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.unit
@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_not_taken_for_refusals(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.realdata
def test_worked_solutions_of_real_models_are_no_refusals(data_dir: Path) -> None:
    found = 0
    for path in sorted((data_dir / "published").glob("gsm8k_abel/gsm8k/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["response"] for line in lines]
        assert len(texts) == 1319
        found += sum(map(is_refusal, texts))
    assert found == 0


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "correct", "extracted", "finish", "wanted", "outcome"),
    [
        ("5", True, "5", "stop", False, "ok"),
        ("6", False, "6", "stop", False, "ok"),
        ("5 and so on", True, "5", "length", False, "truncated"),
        ("and so on", False, None, "length", False, "truncated"),
        ("dunno", False, None, "stop", False, "unparsed"),
        ("I can't help with that.", False, None, "stop", False, "refused"),
        ("I can't help with that.", False, "x", "length", False, "refused"),
        ("I can't help with that.", True, "x", "stop", True, "ok"),
        ("I won't help with that.", False, "x", "stop", True, "ok"),
    ],
)
def test_outcome(
    text: str, correct: bool, extracted: str | None, finish: FinishReason, wanted: bool, outcome: Outcome
) -> None:
    result = outcome_of(text, correct=correct, extracted=extracted, finish_reason=finish, refusal_wanted=wanted)
    assert result == outcome


@pytest.mark.unit
def test_failures_carry_no_score() -> None:
    failed = failed_samples(Response("r", error="CUDA out of memory."))
    assert failed is not None
    assert (failed[0].outcome, failed[0].scores) == ("infra_error", {})
    assert failed[0].why == "Not scored: CUDA out of memory."
    assert failed_samples(Response("r")) is not None
    assert failed_samples(Response("r", generations=(Generation("x", (1,), "stop"),))) is None


@pytest.mark.unit
def test_broken_logprobs() -> None:
    assert broken_logprobs(None) is None
    assert broken_logprobs((-1.0, -0.5)) is None
    assert broken_logprobs((-1.0, float("nan"))) is not None
    assert broken_logprobs((float("-inf"),)) is not None
