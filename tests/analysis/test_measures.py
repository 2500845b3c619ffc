from __future__ import annotations

import numpy as np
import pytest

from forgetbench.analysis.forgetting import chance_adjusted, flips, latent_class, moment_bound, skill_lost
from forgetbench.analysis.power import joint, minimum_detectable_drop, p_fail, p_pass
from forgetbench.analysis.severity import is_catastrophic, severity
from tests.analysis.made import toy

pytestmark = pytest.mark.unit


def test_flips_of_single_samples() -> None:
    base, candidate = np.array([1, 1, 1, 0, 0.0]), np.array([0, 1, 1, 1, 0.0])
    f = flips(base, candidate)
    assert f == pytest.approx((0.2, 0.2, 1 / 3))
    assert f.discordance == pytest.approx(0.4)
    assert flips(np.zeros(3), np.ones(3)).rel_forgotten is None


def test_flips_of_k_samples_are_those_of_one_sample() -> None:
    rng = np.random.default_rng(0)
    p_b, p_s = rng.random(4_000), rng.random(4_000)
    f = flips(rng.binomial(5, p_b) / 5, rng.binomial(5, p_s) / 5)
    once = flips((rng.random(4_000) < p_b).astype(float), (rng.random(4_000) < p_s).astype(float))
    assert f.forgotten == pytest.approx(once.forgotten, abs=0.02)


def _guessed(rng: np.random.Generator, truly_lost: float) -> tuple[float, float, float, float]:
    """Four options, accuracy .70, independent guesses: (F, accuracy of base, of candidate, both wrong)."""
    n, k = 400_000, 4
    knew = rng.random(n) < (0.7 - 1 / k) / (1 - 1 / k)
    # As much is learned as is lost, so that the accuracy stays .70.
    knows = np.where(knew, rng.random(n) >= truly_lost / 0.6, rng.random(n) < truly_lost / 0.4)
    base, candidate = knew | (rng.random(n) < 1 / k), knows | (rng.random(n) < 1 / k)
    return (base & ~candidate).mean(), base.mean(), candidate.mean(), (~base & ~candidate).mean()


@pytest.mark.parametrize(("lost", "wanted"), [(0.0, (0.076, 0.046, 0.002)), (0.05, (0.103, 0.074, 0.049))])
def test_figures_of_the_notes(lost: float, wanted: tuple[float, float, float]) -> None:
    """F, F_true and F_LC of the simulation in the notes on metrics, section 1."""
    f, base, candidate, wrong = _guessed(np.random.default_rng(1), lost)
    found = (f, chance_adjusted(f, base, candidate, 4), latent_class(f, wrong, 4).point)
    assert found == pytest.approx(wanted, abs=0.003)


def test_latent_class_of_identical_answers_is_an_interval() -> None:
    bounds = latent_class(0.0, 0.3, 4)
    assert bounds.point == pytest.approx(-0.133, abs=0.001)
    assert (bounds.low, bounds.high) == (0.0, 0.0)


def test_moment_bound() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(0.1, 1, 60_000)
    loss = moment_bound(rng.binomial(8, p) / 8, rng.binomial(8, p - 0.1) / 8, 8)
    assert loss == pytest.approx((0.055, -0.045), abs=0.003)  # a uniform loss of .1
    base, candidate = np.array([1.0, 1, 0, 0]), np.array([0.0, 1, 1, 0])
    assert moment_bound(base, candidate, 2).loss == flips(base, candidate).forgotten
    with pytest.raises(ValueError, match="at least 2"):
        moment_bound(base, candidate, 1)


def test_skill_lost() -> None:
    assert skill_lost(0.65, 0.45, 0.25) == pytest.approx(0.5)
    assert skill_lost(0.25, 0.20, 0.25) is None


