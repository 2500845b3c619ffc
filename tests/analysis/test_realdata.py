"""Published per-item results of real base and fine-tuned models; the figures were checked by hand from the files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest, ttest_rel

from forgetbench.analysis.permutation import sign_flip
from forgetbench.analysis.significance import mcnemar_exact
from forgetbench.analysis.types import Comparison
from tests.analysis.made import compared, frame

pytestmark = pytest.mark.realdata


def published(folder: Path, name: str, model: str, samples: int) -> pd.DataFrame:
    with gzip.open(folder / "published" / "base_vs_sft_code" / f"{name}.jsonl.gz", "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["model"] == model]
    columns = {"task": name, "content_hash": [r["example_id"] for r in rows], "task_type": "code/python"}
    rates = [float(r["pass1"]) for r in rows]
    if samples == 1:
        return frame(rates, metric="pass@1", **columns)
    successes = [float(round(r * samples)) for r in rates]
    decode = f"T0.8/p1/K{samples}"
    return frame(rates, scores="{}", successes=successes, trials=float(samples), decode_id=decode, **columns)


def pair(folder: Path, name: str, base: str, candidate: str, samples: int = 1) -> Comparison:
    return compared(published(folder, name, base, samples), published(folder, name, candidate, samples))


@pytest.mark.parametrize(
    ("base", "candidate", "figures"),
    [
        ("gemma-7b", "gemma-7b-it", (45.0, 33.1, 20.1, 8.2, 1.6e-05)),
        ("mistral-7b", "mistralai--Mistral-7B-Instruct-v0.2", (42.9, 37.6, 16.7, 11.4, 0.0645)),
        ("deepseek-coder-6.7b-base", "deepseek-coder-6.7b-instruct", (59.5, 66.1, None, None, 0.00354)),
    ],
)
def test_mbpp_plus(
    data_dir: Path, base: str, candidate: str, figures: tuple[float, float, float | None, float | None, float]
) -> None:
    found = pair(data_dir, "mbpp_plus", base, candidate)
    task = found.changes[0]
    assert (task.group, task.n) == ("mbpp_plus", 378)
    before, after, forgotten, gained, p = figures
    assert [round(100 * x, 1) for x in (task.base, task.candidate)] == [before, after]
    if forgotten is not None:
        assert [round(100 * (x or 0), 1) for x in (task.forgotten, task.gained)] == [forgotten, gained]
    lost = sum(pair.flip == "lost" for pair in found.pairs)
    won = sum(pair.flip == "gained" for pair in found.pairs)
    assert mcnemar_exact(lost, won) == pytest.approx(p, rel=0.02)
    assert task.p_value < mcnemar_exact(lost, won)  # mid-p is the less conservative of the two
    assert (task.interval.high < 0) == (p < 0.05 and after < before)


def test_ten_samples_per_item(data_dir: Path) -> None:
    """LiveCodeBench has pass rates of 10 samples: the interval is that of items, not of 4,000 samples."""
    pairs = json.loads((data_dir / "published/base_vs_sft_code/lcb_codegen.pairs.json").read_text())
    base, candidate = pairs[0]
    found = pair(data_dir, "lcb_codegen", base, candidate, samples=10).changes[0]
    assert (found.n, found.n_clusters) == (400, 400)
    assert found.test == "cluster bootstrap"
    rates = [published(data_dir, "lcb_codegen", m, 10) for m in (base, candidate)]
    means = [r["successes"].mean() / 10 for r in rates]
    assert (found.base, found.candidate) == pytest.approx(tuple(means))
    d = (rates[1].set_index("content_hash")["successes"] - rates[0].set_index("content_hash")["successes"]) / 10
    normal = 2 * 1.96 * d.std() / 20
    assert found.interval.high - found.interval.low == pytest.approx(normal, rel=0.15)


def _every_pair(folder: Path) -> list[tuple[str, str, str, int]]:
    names = (("mbpp_plus", 1), ("humaneval_plus", 1), ("lcb_codegen", 10))
    files = folder / "published" / "base_vs_sft_code"
    return [(n, b, s, k) for n, k in names for b, s in json.loads((files / f"{n}.pairs.json").read_text())]


def test_every_published_pair_against_scipy(data_dir: Path) -> None:
    """Scores, F, BT, p and interval of each pair, worked out again from the file with scipy alone."""
    pairs = _every_pair(data_dir)
    assert len(pairs) >= 20
    for name, base, candidate, samples in pairs:
        task = pair(data_dir, name, base, candidate, samples).changes[0]
        rates: dict[str, dict[str, float]] = {}
        with gzip.open(data_dir / "published" / "base_vs_sft_code" / f"{name}.jsonl.gz", "rt") as lines:
            for row in map(json.loads, lines):
                rates.setdefault(row["model"], {})[row["example_id"]] = row["pass1"]
        items = sorted(rates[base])
        b, s = (np.array([rates[m][i] for i in items]) for m in (base, candidate))
        assert (task.n, task.base, task.candidate) == pytest.approx((len(items), b.mean(), s.mean()))
        assert (task.forgotten, task.gained) == pytest.approx(((b * (1 - s)).mean(), ((1 - b) * s).mean()))
        t = ttest_rel(s, b)
        usual = t.confidence_interval()
        assert (task.interval.low, task.interval.high) == pytest.approx((usual.low, usual.high), abs=0.012)
        if samples == 1:
            lost, won = int((b > s).sum()), int((b < s).sum())
            exact = binomtest(lost, lost + won).pvalue
            seen = binom.pmf(min(lost, won), lost + won, 0.5)
            assert task.p_value == pytest.approx(exact - seen if lost != won else 1.0, abs=1e-9)
        else:
            # Another test of the same question: they agree on what is proven, and nearly on p where it is not tiny.
            flipped = sign_flip(s - b)
            assert flipped.exact
            assert task.p_value == pytest.approx(flipped.p_value, abs=0.05)
            assert (task.p_value < 0.05) == (t.pvalue < 0.05) or 0.03 < t.pvalue < 0.08
