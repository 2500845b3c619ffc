"""Score a ranked multiple-choice item, for MMLU and for choice items of custom sets alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from forgetbench.scoring.choices import describe, first_argmax
from forgetbench.scoring.outcome import failed_samples, infra_error
from forgetbench.types import Item, Judged, Response


def score_ranking(item: Item, response: Response, labels: Sequence[str], metric: str) -> list[Judged]:
    """One `Judged`: the most likely option against the answer; of equally likely ones the first counts.

    `item.doc` holds `choices` (texts) and `answer` (an index); `labels` name the options in the same order.
    A log-probability that is not finite is an `infra_error`, where lm-eval's argmax would choose the NaN.
    """
    failed = failed_samples(response)
    if failed is not None:
        return failed
    logprobs = [s.logprob for s in response.scores]
    if len(logprobs) != len(labels):
        return [infra_error(f"the engine scored {len(logprobs)} of {len(labels)} options")]
    shown = describe(labels, logprobs)
    if not all(math.isfinite(v) for v in logprobs):
        return [infra_error("a log-probability is not finite", shown)]
    best, gold = first_argmax(logprobs), int(item.doc["answer"])
    gap = logprobs[best] - logprobs[gold]
    if best == gold:
        why = f"{labels[best]} is the most likely option and the answer."
    elif gap:
        why = f"{labels[best]} is more likely than the answer {labels[gold]} by {gap:.2f} nats."
    else:
        why = f"{labels[best]} is as likely as the answer {labels[gold]}; of equal options the first counts."
    chosen = option_name(labels[best], item.doc["choices"][best])
    return [Judged({metric: float(best == gold)}, "ok", f"{chosen} [log-probabilities: {shown}]", chosen, why)]


def option_name(label: str, text: str) -> str:
    """`B. Rome`, or just `Rome` where options have no letters."""
    return text if label == text else f"{label}. {text}"