@pytest.mark.parametrize(
    ("delta", "high", "simultaneous", "band", "confirmed"),
    [
        (-0.20, -0.17, -0.16, "severe", True),
        (-0.20, -0.10, -0.15, "severe", False),
        (-0.151, -0.12, -0.13, "severe", False),
        (-0.10, -0.07, -0.051, "moderate", True),
        (-0.05, 0.02, 0.04, "moderate", False),
        (-0.04, -0.01, -0.001, "mild", True),
        (-0.04, -0.01, 0.0, "mild", False),
        (-0.04, 0.001, 0.01, "none", False),
        (0.30, 0.40, 0.50, "none", False),
    ],
)
def test_bands(delta: float, high: float, simultaneous: float, band: str, confirmed: bool) -> None:
    found = severity(delta, high, simultaneous)
    assert (found.band, found.confirmed) == (band, confirmed)


def test_catastrophe_needs_every_knowledge_task() -> None:
    def of(forgotten: int) -> object:
        return toy(forgotten, 0, 400, n_choices=4.0, task_type="knowledge/x").changes[0]

    ruined, hurt = toy(150, 0, 400, n_choices=4.0), toy(20, 0, 400, n_choices=4.0)
    assert is_catastrophic([ruined.changes[0]])
    assert not is_catastrophic([ruined.changes[0], hurt.changes[0]])
    assert not is_catastrophic([])
    both = toy(150, 0, 400, n_choices=4.0, task_type="knowledge/x")
    assert any(note.startswith("catastrophic") for note in both.notes)
    assert not any(note.startswith("catastrophic") for note in ruined.notes)  # reasoning/toy


NOTES = {
    164: ((4.3, 4.9), (6.1, 6.9), (8.6, 9.7)),
    541: ((2.4, 2.7), (3.4, 3.8), (4.8, 5.4)),
    817: ((1.9, 2.2), (2.8, 3.1), (3.9, 4.4)),
    1319: ((1.5, 1.7), (2.2, 2.4), (3.1, 3.5)),
    14042: ((0.47, 0.53), (0.66, 0.75), (0.94, 1.06)),
}


@pytest.mark.parametrize("n", NOTES)
def test_minimum_detectable_drops_of_the_notes(n: int) -> None:
    digits = 2 if n > 10_000 else 1
    rounding = 0.6 * 10**-digits  # 2.747 stands there as 2.8
    for psi, (one, two) in zip((0.05, 0.10, 0.20), NOTES[n], strict=True):
        found = [100 * minimum_detectable_drop(n, psi, sides=sides) for sides in (1, 2)]
        assert found == pytest.approx([one, two], abs=rounding)


def test_minimum_detectable_drop_at_the_ends() -> None:
    assert minimum_detectable_drop(0) == minimum_detectable_drop(1) == 1.0
    assert 0 < minimum_detectable_drop(500, 0.0) < 0.02
    assert minimum_detectable_drop(500, 0.1) < minimum_detectable_drop(100, 0.1)


def test_power_against_simulation() -> None:
    """P(PASS) and P(FAIL) by drawing tables and running the very tests that the gate runs."""
    from forgetbench.analysis.paired import ScoreEstimator

    rng = np.random.default_rng(7)
    n, psi, margin = 400, 0.2, 0.06
    for delta in (0.0, -0.06):
        passed = failed = 0
        for _ in range(1_500):
            f, g, _same = rng.multinomial(n, [(psi - delta) / 2, (psi + delta) / 2, 1 - psi])
            fit = ScoreEstimator(int(g), int(f), n)
            passed += fit.lower(0.05) > -margin
            failed += fit.p_at_least(-margin / 2) <= 0.05
        assert passed / 1_500 == pytest.approx(p_pass(n, margin, psi, delta=delta), abs=0.04)
        assert failed / 1_500 == pytest.approx(p_fail(n, margin, psi, delta=delta), abs=0.04)


def test_joint_power_of_the_notes() -> None:
    """All five default sets pass an unchanged model in about 33 % of runs at psi 20 %, 12 % at 30 %."""
    sets = [(0.01, 14042), (0.03, 1319), (0.05, 541), (0.04, 817), (0.05, 542)]
    assert joint([p_pass(n, m, 0.2) for m, n in sets]) == pytest.approx(0.33, abs=0.04)
    assert joint([p_pass(n, m, 0.3) for m, n in sets]) == pytest.approx(0.12, abs=0.03)
    assert joint([p_pass(n, 1.35 * m, 0.2) for m, n in sets]) == pytest.approx(0.80, abs=0.04)
    assert joint([]) == 0.0
