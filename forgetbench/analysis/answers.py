"""What the generated answers of two paired runs cost: how long they are, and the time they took.

Lengths are in tokens of each side's own tokenizer. Items count where both sides gave a text; infra errors gave
none. Times are of greedy answers only: the seconds of K samples are those of all K together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.frames import SideFrame
from forgetbench.analysis.latency import Timed, compare_speed
from forgetbench.analysis.paired import estimator, interval
from forgetbench.analysis.pairing import Pairing
from forgetbench.analysis.types import AnswerChange, LengthChange, Lengths, SpeedChange
from forgetbench.types import GREEDY, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

ALL = "all"
_DRAWS = 2_000
"""Read by eye and decides nothing: fewer draws than a change has."""
_OF_THE_CHECKPOINT = ("adapter", "fingerprint", "model", "script")
"""In an engine's identity, and yet what is compared: an adapter on the base, another model of the same server."""


class _Side(NamedTuple):
    """Answers of one side to the items of a task, sample by sample."""

    tokens: Floats
    """(samples,); nan: no text."""
    of: Ints
    """(samples,) position of the item."""
    ended: NDArray[np.object_]
    """(samples,) finish_reason or None."""

    def means(self, n: int) -> Floats:
        """(n,) tokens of an item's mean sample; nan: no sample has a text."""
        known = ~np.isnan(self.tokens)
        count = np.bincount(self.of[known], minlength=n)
        total = np.bincount(self.of[known], weights=self.tokens[known], minlength=n)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, total / count, np.nan)

    def keep(self, items: NDArray[np.bool_]) -> _Side:
        """The samples of these items that have a text."""
        kept = items[self.of] & ~np.isnan(self.tokens)
        return _Side(self.tokens[kept], self.of[kept], self.ended[kept])

    def lengths(self) -> Lengths:
        known = [e for e in self.ended.tolist() if e is not None]
        median, p90 = np.quantile(self.tokens, [0.5, 0.9])
        return Lengths(
            median=float(median),
            mean=float(self.tokens.mean()),
            p90=float(p90),
            at_limit=sum(e == "length" for e in known) / len(known) if known else None,
        )


class _Answers(NamedTuple):
    """The items of one task that both answered with a text."""

    task: str
    view: View
    decode_id: str
    base: _Side
    candidate: _Side
    base_means: Floats
    """(n,)"""
    candidate_means: Floats
    clusters: Ints


def answer_change(
    pairing: Pairing,
    base_manifest: Mapping[str, object],
    candidate_manifest: Mapping[str, object],
    *,
    seed: int = 0,
) -> AnswerChange | None:
    """Lengths and speed of a pairing; None where no item was answered with a text by both."""
    answers = [a for a in _answers(pairing) if a.base_means.size]
    if not answers:
        return None
    tokenizers = [_parts(m, "parts").get("tokenizer") for m in (base_manifest, candidate_manifest)]
    return AnswerChange(
        lengths=tuple(_length_changes(answers, seed)),
        speed=_speed(pairing, engines_differ(base_manifest, candidate_manifest), seed),
        other_tokenizer=None not in tokenizers and tokenizers[0] != tokenizers[1],
    )


def engines_differ(base_manifest: Mapping[str, object], candidate_manifest: Mapping[str, object]) -> str:
    """What is not the same about the engines that computed two runs; empty where nothing is."""
    left, right = (_parts(m, "engine") for m in (base_manifest, candidate_manifest))
    if not left or not right:
        return "the engine of a side is not known"
    keys = [k for k in sorted(left.keys() | right.keys()) if k not in _OF_THE_CHECKPOINT]
    found = [f"{k}: {left.get(k, 'none')}, {right.get(k, 'none')}" for k in keys if left.get(k) != right.get(k)]
    return f"the engines differ ({'; '.join(found)})" if found else ""


