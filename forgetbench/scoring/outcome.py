"""What became of a sample, by one rule for every generate task.

In this order:
1. `infra_error`: the engine failed, or a log-probability is not finite. No scores: it never counts as wrong.
2. `refused`: the answer is wrong and opens with a refusal, where the reference is none. A refusal that the
   token limit cut off is still a refusal; one that was asked for and scored as right is `ok`.
3. `truncated`: the generation ended at the token limit, whatever could be extracted from it. It is scored all
   the same (as lm-eval does); the rate of it is what a policy limits, so it must not depend on the score.
4. `unparsed`: no answer could be extracted. Scored, as wrong.
5. `ok`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from forgetbench.scoring.refusal import is_refusal
from forgetbench.types import FinishReason, Generation, Judged, Outcome, Response


def outcome_of(
    text: str,
    *,
    correct: bool,
    extracted: str | None,
    finish_reason: FinishReason,
    refusal_wanted: bool = False,
) -> Outcome:
    """The outcome of one generated answer (see the module's docstring for the order)."""
    if not correct and not refusal_wanted and is_refusal(text):
        return "refused"
    if finish_reason == "length":
        return "truncated"
    if extracted is None:
        return "unparsed"
    return "ok"


def infra_error(problem: str, output: str = "") -> Judged:
    """A sample that failed for reasons outside the model."""
    return Judged(scores={}, outcome="infra_error", output=output, extracted=None, why=f"Not scored: {problem}.")


def failed_samples(response: Response) -> list[Judged] | None:
    """One `infra_error` for a response that carries an error or nothing at all; None: score it."""
    if response.error is not None:
        return [infra_error(response.error.strip().rstrip(".") or "the engine gave no reason")]
    if not response.generations and not response.scores:
        return [infra_error("the engine's response is empty")]
    return None


def broken_logprobs(logprobs: tuple[float, ...] | None) -> str | None:
    """What is wrong with the log-probabilities of a generation, or None."""
    if logprobs is not None and not all(map(math.isfinite, logprobs)):
        return "a log-probability of the generated text is not finite"
    return None


def judge_each(response: Response, judge: Callable[[Generation], Judged]) -> list[Judged]:
    """One Judged for each generation; `judge` sees none that failed for reasons outside the model."""
    failed = failed_samples(response)
    if failed is not None:
        return failed
    if not response.generations:
        return [infra_error("the engine's response has no generation")]

    def one(generation: Generation) -> Judged:
        broken = broken_logprobs(generation.logprobs)
        if generation.finish_reason == "error" or broken:
            return infra_error(broken or "the engine broke off the generation", generation.text)
        return judge(generation)

    return [one(generation) for generation in response.generations]
