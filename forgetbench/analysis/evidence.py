"""Pairs of answers as evidence: what a report shows beside the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from forgetbench.analysis.frames import SideFrame
from forgetbench.analysis.pairing import Matched, Pairing
from forgetbench.analysis.types import OUTCOMES, Pair, PairedScores, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N = TypeVar("_N", int, float)
_HALF = 0.5


def evidence(pairing: Pairing) -> Iterator[Pair]:
    """One Pair per item, view and decoding, by the metric that the task is decided on."""
    for matched, scores in pairing.primary():
        yield from _pairs(pairing, matched, scores)


def flip_of(base: float, candidate: float, *, binary: bool) -> str:
    """How an item moved; nan: a side has no score."""
    if np.isnan(base) or np.isnan(candidate):
        return "dropped"
    if base == candidate:
        return "same"
    # Success rates of K samples move by chance: only half of them or more is called a flip.
    if binary and abs(candidate - base) >= _HALF:
        return "lost" if candidate < base else "gained"
    return "changed"


def _pairs(pairing: Pairing, m: Matched, scores: PairedScores) -> Iterator[Pair]:
    base_rows = _shown(pairing.base, m.base_rows, m.base_of, m.base_first, scores, scores.base)
    rows = _shown(pairing.candidate, m.candidate_rows, m.candidate_of, m.candidate_first, scores, scores.candidate)
    prompts, prompts2 = pairing.base.column("prompt"), pairing.candidate.column("prompt")
    gold, source = pairing.base.column("gold"), pairing.base.column("source")
    for i, item in enumerate(m.items.tolist()):
        key, b, c = pairing.base.keys[item], int(base_rows[i]), int(rows[i])
        yield Pair(
            task=key.task,
            content_hash=key.content_hash,
            occurrence=key.occurrence,
            task_type=scores.task_types[i],
            view=m.view,
            metric=scores.metric,
            decode_id=m.decode_id,
            gold=gold[b] or "",
            prompt=prompts[b],
            flip=flip_of(float(scores.base[i]), float(scores.candidate[i]), binary=scores.binary),
            base=_answer(pairing.base, b, float(scores.base[i])),
            candidate=_answer(pairing.candidate, c, float(scores.candidate[i])),
            stratum=scores.strata[i],
            source=source[b],
            candidate_prompt=prompts2[c] if prompts2[c] != prompts[b] else None,
        )


def _shown(
    side: SideFrame,
    rows: NDArray[np.int64],
    of: NDArray[np.int64],
    first: NDArray[np.int64],
    scores: PairedScores,
    means: NDArray[np.float64],
) -> NDArray[np.int64]:
    """The row that stands for each item: of K samples the first whose score is nearest to the item's mean."""
    if rows.size == first.size:
        return first
    values, weights, _ = side.values(rows, scores.metric, primary=scores.primary)
    distance = np.where(weights > 0, np.abs(values - means[of]), np.inf)
    order = np.lexsort((np.arange(rows.size), distance, of))
    chosen: NDArray[np.int64] = rows[order[np.searchsorted(of[order], np.arange(first.size))]]
    return chosen


def _answer(side: SideFrame, row: int, score: float) -> Side:
    def text(name: str) -> str:
        return side.column(name)[row] or ""

    return Side(
        score=None if np.isnan(score) else score,
        outcome=OUTCOMES[side.outcome[row]],
        output=text("output"),
        extracted=side.column("extracted")[row],
        why=text("why"),
        style=side.column("style")[row],
        prompt_text_hash=side.column("prompt_text_hash")[row],
        prompt_token_hash=side.column("prompt_token_hash")[row],
        finish_reason=side.column("finish_reason")[row],
        n_output_tokens=_number(side.column("n_output_tokens")[row], int),
        mean_logprob=_number(side.column("mean_logprob")[row], float),
    )


def _number(value: Any, kind: type[_N]) -> _N | None:
    return None if value is None else kind(value)
