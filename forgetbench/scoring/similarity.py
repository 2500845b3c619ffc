"""BLEU and ROUGE of one text against one reference, by the libraries and settings that lm-eval uses."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

MEASURES = ("bleu", "rouge1", "rouge2", "rougeL")


def similarity(text: str, reference: str) -> Mapping[str, float]:
    """Each of MEASURES from 0 to 100.

    BLEU is sacrebleu's of a corpus of one, `intl` tokens, exponential smoothing, no effective order; ROUGE the F1
    of rouge_score without stemming, `rougeL` by lines (rougeLsum), where " . " counts as a line end.
    """
    import sacrebleu

    bleu = sacrebleu.corpus_bleu(
        [text], [[reference]], smooth_method="exp", smooth_value=0.0, tokenize="intl", use_effective_order=False
    ).score
    # rouge_score takes a line for a sentence.
    rouge = _rouge().score(*(t.replace(" . ", ".\n") for t in (reference, text)))
    return {
        "bleu": float(bleu),
        "rouge1": 100.0 * float(rouge["rouge1"].fmeasure),
        "rouge2": 100.0 * float(rouge["rouge2"].fmeasure),
        "rougeL": 100.0 * float(rouge["rougeLsum"].fmeasure),
    }


@functools.cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeLsum"])
