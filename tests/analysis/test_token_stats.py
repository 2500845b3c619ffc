from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from forgetbench.analysis.token_stats import Partition, SharedContext, shared_context
from forgetbench.errors import UsageError
from forgetbench.types import Reading, TopTokens

pytestmark = pytest.mark.unit

M = 3
TOKENS = [0, 4, 2]


def read(law: np.ndarray, top: bool, at: list[tuple[int, ...]] | None) -> Reading:
    """What an engine says of full distributions (T, V)."""
    logs = np.log(law)
    ranked = np.argsort(-law, axis=1)
    tops = tuple(
        TopTokens(tuple(ids.tolist()), tuple(row[ids].tolist()), float(1 - p[ids].sum()))
        for ids, row, p in zip(ranked[:, :M], logs, law, strict=True)
    )
    return Reading(
        logprobs=tuple(logs[np.arange(len(law)), TOKENS].tolist()),
        entropies=tuple((-(law * logs).sum(axis=1)).tolist()),
        nucleus_sizes=tuple(((np.take_along_axis(law, ranked, 1).cumsum(1) < 0.95).sum(1) + 1).tolist()),
        argmax=tuple(law.argmax(axis=1).tolist()),
        top=tops if top else None,
        at=None if at is None else tuple(tuple(row[list(ids)].tolist()) for row, ids in zip(logs, at, strict=True)),
    )


def laws(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(6), size=3), rng.dirichlet(np.ones(6), size=3)


def ids_of(law: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.argsort(-law, axis=1)[:, :M].tolist()]


def test_both_partitions_from_readings() -> None:
    b, s = laws(0)
    base, candidate = read(b, True, None), read(s, True, ids_of(b))
    made = shared_context("x", TOKENS, base, candidate, base_again=read(b, False, ids_of(s)), n_bytes=9, cluster="c")
    assert made.on_base is not None
    assert made.on_candidate is not None
    for part, own, other in ((made.on_base, b, s), (made.on_candidate, s, b)):
        assert part.m == M
        rows = np.arange(3)[:, None]
        assert part.own == pytest.approx(np.log(own[rows, part.ids]))
        assert part.other == pytest.approx(np.log(other[rows, part.ids]))
        assert part.own_tail == pytest.approx(1 - own[rows, part.ids].sum(axis=1))
        assert part.other_tail == pytest.approx(1 - other[rows, part.ids].sum(axis=1))
    assert made.candidate.argmax_logprobs == pytest.approx(np.log(s.max(axis=1)))
    assert made.base.follows.tolist() == (b.argmax(axis=1) == TOKENS).tolist()
    assert (made.size, made.n_bytes, made.cluster) == (3, 9, "c")


def test_an_argmax_without_a_top_is_found_among_the_other_sides_ids() -> None:
    b, s = laws(1)
    made = shared_context("x", TOKENS, read(b, True, None), read(s, False, ids_of(b)))
    assert made.on_candidate is None
    for i, (best, ids) in enumerate(zip(s.argmax(axis=1), ids_of(b), strict=True)):
        known = made.candidate.argmax_logprobs[i]
        assert known == pytest.approx(math.log(s[i, best])) if best in ids else math.isnan(known)
    nothing = shared_context("x", TOKENS, read(b, False, None), read(s, False, None))
    assert nothing.on_base is None
    assert np.isnan(nothing.candidate.argmax_logprobs).all()


def test_ids_of_another_text_are_refused() -> None:
    b, s = laws(2)
    candidate = read(s, True, [ids[:2] for ids in ids_of(b)])
    with pytest.raises(UsageError, match="read the text again"):
        shared_context("x", TOKENS, read(b, True, None), candidate)


def test_shapes() -> None:
    b, s = laws(3)
    made = shared_context("x", TOKENS, read(b, True, None), read(s, True, ids_of(b)))
    with pytest.raises(ValueError, match="another number of positions"):
        dataclasses.replace(made, token_ids=np.array([1, 2]))
    with pytest.raises(ValueError, match="at least one token"):
        SharedContext("x", np.array([], dtype=np.int64), made.base, made.candidate)
    part = made.on_base
    assert part is not None
    with pytest.raises(ValueError, match="tails"):
        Partition(part.ids, part.own, part.other, part.own_tail[:2], part.other_tail)
    with pytest.raises(ValueError, match="m >= 1"):
        Partition(part.ids[:, :0], part.own[:, :0], part.other[:, :0], part.own_tail, part.other_tail)
