from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from forgetbench.analysis.distribution import (
    bits_per_byte,
    distribution_measures,
    divergence,
    effective_support,
    kl_base_candidate,
    kl_candidate_base,
    nucleus_masses,
    nucleus_size,
    support_contraction,
    support_novelty,
    support_retention,
    token_entropy,
)
from forgetbench.analysis.measured import Measured
from forgetbench.analysis.token_stats import Partition, SharedContext, SideStats
from tests.analysis.null_worlds import contexts, partition

pytestmark = pytest.mark.unit


def full(law: np.ndarray) -> SideStats:
    """Statistics of full distributions (T, V); the text is token 0 throughout."""
    logs = np.log(law)
    ranked = -np.sort(-law, axis=1)
    return SideStats(
        logprobs=logs[:, 0],
        entropies=np.asarray(stats.entropy(law, axis=1)),
        nucleus_sizes=(ranked.cumsum(axis=1) < 0.95).sum(axis=1) + 1,
        argmax=law.argmax(axis=1),
        argmax_logprobs=logs.max(axis=1),
    )


def pairs(seed: int, texts: int = 12, v: int = 20) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.dirichlet(np.ones(v), size=int(t)) for _ in range(2)) for t in rng.integers(1, 9, texts)]  # type: ignore[misc]


def made_of(laws: list[tuple[np.ndarray, np.ndarray]], m: int, both: bool = False) -> list[SharedContext]:
    return [
        SharedContext(
            f"item{i}",
            np.zeros(len(b), dtype=np.int64),
            full(b),
            full(s),
            partition(np.log(b), np.log(s), m),
            partition(np.log(s), np.log(b), m) if both else None,
            n_bytes=3 * len(b),
        )
        for i, (b, s) in enumerate(laws)
    ]


def value(found: Measured | None) -> float:
    assert found is not None
    return found.candidate


def test_entropy_and_support_against_scipy() -> None:
    laws = pairs(0)
    world = made_of(laws, 5)
    base, candidate = (
        np.concatenate([stats.entropy(side, axis=1) for side in sides]) for sides in zip(*laws, strict=True)
    )
    found = token_entropy(world)
    assert (found.base, found.candidate) == (pytest.approx(base.mean()), pytest.approx(candidate.mean()))
    support = effective_support(world)
    assert (support.base, support.candidate) == (
        pytest.approx(np.exp(base.mean())),
        pytest.approx(np.exp(candidate.mean())),
    )
    assert support.delta is not None
    assert support.delta.low < support.difference < support.delta.high


def test_sizes_and_their_ratio() -> None:
    world = made_of(pairs(1), 5)
    b, s = (np.concatenate([getattr(c, side).nucleus_sizes for c in world]) for side in ("base", "candidate"))
    found = nucleus_size(world)
    assert (found.base, found.candidate) == (pytest.approx(b.mean()), pytest.approx(s.mean()))
    ratio = support_contraction(world)
    assert (ratio.base, ratio.candidate) == (1.0, pytest.approx(s.mean() / b.mean()))


def test_whole_distributions_give_the_whole_divergence() -> None:
    laws = pairs(2, v=9)
    world = made_of(laws, 9)
    forward = np.concatenate([stats.entropy(b, s, axis=1) for b, s in laws])
    backward = np.concatenate([stats.entropy(s, b, axis=1) for b, s in laws])
    assert value(kl_base_candidate(world)) == pytest.approx(forward.mean(), abs=1e-6)
    assert value(kl_candidate_base(world)) == pytest.approx(backward.mean(), abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.02, 3.0))
