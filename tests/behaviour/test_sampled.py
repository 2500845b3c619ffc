"""K samples of each item: on published pass rates, every figure against a computation of its own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest

from forgetbench.analysis.outputs import Answered, Output
from forgetbench.analysis.types import PairedScores
from forgetbench.behaviour.sampled import flicker_range, ks_of, sampled_tasks
from forgetbench.behaviour.texts import fully_sampled, usual
from forgetbench.types import ItemKey

pytestmark = pytest.mark.unit

K = 10


def _rates(data_dir: Path) -> tuple[dict[str, dict[str, int]], list[list[str]]]:
    """Successes out of 10 by model and item, and the pairs."""
    folder = data_dir / "published" / "base_vs_sft_code"
    rows = gzip.decompress((folder / "lcb_codegen.jsonl.gz").read_bytes()).decode().splitlines()
    found: dict[str, dict[str, int]] = {}
    for row in map(json.loads, rows):
        found.setdefault(row["model"], {})[str(row["example_id"])] = round(K * float(row["pass1"]))
    return found, json.loads((folder / "lcb_codegen.pairs.json").read_text(encoding="utf-8"))


def paired(base: np.ndarray, candidate: np.ndarray, k: int) -> PairedScores:
    """Scores of n items with k samples a side, given as successes."""
    n = base.size
    nothing = np.full(n, None, dtype=np.object_)
    zeros = np.zeros((n, 6), dtype=np.int64)
    flags = np.zeros((n, 4), dtype=np.int64)
    samples = np.full(n, float(k))
    return PairedScores(
        task="code",
        view="ability",
        metric="pass@1",
        decode_id=f"T0.2/p1/K{k}",
        primary=True,
        binary=True,
        single=k == 1,
        task_types=np.full(n, "code/python", dtype=np.object_),
        strata=nothing,
        clusters=np.arange(n),
        base=base / k,
        candidate=candidate / k,
        base_outcomes=zeros,
        candidate_outcomes=zeros,
        n_choices=np.full(n, np.nan),
        keys=np.asarray([ItemKey("code", f"{i:016x}") for i in range(n)], dtype=np.object_),
        base_flags=flags,
        candidate_flags=flags,
        base_samples=samples,
        candidate_samples=samples,
    )


def test_every_published_pair_against_a_direct_computation(data_dir: Path) -> None:
    rates, pairs = _rates(data_dir)
    assert len(pairs) >= 8
    for names in pairs:
        items = sorted(rates[names[0]])
        hits = [np.asarray([rates[name][i] for i in items]) for name in names]
        (found,) = sampled_tasks([paired(*hits, K)], {})
        assert found.curves.ks == tuple(range(1, K + 1))
        for curve, mine in zip((found.curves.base, found.curves.candidate), hits, strict=True):
            for k, point in zip(found.curves.ks, curve, strict=True):
                # The unbiased estimator of Chen et al. (2021), item by item with whole numbers.
                direct = sum(1 - comb(K - int(c), k) / comb(K, k) for c in mine) / mine.size
                assert point.value == pytest.approx(direct, abs=1e-12)
        assert found.expected is not None
        p, q = (h / K for h in hits)
        noise = (p * (1 - p) + q * (1 - q)) / (K - 1)
        second, first = float(((p - q) ** 2 - noise).mean()), float((p - q).mean())
        assert found.expected.bound.loss == pytest.approx((second + first) / 2, abs=1e-12)
        assert found.expected.bound.gain == pytest.approx((second - first) / 2, abs=1e-12)
        loss, gain = likeliest(hits)
        assert found.expected.loss == pytest.approx(max(loss, found.expected.bound.loss), abs=0.004)
        assert found.expected.gain == pytest.approx(max(gain, found.expected.bound.gain), abs=0.004)
        assert found.flicker is not None
        low, high = found.flicker
        flips = float((p * (1 - q)).mean())
        assert high == pytest.approx(1 - max(0.0, (second + first) / 2) / flips, abs=1e-9)
        assert 0.0 <= low <= high <= 1.0


def likeliest(hits: list[np.ndarray]) -> tuple[float, float]:
    """E[(p_b - p_s)+] and E[(p_s - p_b)+] of the likeliest joint law on a grid, by 200 plain EM steps over items."""
    grid = np.linspace(0, 1, 21)
    chances = [np.asarray([[comb(K, int(c)) * g**c * (1 - g) ** (K - c) for g in grid] for c in mine]) for mine in hits]
    joint = chances[0][:, :, None] * chances[1][:, None, :]
    law = np.full((21, 21), 1 / 441)
    for _ in range(200):
        weighted = joint * law
        law = (weighted / weighted.sum(axis=(1, 2), keepdims=True)).mean(axis=0)
    d = grid[:, None] - grid[None, :]
    return float((law * np.maximum(d, 0)).sum()), float((law * np.maximum(-d, 0)).sum())


def test_equal_rates_show_no_more_than_the_stated_bias() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(size=300)
    (found,) = sampled_tasks([paired(rng.binomial(K, p), rng.binomial(K, p), K)], {})
    assert found.expected is not None
    assert found.expected.loss_interval.low == 0.0
    assert not found.curves.crossover.proven


def test_single_answers_and_continuous_scores_have_no_curves() -> None:
    one = paired(np.asarray([1, 0, 1]), np.asarray([0, 0, 1]), 1)
    assert sampled_tasks([one], {}) == []


def test_no_flip_no_share() -> None:
    part = paired(np.zeros(5), np.full(5, K), K)
    assert flicker_range(part, None) is None  # type: ignore[arg-type]


def texts(part: PairedScores, failed: Sequence[int] = ()) -> dict[tuple[str, str, str], list[Answered]]:
    """Of K answers each; of `failed` items one is left."""
    said = tuple(Output(f"answer {j % 3}", (j,)) for j in range(K))
    made = [Answered(str(key), said[: 1 if n in failed else K], said) for n, key in enumerate(part.keys)]
    return {("code", "ability", part.decode_id): made}


def test_a_failed_sample_takes_its_item_away_and_nothing_else() -> None:
    part = paired(np.arange(30) % (K + 1), np.arange(30) % 7, K)
    (whole,) = sampled_tasks([part.pick(np.arange(30) != 4)], texts(part))
    counts = part.base_samples.copy()
    for left in (1, K - 1):  # too few for a curve, and one less than the others
        counts[4] = left
        (found,) = sampled_tasks([replace(part, base_samples=counts)], texts(part, [4]))
        assert found == whole
        assert found.curves.ks == tuple(range(1, K + 1))
        assert found.expected is not None
        assert "answer_entropy" in [m.name for m in found.measures]


def test_each_of_several_temperatures_is_named_in_its_sentence() -> None:
    part = paired(np.arange(30) % (K + 1), np.arange(30) % 7, K)
    hotter = replace(part, decode_id="T1/p1/K10")
    assert [m.reading.split(":")[0] for m in sampled_tasks([part, hotter], {})] == [
        "code (ability, T0.2/p1/K10)",
        "code (ability, T1/p1/K10)",
    ]
    assert [m.reading.split(":")[0] for m in sampled_tasks([part, replace(part, view="chat")], {})] == [
        "code (ability)",
        "code (chat)",
    ]


def test_no_entropy_where_no_item_has_two_texts() -> None:
    part = paired(np.arange(30) % (K + 1), np.arange(30) % 7, K)
    (found,) = sampled_tasks([part], texts(part, range(30)))
    assert "answer_entropy" not in [m.name for m in found.measures]


def test_only_few_items_may_be_left_out_for_the_sake_of_k() -> None:
    assert [usual(np.asarray(c)) for c in ([1], [1, 8], [1, 8, 8], [1, 1, 8, 8], [1] * 2 + [8] * 38)] == [1, 8, 8, 1, 8]
    said = tuple(Output("a", (1,)) for _ in range(8))
    many = [Answered(str(n), said[: 3 if n % 2 else 8], said) for n in range(40)]
    assert len(fully_sampled(many)) == 40
    assert [a.item for a in fully_sampled([*many[::2], many[1]])] == [a.item for a in many[::2]]
    assert fully_sampled([]) == []


@pytest.mark.parametrize(("n", "last"), [(2, [1, 2]), (16, [15, 16]), (100, [64, 100]), (256, [128, 256])])
def test_curves_end_at_the_number_of_samples(n: int, last: list[int]) -> None:
    assert ks_of(n)[-2:] == last
    assert ks_of(n) == sorted(set(ks_of(n)))
