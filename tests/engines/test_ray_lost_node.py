"""A node is killed in the middle of a run: nothing lost, nothing doubled, and the user is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.engines.ray_world import Scripted, by_id, questions, two_nodes

pytestmark = pytest.mark.slow


def test_a_killed_nodes_work_goes_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORGETBENCH_CACHE", str(tmp_path / "cache"))
    model, asked = Scripted(tmp_path / "model", delay=0.1), questions(80)
    with two_nodes() as world:
        engine = model.engine(world.address, group_requests=8)
        capfd.readouterr()
        got = []
        before: set[str] = set()
        try:
            with caplog.at_level(logging.WARNING, "forgetbench"):
                for response in engine.run(asked):
                    got.append(response)
                    if not before and len(got) >= 20 and len(model.processes()) == 2:
                        before = {r.request_id for r in got}
                        world.cluster.remove_node(world.second, allow_graceful=False)
            noise = capfd.readouterr()
        finally:
            engine.close()
    answers = by_id(got, asked)
    assert all(r.generations[0].text == f"<{r.request_id[:8]} {r.request_id[8:]}>" for r in answers.values())
    times = model.asked()
    assert {times[name] for name in before} == {1}  # what had come back is not computed again
    assert 0 < sum(times.values()) - len(asked) <= 4  # but for the one or two that were on their way
    (told,) = [r.getMessage() for r in caplog.records if "is lost" in r.getMessage()]
    assert "unanswered requests go to others" in told
    assert "raylet" not in noise.out + noise.err  # Ray's own forty lines about it
