"""What was computed beforehand against what the gate then says, over simulated tables."""

from __future__ import annotations

import numpy as np
import pytest

from forgetbench.analysis.joint_power import Chances, Planned, blockable_drop, verdict_chances
from forgetbench.analysis.paired import ClusterEstimator, ScoreEstimator
from forgetbench.analysis.power import joint, p_pass
from forgetbench.analysis.significance import holm
from forgetbench.analysis.simultaneous import severities, simultaneous_intervals, simultaneous_upper

pytestmark = pytest.mark.unit

SETS = (Planned(1319, 0.03, psi=0.1), Planned(541, 0.05, psi=0.2), Planned(817, 0.04, psi=0.1))


def simulated(rules: tuple[Planned, ...], draws: int, seed: int = 0) -> Chances:
    """The three states as `gate/verdict.py` defines them."""
    rng = np.random.default_rng(seed)
    passed = failed = 0
    tables = []
    for n, _, delta, psi in rules:
        lost, won = (psi - delta) / 2, (psi + delta) / 2
        tables.append(rng.multinomial(n, [lost, won, 1 - lost - won], size=draws))
    for i in range(draws):
        fits = [ScoreEstimator(int(t[i, 1]), int(t[i, 0]), r.n) for t, r in zip(tables, rules, strict=True)]
        if all(f.lower(0.05) > -r.margin for f, r in zip(fits, rules, strict=True)):
            passed += 1
        elif min(holm([f.p_at_least(-r.margin / 2) for f, r in zip(fits, rules, strict=True)])) <= 0.05:
            failed += 1
    return Chances(passed / draws, failed / draws, 1 - (passed + failed) / draws)


@pytest.mark.parametrize(
    "rules",
    [
        SETS,
        (SETS[0], SETS[1]._replace(delta=-0.1), SETS[2]),
        (SETS[0]._replace(delta=-0.015), SETS[1], SETS[2]),
        (Planned(14042, 0.01, -0.0075, 0.05),),
        (Planned(14042, 0.01, -0.0075, 0.012),),  # so few flips that a loss can be proven and yet pass
    ],
)
def test_joint_chances_of_the_verdict(rules: tuple[Planned, ...]) -> None:
    computed, seen = verdict_chances(rules), simulated(rules, 700)
    assert computed == pytest.approx(seen, abs=0.06)
    assert sum(computed) == pytest.approx(1.0)


def test_joint_pass_is_the_product() -> None:
    assert verdict_chances(SETS).p_pass == pytest.approx(joint([p_pass(n, m, psi) for n, m, _, psi in SETS]))
    assert verdict_chances(()) == (0.0, 0.0, 1.0)


def test_a_blockable_drop_is_blocked_as_often_as_wanted() -> None:
    drop = blockable_drop(SETS, 0, power=0.8)
    assert drop is not None
    assert SETS[0].margin / 2 < drop < 0.08
    changed = (SETS[0]._replace(delta=-drop), *SETS[1:])
    assert simulated(changed, 700, seed=1).p_fail == pytest.approx(0.8, abs=0.05)
    more_rules = blockable_drop([*SETS, *[SETS[1]] * 17], 0, power=0.8)
    assert more_rules is not None
    assert more_rules > drop  # Holm over twenty sets asks for more
    assert blockable_drop([Planned(3, 0.05)], 0) is None


def test_simultaneous_bounds_hold_at_once() -> None:
    """Twenty groups, true loss .05 each: all bounds hold in 95 % of the families; single ones do not."""
    rng = np.random.default_rng(2)
    values = np.array([-1.0, 0.0, 1.0])
    at_once = alone = confirmed = 0
    families = 300
    for _ in range(families):
        counts = rng.multinomial(200, [0.1, 0.85, 0.05], size=20)
        fits = [ClusterEstimator.of_counts(values, c, draws=500, seed=1) for c in counts]
        at_once += all(f.guard_p_at_least(-0.05) >= 0.05 / 20 or simultaneous_upper(f, 20) >= -0.05 for f in fits)
        alone += all(f.guard_p_at_least(-0.05) >= 0.05 or f.upper(0.05) >= -0.05 for f in fits)
        # A loss of just .05 is not beyond the edge: calling a band of it confirmed is an error.
        suspects = [f for f in fits if f.guard_p_at_least(-0.05) <= 0.05 / 20]
        confirmed += any(simultaneous_upper(f, 20) < -0.05 for f in suspects)
    assert at_once / families >= 0.94
    assert confirmed / families <= 0.06
    assert alone / families < 0.8


def test_bands_and_intervals_of_a_family() -> None:
    fits = [ScoreEstimator(2, lost, 400) for lost in (4, 30, 90)]
    alone, family = severities(fits[2:]), severities(fits)
    assert [s.band for s in family] == ["none", "moderate", "severe"]
    assert alone[0].confirmed
    assert family[2].confirmed
    borderline = ScoreEstimator(2, 36, 400)
    assert severities([borderline])[0].confirmed
    assert not severities([borderline] * 20)[0].confirmed
    wide = simultaneous_intervals(fits)
    for fit, found in zip(fits, wide, strict=True):
        assert found.low < fit.lower(0.025) < fit.upper(0.025) < found.high
    assert simultaneous_intervals([]) == []