def test_the_bound_is_between_zero_and_the_divergence_and_grows_with_m(seed: int, m: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    b, s = (np.clip(rng.dirichlet(spread * np.ones(12), size=4), 1e-12, None) for _ in range(2))
    b, s = (x / x.sum(axis=1, keepdims=True) for x in (b, s))
    part = partition(np.log(b), np.log(s), m)
    exact = {False: stats.entropy(b, s, axis=1), True: stats.entropy(s, b, axis=1)}
    for reverse, true in exact.items():
        bound = divergence(part, reverse=reverse)
        assert (bound >= 0.0).all()
        assert (bound <= true + 1e-6).all()
        if m > 1:
            coarser = divergence(partition(np.log(b), np.log(s), m - 1), reverse=reverse)
            # Below the floor of a tail the bound is kept low on purpose.
            fine = np.minimum(part.own_tail, part.other_tail) > 1e-6
            assert (coarser <= bound + 1e-6)[fine].all()


def test_what_the_tail_hides_is_its_mass_times_its_divergence() -> None:
    [(b, s)] = pairs(3, texts=1)
    part = partition(np.log(b), np.log(s), 4)
    for i in range(len(b)):
        rest = np.setdiff1d(np.arange(20), part.ids[i])
        hidden = b[i, rest].sum() * stats.entropy(b[i, rest], s[i, rest])
        assert divergence(part)[i] + hidden == pytest.approx(stats.entropy(b[i], s[i]))
    found = kl_base_candidate(made_of([(b, s)], 4))
    assert found is not None
    assert f"would add {part.own_tail.mean():.4f}" in found.note
    assert found.delta is None  # one text alone


def test_the_candidates_own_ids_tighten_the_bound() -> None:
    laws = pairs(4, v=30)
    one, two = made_of(laws, 4), made_of(laws, 4, both=True)
    for measure in (kl_base_candidate, kl_candidate_base):
        assert value(measure(one)) < value(measure(two))
    assert value(kl_candidate_base(two)) <= np.concatenate([stats.entropy(s, b, axis=1) for b, s in laws]).mean()


def test_masses_on_a_nucleus_against_a_loop() -> None:
    [(b, s)] = pairs(5, texts=1)
    for m in (3, 20):
        own, other = nucleus_masses(partition(np.log(b), np.log(s), m))
        for i in range(len(b)):
            inside: list[int] = []
            for token in np.argsort(-b[i])[:m]:
                if b[i, inside].sum() < 0.95:
                    inside.append(int(token))
            assert (own[i], other[i]) == (pytest.approx(b[i, inside].sum()), pytest.approx(s[i, inside].sum()))


def test_retention_and_novelty() -> None:
    laws = pairs(6)
    world = made_of(laws, 20, both=True)
    kept, new = support_retention(world), support_novelty(world)
    masses = [nucleus_masses(c.on_base) for c in world if c.on_base is not None]
    assert kept is not None
    assert (kept.base, kept.candidate) == tuple(
        pytest.approx(np.concatenate([m[side] for m in masses]).mean()) for side in (0, 1)
    )
    assert kept.base is not None
    assert kept.base >= 0.95
    assert kept.proven
    assert kept.note == ""
    # With every id known, the candidate's nucleus is the same whichever model named the ids.
    assert value(new) == pytest.approx(value(support_novelty(made_of(laws, 20))))
    cut = support_retention(made_of(laws, 2))
    assert cut is not None
    assert cut.note.startswith("the base's nucleus is cut at the known ids at 100.0 %")
    bare = [dataclasses.replace(c, on_base=None, on_candidate=None) for c in world]
    assert support_retention(bare) is None
    assert [m.name for m in distribution_measures(bare)] == [
        "token_entropy",
        "effective_support",
        "nucleus_size",
        "support_contraction",
    ]


def test_a_sharper_candidate_contracts() -> None:
    rng = np.random.default_rng(7)
    laws = []
    for _ in range(30):
        b = rng.dirichlet(np.ones(20), size=10)
        laws.append((b, b**3 / (b**3).sum(axis=1, keepdims=True)))
    found = {m.name: m for m in distribution_measures(made_of(laws, 8))}
    for name in ("token_entropy", "effective_support", "nucleus_size", "support_contraction"):
        assert found[name].proven, name
        assert found[name].difference < 0.0, name
    assert found["kl_base_candidate"].proven
    assert found["kl_base_candidate"].candidate > found["kl_candidate_base"].candidate


def test_bits_per_byte_are_of_all_bytes_together() -> None:
    world = made_of(pairs(8), 3)
    found = bits_per_byte(world)
    total = sum(c.n_bytes or 0 for c in world)
    for side, shown in (("base", found.base), ("candidate", found.candidate)):
        assert shown == pytest.approx(-sum(getattr(c, side).logprobs.sum() for c in world) / np.log(2) / total)
    with pytest.raises(ValueError, match="bytes of every text"):
        bits_per_byte([dataclasses.replace(world[0], n_bytes=None)])
    with pytest.raises(ValueError, match="no shared contexts"):
        token_entropy([])


def everything(world: list[SharedContext]) -> list[Measured]:
    return [*distribution_measures(world), bits_per_byte(world)]


def test_identical_models_differ_in_nothing() -> None:
    world = [
        dataclasses.replace(
            c,
            candidate=c.base,
            on_base=Partition(c.on_base.ids, c.on_base.own, c.on_base.own, c.on_base.own_tail, c.on_base.own_tail),
            on_candidate=None,
        )
        for c in contexts(9)
        if c.on_base is not None
    ]
    for m in everything(world):
        assert m.difference == pytest.approx(0.0, abs=1e-12), m.name
        assert m.delta is not None
        assert m.delta.low <= 0.0 <= m.delta.high, m.name


def test_order_names_and_doubles_change_nothing() -> None:
    world = contexts(10)
    shuffled = [world[i] for i in np.random.default_rng(0).permutation(len(world))]
    doubled = [dataclasses.replace(c, cluster=c.item) for c in world for _ in range(2)]
    renamed = [
        dataclasses.replace(c, on_base=dataclasses.replace(c.on_base, ids=99 - c.on_base.ids))
        for c in world
        if c.on_base is not None
    ]
    first = everything(world)
    for other in (shuffled, doubled, renamed):
        for one, two in zip(first, everything(other), strict=True):
            assert (two.base, two.candidate) == (pytest.approx(one.base), pytest.approx(one.candidate)), one.name
            assert one.delta is not None
            assert two.delta is not None
            width = one.delta.high - one.delta.low
            assert (two.delta.low, two.delta.high) == pytest.approx((one.delta.low, one.delta.high), abs=0.1 * width)
