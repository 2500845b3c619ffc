from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from forgetbench.analysis.joint_power import minimum_detectable_change
from forgetbench.analysis.noise import Noise, noise_of_rates, noise_of_samples
from forgetbench.analysis.power import minimum_detectable_drop

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("samples", [(2, 2), (3, 10)])
def test_both_parts_are_unbiased(samples: tuple[int, int]) -> None:
    """Mean estimate over many small data sets against the law they were drawn from."""
    rng = np.random.default_rng(samples)
    found = []
    for _ in range(3_000):
        p = rng.beta(0.5, 0.5, 20)
        q = np.clip(p - np.where(rng.random(20) < 0.2, 0.5, 0.0), 0, 1)
        base, candidate = (rng.binomial(k, r) / k for k, r in zip(samples, (p, q), strict=True))
        found.append(noise_of_rates(base, candidate, *samples)[:2])
    p = rng.beta(0.5, 0.5, 2_000_000)
    q = np.clip(p - np.where(rng.random(p.size) < 0.2, 0.5, 0.0), 0, 1)
    truth = (q - p).var(), (p * (1 - p) + q * (1 - q)).mean()
    standard_errors = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.abs(np.mean(found, axis=0) - truth).max() < 3.5 * standard_errors.max()


def test_rates_are_samples_averaged() -> None:
    rng = np.random.default_rng(0)
    base, candidate = rng.integers(0, 2, (50, 4)).astype(float), rng.integers(0, 2, (50, 7)).astype(float)
    from_rates = noise_of_rates(base.mean(axis=1), candidate.mean(axis=1), 4, 7)
    assert noise_of_samples(base, candidate) == pytest.approx(from_rates)


def test_standard_error_at_the_samples_drawn_is_the_usual_one() -> None:
    rng = np.random.default_rng(1)
    base, candidate = rng.normal(0, 1, (80, 5)), rng.normal(0, 1, (80, 5)) + rng.normal(0, 1, (80, 1))
    d = candidate.mean(axis=1) - base.mean(axis=1)
    assert noise_of_samples(base, candidate).se(5) == pytest.approx(d.std(ddof=1) / np.sqrt(80))


def test_more_samples_help_only_against_prediction_noise() -> None:
    noise = Noise(data=0.1, prediction=0.1, n=541)
    assert noise.share == 0.5
    one, ten, many = (minimum_detectable_change(noise, k, 541) for k in (1, 10, 10_000))
    assert one == pytest.approx(minimum_detectable_drop(541, 0.2, sides=2))
    assert many == pytest.approx(minimum_detectable_drop(541, 0.1, sides=2), rel=1e-3)
    assert one > ten > many
    assert Noise(-0.01, 0.1, 10).share == 1.0
    assert Noise(0.1, 0.0, 10).share == 0.0


def test_what_has_no_estimate() -> None:
    one = np.ones(3)
    with pytest.raises(ValueError, match="at least 2 samples"):
        noise_of_rates(one, one, 1, 5)
    with pytest.raises(ValueError, match="at least 2 samples"):
        noise_of_samples(np.ones((3, 1)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="same items"):
        noise_of_samples(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="at least 2 items"):
        noise_of_rates(one[:1], one[:1], 2, 2)


@pytest.mark.realdata
def test_published_pairs_have_the_noise_of_the_notes(data_dir: Path) -> None:
    """LiveCodeBench, 10 samples: 26 to 52 % of single flips' variance is noise; K = 10 cuts the SE by 13 to 27 %."""
    folder = data_dir / "published" / "base_vs_sft_code"
    rates: dict[str, dict[str, float]] = {}
    with gzip.open(folder / "lcb_codegen.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            rates.setdefault(row["model"], {})[row["example_id"]] = row["pass1"]
    shares, cuts = [], []
    for base, candidate in json.loads((folder / "lcb_codegen.pairs.json").read_text()):
        sides = [np.array([rates[m][i] for i in sorted(rates[base])]) for m in (base, candidate)]
        noise = noise_of_rates(*sides, 10, 10)
        shares.append(noise.share)
        cuts.append(1 - noise.se(10) / noise.se(1))
    assert len(shares) == 9
    assert 0.26 <= min(shares) < max(shares) <= 0.52
    assert 0.125 <= min(cuts) < max(cuts) <= 0.27
