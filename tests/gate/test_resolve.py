"""Alpha over looks against published boundaries and by simulation; what is raised within a budget."""

from __future__ import annotations

import numpy as np
import pytest

from forgetbench.analysis.significance import normal_cdf, normal_quantile
from forgetbench.gate.resolve import Raise, Undecided, levels, plan_work, spent

pytestmark = pytest.mark.unit

GREEDY = Undecided("gsm8k", items=200, left_out=1_119, samples=1, greedy=True, tokens_per_sample=1_000.0)
SAMPLED = Undecided("code", items=164, left_out=0, samples=10, greedy=False, tokens_per_sample=500.0)


def test_nothing_is_spent_early_and_everything_at_the_end() -> None:
    assert spent(1.0, 0.05) == pytest.approx(0.05)
    assert spent(0.5, 0.05) == pytest.approx(2 * normal_cdf(-normal_quantile(0.975) / np.sqrt(0.5)))
    shares = [spent(t) for t in (0.1, 0.3, 0.5, 0.8, 1.0)]
    assert shares == sorted(shares)
    assert shares[0] < 1e-8


def test_the_boundaries_are_the_published_ones() -> None:
    """Five equal looks at .025 one-sided: Lan and DeMets's O'Brien-Fleming type (as in Jennison and Turnbull 2000)."""
    bounds = [-normal_quantile(p) for p in levels([0.2, 0.4, 0.6, 0.8, 1.0], 0.025)]
    assert bounds == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.002)


def test_one_look_is_the_plain_test() -> None:
    assert levels([1.0], 0.05) == pytest.approx([0.05])


def test_the_looks_together_err_alpha() -> None:
    fractions = np.asarray([0.3, 0.7, 1.0])
    bounds = np.asarray([-normal_quantile(p) for p in levels(fractions.tolist(), 0.05)])
    rng = np.random.default_rng(4)
    steps = rng.standard_normal((200_000, 3)) * np.sqrt(np.diff(fractions, prepend=0.0))
    crossed = (np.cumsum(steps, axis=1) / np.sqrt(fractions) >= bounds).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.0015)
    plain = (np.cumsum(steps, axis=1) / np.sqrt(fractions) >= 1.645).any(axis=1).mean()
    assert plain > 0.09  # what three looks at .05 would err


@pytest.mark.parametrize("edge", ["pass", "fail"])
def test_more_samples_of_the_same_items_err_alpha_too(edge: str) -> None:
    """Raised K keeps the items: the looks share their noise, and still have independent increments."""
    rng = np.random.default_rng(12)
    n, counts, draws = 100, (4, 10, 32), 4_000
    level = 0.05
    noise = [0.3 + 0.4 / k for k in counts]  # variance of an item's difference, in its own units
    bounds = np.asarray([-normal_quantile(p) for p in levels([noise[-1] / v for v in noise], level)])
    data = rng.normal(0.0, np.sqrt(0.3), (draws, n))
    samples = rng.normal(0.0, np.sqrt(0.4), (draws, n, counts[-1])).cumsum(axis=2)
    looks = np.stack([(data + samples[:, :, k - 1] / k).mean(axis=1) for k in counts], axis=1)
    z = looks / np.sqrt(np.asarray(noise) / n)
    crossed = (z >= bounds if edge == "pass" else z <= -bounds).any(axis=1).mean()
    assert crossed == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / draws))


@pytest.mark.parametrize("fractions", [[], [0.5, 0.5], [0.8, 0.2], [0.0, 1.0], [0.5, 1.2]])
def test_looks_that_cannot_be_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="information fraction"):
        levels(fractions)


def test_within_a_large_budget_every_rule_gets_all_it_wants() -> None:
    work = plan_work([GREEDY, SAMPLED], 10_000_000)
    assert work.raises == (
        Raise("gsm8k", "items", 200, 1_319, 1_119_000),
        Raise("code", "samples", 10, 32, 22 * 164 * 500),
    )
    assert work.tokens == 1_119_000 + 1_804_000
    assert not work.notes


@pytest.mark.parametrize("budget", [1_000, 50_000, 82_000, 300_000, 1_500_000, 2_900_000])
def test_the_budget_is_never_passed(budget: int) -> None:
    work = plan_work([GREEDY, SAMPLED], budget)
    assert work.tokens <= budget
    assert len(work.raises) + len(work.notes) == 2


def test_samples_are_raised_on_every_item_or_not_at_all() -> None:
    work = plan_work([SAMPLED], 81_999)  # one sample of all 164 items takes 82,000
    assert not work.raises
    assert "is less than one more sample of every item takes (82,000)" in work.notes[0]
    assert plan_work([SAMPLED], 82_000).raises == (Raise("code", "samples", 10, 11, 82_000),)


def test_what_cannot_be_raised_is_said() -> None:
    whole = Undecided("gsm8k", items=1_319, left_out=0, samples=1, greedy=True, tokens_per_sample=9.0)
    full = Undecided("code", items=164, left_out=0, samples=32, greedy=False, tokens_per_sample=9.0)
    work = plan_work([whole, full], 1_000)
    assert not work.raises
    assert "greedy answers have no second sample" in work.notes[0]
    assert "32 times each" in work.notes[1]