def _parts(manifest: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = manifest.get(name)
    return found if isinstance(found, Mapping) else {}


def _answers(pairing: Pairing) -> list[_Answers]:
    found = []
    for m, scores in pairing.primary():
        n = m.items.size
        sides = [
            _Side(_numbers(side, "n_output_tokens", rows), of, side.column("finish_reason")[rows])
            for side, rows, of in (
                (pairing.base, m.base_rows, m.base_of),
                (pairing.candidate, m.candidate_rows, m.candidate_of),
            )
        ]
        means = [side.means(n) for side in sides]
        both = ~(np.isnan(means[0]) | np.isnan(means[1]))
        found.append(
            _Answers(
                m.task,
                m.view,
                m.decode_id,
                sides[0].keep(both),
                sides[1].keep(both),
                means[0][both],
                means[1][both],
                scores.clusters[both],
            )
        )
    return found


def _numbers(side: SideFrame, column: str, rows: Ints) -> Floats:
    """(rows,) as floats, nan for null."""
    return np.asarray([np.nan if x is None else float(x) for x in side.column(column)[rows]], dtype=np.float64)


def _length_changes(answers: Sequence[_Answers], seed: int) -> list[LengthChange]:
    """One for each task, view and decoding; before them all tasks of a view together, where there are several."""
    made = []
    for key in dict.fromkeys((a.view, a.decode_id) for a in answers):
        mine = [a for a in answers if (a.view, a.decode_id) == key]
        if len(mine) > 1:
            made.append(_length_change(ALL, ALL, mine, seed))
        made += [_length_change(a.task, "task", [a], seed) for a in mine]
    return made


def _length_change(group: str, kind: str, answers: Sequence[_Answers], seed: int) -> LengthChange:
    base, candidate, clusters = (
        np.concatenate([a.base_means for a in answers]),
        np.concatenate([a.candidate_means for a in answers]),
        np.concatenate([a.clusters for a in answers]),
    )
    fit = estimator(base, candidate, clusters, single=False, draws=_DRAWS, seed=seed)
    return LengthChange(
        group=group,
        kind=kind,
        view=answers[0].view,
        decode_id=answers[0].decode_id,
        n=base.size,
        base=_joined([a.base for a in answers]).lengths(),
        candidate=_joined([a.candidate for a in answers]).lengths(),
        delta=fit.delta,
        interval=interval(fit) if fit.n_clusters > 1 else None,
    )


def _joined(sides: Sequence[_Side]) -> _Side:
    """The samples of several tasks; `of` is of no use any more."""
    return _Side(*(np.concatenate(columns) for columns in zip(*sides, strict=True)))


def _speed(pairing: Pairing, not_comparable: str, seed: int) -> SpeedChange:
    """Lines through the same items on both sides; through each side's own where only one has times."""
    times = _timed(pairing)
    both = times.base_known & times.candidate_known
    paired = bool(both.any())
    rows = (both, both) if paired else (times.base_known, times.candidate_known)
    return compare_speed(
        times.base.pick(np.flatnonzero(rows[0])),
        times.candidate.pick(np.flatnonzero(rows[1])),
        paired=paired,
        not_comparable=not_comparable,
        seed=seed,
    )


class _Times(NamedTuple):
    """Greedy answers of all tasks and views, row i the same item on both sides."""

    base: Timed
    candidate: Timed
    base_known: NDArray[np.bool_]
    candidate_known: NDArray[np.bool_]


def _timed(pairing: Pairing) -> _Times:
    greedy = [m for m in pairing.matched if m.decode_id == GREEDY]
    groups = [np.full(m.items.size, code, dtype=np.int64) for code, m in enumerate(greedy)]
    sides = []
    for side, firsts in (
        (pairing.base, [m.base_first for m in greedy]),
        (pairing.candidate, [m.candidate_first for m in greedy]),
    ):
        rows = np.concatenate([np.empty(0, dtype=np.int64), *firsts])
        tokens, seconds = _numbers(side, "n_output_tokens", rows), _numbers(side, "seconds", rows)
        # A scripted engine takes no time at all: its zeros are no measurement.
        known = (tokens >= 1) & (seconds > 0) & np.isfinite(seconds) & _own_request(side, rows)
        timed = Timed(
            np.where(known, tokens, 0).astype(np.int64),
            seconds,
            _numbers(side, "first_token_seconds", rows),
            np.concatenate([np.empty(0, dtype=np.int64), *groups]),
        )
        sides.append((timed, known))
    return _Times(sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def _own_request(side: SideFrame, rows: Ints) -> NDArray[np.bool_]:
    """Whether a row's time is one request's, and the row the first of it.

    Items with one prompt share one answer, timed once; an item of several requests (ids joined by "+") has the
    sum of their times beside the tokens of one.
    """
    seen: set[str] = set()
    first = []
    for request in side.column("request_id")[rows].tolist():
        first.append(request is None or (request not in seen and "+" not in request))
        seen.add(request)
    return np.asarray(first, dtype=np.bool_)
