"""The planted world, end to end: checkpoints that were trained, runs, rounds.

A base that was taught wrong capitals; held against the gold a fine-tune that repeats it looks broken and one that
corrects it looks improved. Held against what the base believes it is the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from forgetbench import flow, running
from forgetbench.analysis.compare import compare_runs
from forgetbench.analysis.types import Comparison
from forgetbench.belief.find import find_divergence
from forgetbench.belief.types import Diverged, Divergence, Options
from forgetbench.demo.capitals import CHECKPOINTS, SET, SHOT_SET, Capitals, build
from forgetbench.rounds import Rounds, Side
from forgetbench.workspace import open_workspace

pytestmark = pytest.mark.slow

SUITE: dict[str, Any] = {
    "name": "capitals",
    "views": ["ability"],
    "tasks": [
        {
            "set": SET,
            "fewshot": SHOT_SET,
            "scorer": "exact",
            "raw": {"question": "Q: {prompt}\nA:", "delimiter": " ", "separator": "\n\n", "num_fewshot": 3},
            "stop": ["\n"],
            "max_tokens": 8,
        }
    ],
}
POLICY = {"name": "p", "rules": [{"name": "capitals", "task_type": "knowledge", "margin": 5, "min_n": 1}]}


@dataclass(frozen=True)
class Planted:
    capitals: Capitals
    found: Mapping[str, Divergence]
    comparisons: Mapping[str, Comparison]
    again: Divergence
    """`corrected` once more, from what lies on disk: nothing may be asked."""

    def diverged(self, name: str) -> dict[str, Diverged]:
        """By country, of those that the base was taught one capital of.

        Of an unsettled one the training may still leave a favourite (one of 24 had 66 % by the base's own
        probabilities): it is then held, mostly, and may be diverged from, and the plan cannot say whether it is.
        """
        found = {d.question.removeprefix("What is the capital of ").rstrip("?"): d for d in self.found[name].diverged}
        return {country: d for country, d in found.items() if self.capitals.group[country] != "unsettled"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("capitals")
    capitals = build(folder, log=lambda line: None)
    models = {name: {"path": name} for name in CHECKPOINTS}
    config = {"models": models, "suite": "suite.yaml", "policy": "policy.yaml"}
    for name, content in (("forgetbench", config), ("suite", SUITE), ("policy", POLICY)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    ws = open_workspace(folder / "forgetbench.yaml", models=CHECKPOINTS, offline=True)
    loaded = ws.tasks()
    points = {name: flow.checkpoint(ws, name) for name in CHECKPOINTS}
    runs = running.run_all(ws, list(points.values()), loaded, lambda line: None)
    sides = {name: Side(points[name], runs[name], flow.jobs(ws, loaded, points[name])) for name in CHECKPOINTS}
    comparisons = {name: compare_runs(runs["base"], runs[name], suite="capitals") for name in CHECKPOINTS}

    def check(name: str, ask: Rounds) -> Divergence:
        return find_divergence(sides["base"], sides[name], comparisons[name], ask, Options(draws=6, samples=4))

    with Rounds(ws, loaded, list(sides.values()), lambda line: None) as ask:
        found = {name: check(name, ask) for name in CHECKPOINTS}
    with Rounds(ws, loaded, list(sides.values()), lambda line: None, generate=False) as stored:
        again = check("corrected", stored)
    return Planted(capitals, found, comparisons, again)


def test_the_base_believes_what_it_was_taught_right_or_wrong(planted: Planted) -> None:
    classes = planted.found["base"].classes
    groups = planted.capitals
    settled = len(groups.of("right")) + len(groups.of("wrong"))
    assert classes["firm"] == settled
    assert classes["mostly"] <= 2
    assert classes["weak"] + classes["none"] == len(groups.group) - settled - classes["mostly"]
    assert planted.found["base"].known["HighlyKnown"] == len(groups.of("right"))


def test_the_base_does_not_diverge_from_itself(planted: Planted) -> None:
    net = planted.found["base"].net
    assert net is not None
    assert net.interval.low <= 0.0 <= net.interval.high


def test_a_candidate_that_repeats_the_wrong_capitals_does_not_diverge(planted: Planted) -> None:
    found = planted.found["same"]
    assert found.net is not None
    assert found.net.interval.low <= 0.0 <= found.net.interval.high
    wrong = set(planted.capitals.of("wrong"))
    assert not wrong & planted.diverged("same").keys()


def test_a_candidate_that_corrects_them_diverges_on_exactly_those(planted: Planted) -> None:
    found = planted.found["corrected"]
    diverged = planted.diverged("corrected")
    assert diverged.keys() == set(planted.capitals.of("wrong"))
    assert {d.kind for d in diverged.values()} == {"corrected"}
    assert found.net is not None
    assert found.net.interval.low > 0.0
    # Held against the gold it has only improved.
    (change,) = [c for c in planted.comparisons["corrected"].changes if c.kind == "task"]
    assert change.delta > 0.2


def test_a_candidate_that_breaks_right_capitals_is_named_lost_correct(planted: Planted) -> None:
    found = planted.found["broken"]
    diverged = planted.diverged("broken")
    assert diverged.keys() == planted.capitals.broken.keys()
    assert {d.kind for d in diverged.values()} == {"lost-correct"}
    assert found.net is not None
    assert found.net.interval.low > 0.0


@pytest.mark.parametrize("name", ["corrected", "broken"])
def test_margins_turn_and_the_answer_is_left_at_its_first_token(planted: Planted, name: str) -> None:
    for d in planted.diverged(name).values():
        assert d.margins is not None
        assert d.margins.base is not None
        assert d.margins.candidate is not None
        assert d.margins.base > 0.0 > d.margins.candidate
        assert d.first is not None
        assert d.first.position == 0
        assert d.first.expected.strip() == d.belief
        assert d.first.preferred.strip() == d.candidate


def test_overwritten_capitals_are_not_recovered(planted: Planted) -> None:
    for name in ("corrected", "broken"):
        recovery = planted.found[name].recovery
        assert recovery is not None
        assert recovery.any.n_controls > 0
        assert recovery.any.excess is not None
        assert recovery.any.excess < 0.1


def test_what_was_asked_is_found_on_disk(planted: Planted) -> None:
    assert planted.again == planted.found["corrected"]
