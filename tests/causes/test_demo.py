"""The search on the demo's real checkpoints, through real rounds: few items of one set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forgetbench import flow, running
from forgetbench.analysis.compare import compare_runs
from forgetbench.analysis.pairing import Selection
from forgetbench.analysis.types import Comparison
from forgetbench.causes.find import find_causes
from forgetbench.causes.types import Options
from forgetbench.findings import scored_metrics
from forgetbench.rounds import Rounds, Side
from forgetbench.workspace import Workspace, open_workspace

SUITE = """\
name: few
tasks:
  - set: knowledge.jsonl
    fewshot: knowledge.shots.jsonl
    scorer: exact
    raw: {question: "Q: {prompt}\\nA:", delimiter: " ", separator: "\\n\\n", num_fewshot: 3}
    chat: {question: "{prompt}", num_fewshot: 0}
    stop: ["\\n"]
    max_tokens: 24
"""
SMALL = Options(samples=8, further=(8,), tries=6, controls=10, most_flips=12)


@pytest.fixture(scope="module")
def opened(
    demo_world: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, flow.Loaded, list[Side], Comparison]:
    demo, folder = demo_world.resolve(), tmp_path_factory.mktemp("few")
    for name in ("knowledge.jsonl", "knowledge.shots.jsonl"):
        (folder / name).write_text((demo / "sets" / name).read_text())
    (folder / "suite.yaml").write_text(SUITE)
    models = {name: {"path": str(demo / "models" / name)} for name in ("sft_v1", "sft_v2")}
    (folder / "forgetbench.yaml").write_text(json.dumps({"models": models, "suite": "suite.yaml"}))
    ws = open_workspace(folder / "forgetbench.yaml", models=list(models), limit=24)
    loaded = ws.tasks()
    points = [flow.checkpoint(ws, alias) for alias in models]
    runs = running.run_all(ws, points, loaded, lambda line: None)
    metrics = scored_metrics(ws, loaded)
    comparison = compare_runs(
        runs["sft_v1"], runs["sft_v2"], suite="few", selection=Selection(frozenset(metrics)), metrics=metrics
    )
    return ws, loaded, [Side(p, runs[p.alias], flow.jobs(ws, loaded, p)) for p in points], comparison


def test_the_careless_fine_tune_lost_its_chat_style_and_not_its_facts(
    opened: tuple[Workspace, flow.Loaded, list[Side], Comparison],
) -> None:
    ws, loaded, sides, comparison = opened
    with Rounds(ws, loaded, sides, lambda line: None) as rounds:
        causes = find_causes(*sides, comparison, rounds, SMALL)
        asked = [spent for _, spent in rounds.spent]
    assert asked
    chat = next(t for t in causes.tasks if t.view == "chat")
    assert chat.lost >= 5
    assert chat.looked_at == min(chat.lost, SMALL.most_flips)
    # What raw few-shot prompts still bring back; the seed's fine-tune lost no fact for good (docs/demo.md).
    assert chat.counts.get("style", 0) + chat.counts.get("format", 0) > chat.looked_at / 2
    assert causes.cost.requests <= 2 * (12 + 10) * 2 * 2 + 12 * 3
    with Rounds(ws, loaded, sides, lambda line: None) as again:
        assert find_causes(*sides, comparison, again, SMALL) == causes
        assert not again.spent, "the rounds lie on disk and are not asked twice"
    # The scores that a gate decides on are not touched by any of it.
    after = compare_runs(
        sides[0].run,
        sides[1].run,
        suite="few",
        selection=Selection(frozenset(scored_metrics(ws, loaded))),
        metrics=scored_metrics(ws, loaded),
    )
    assert [(p.anchor, p.flip) for p in after.pairs] == [(p.anchor, p.flip) for p in comparison.pairs]


def test_the_same_checkpoint_twice_has_no_flip_and_asks_nothing(
    opened: tuple[Workspace, flow.Loaded, list[Side], Comparison],
) -> None:
    ws, loaded, (first, _), _ = opened
    metrics = scored_metrics(ws, loaded)
    same = compare_runs(first.run, first.run, suite="few", selection=Selection(frozenset(metrics)), metrics=metrics)
    with Rounds(ws, loaded, [first], lambda line: None) as rounds:
        causes = find_causes(first, first, same, rounds, SMALL)
        assert not rounds.spent
    assert not causes.found
    assert not causes.tasks
