"""Running through a workspace: groups of one engine, the cache at one place, what is said."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from forgetbench import flow, running
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines import pool
from forgetbench.engines.base import Usage
from forgetbench.engines.scripted import ScriptedEngine, engine_from_args
from forgetbench.runs import open_run
from forgetbench.types import Request, Response
from forgetbench.workspace import Workspace, open_workspace

from .cli import workspace

pytestmark = pytest.mark.unit
ALIASES = ["base", "first", "second"]


class Family:
    """As vLLM does it: one engine for a base and its adapters, each request answered by its own checkpoint."""

    def __init__(self, points: Sequence[Checkpoint]) -> None:
        self.engines = {p.digest: engine_from_args(p, p.spec.engine_args) for p in points}
        self.calls: list[list[Request]] = []
        self.capabilities = next(iter(self.engines.values())).capabilities

    @property
    def usage(self) -> Usage:
        return Usage(requests=sum(e.usage.requests for e in self.engines.values()))

    @property
    def identity(self) -> dict[str, str]:
        return next(iter(self.engines.values())).identity

    def identity_of(self, point: Checkpoint) -> dict[str, str]:
        return self.engines[point.digest].identity

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        self.calls.append(list(requests))
        for request in requests:
            yield from self.engines[request.checkpoint].run([request])

    def close(self) -> None:
        pass


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> list[Family]:
    """Scripted checkpoints served together."""
    made: list[Family] = []

    class Pool(pool.EnginePool):
        def engine(self, checkpoints: Sequence[Checkpoint]) -> Any:
            made.append(Family(checkpoints))
            return made[-1]

    monkeypatch.setattr(pool, "together", lambda points: [list(points)])
    monkeypatch.setattr(pool, "EnginePool", Pool)
    return made


def three(folder: Path) -> Workspace:
    config = copy.deepcopy(workspace.CONFIG)
    config["models"] = {
        alias: {"path": f"{alias}.json", "engine": "scripted", "engine_args": {"script": f"{alias}.json"}}
        for alias in ALIASES
    }
    scripts = {f"{a}__json": workspace.script(wrong=range(n * 20)) for n, a in enumerate(ALIASES)}
    return open_workspace(workspace.write(folder, forgetbench__yaml=config, **scripts), models=ALIASES)


def go(ws: Workspace, said: list[str] | None = None, **more: Any) -> dict[str, Any]:
    points = [flow.checkpoint(ws, alias) for alias in ws.chosen]
    return running.run_all(ws, points, ws.tasks(), [].append if said is None else said.append, **more)


def wrong(run: Any) -> int:
    return sum(0.0 in r.scores.values() for r in run.read_records())


def test_a_base_and_two_adapters_are_one_engine_and_one_call(tmp_path: Path, families: list[Family]) -> None:
    ws = three(tmp_path)
    runs = go(ws)
    assert list(runs) == ALIASES
    assert [len(c) for f in families for c in f.calls] == [600]
    assert [wrong(runs[a]) for a in ALIASES] == [0, 20, 40]
    again = go(ws)
    assert len(families) == 1
    assert [again[a].read_records() for a in ALIASES] == [runs[a].read_records() for a in ALIASES]


def test_killed_midway_only_the_rest_is_asked(tmp_path: Path, families: list[Family]) -> None:
    ws = three(tmp_path)
    real, answered = Family.run, []

    def dies(self: Family, requests: Sequence[Request]) -> Iterator[Response]:
        for response in real(self, requests):
            if len(answered) == 250:
                raise KeyboardInterrupt
            answered.append(response.request_id)
            yield response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Family, "run", dies)
        with pytest.raises(Exception, match="250 of 600 answers are stored"):
            go(ws, use_cache=False)
    runs = go(ws, use_cache=False)
    assert len(families[-1].calls[0]) == 350
    assert not {r.request_id for r in families[-1].calls[0]} & set(answered)
    assert [wrong(runs[a]) for a in ALIASES] == [0, 20, 40]


def test_what_the_cache_has_is_asked_of_no_engine(tmp_path: Path, families: list[Family]) -> None:
    ws = three(tmp_path)
    said: list[str] = []
    first = go(ws, said)
    assert said[-1].startswith("base, first, second: 600 requests")
    assert (ws.cache / "responses.sqlite").is_file()
    shutil.rmtree(ws.runs)
    second = go(ws, said)
    assert families[-1].calls == []
    assert said[-1] == "base, first, second: 600 answers from the cache"
    assert [second[a].read_records() for a in ALIASES] == [first[a].read_records() for a in ALIASES]
    shutil.rmtree(ws.runs)
    go(ws, use_cache=False)
    assert len(families[-1].calls[0]) == 600


def test_without_the_cache_nothing_is_written_to_it(tmp_path: Path) -> None:
    ws = three(tmp_path)
    go(ws, use_cache=False)
    assert not (ws.cache / "responses.sqlite").exists()


def test_an_engine_that_is_not_the_announced_one_is_seen_behind_the_cache(
    tmp_path: Path, families: list[Family]
) -> None:
    ws = three(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Family, "identity_of", lambda self, point: {"name": "another"})
        with pytest.raises(Exception, match="announced was"):
            go(ws)


def test_one_line_for_each_checkpoint_that_was_asked_and_none_for_what_lay_on_disk(tmp_path: Path) -> None:
    ws = three(tmp_path)
    only_base = open_workspace(tmp_path / "forgetbench.yaml", models=["base"])
    said: list[str] = []
    run = flow.run(only_base, "base", ws.tasks(), say=said.append)
    assert len(said) == 1
    assert said[0].startswith("base: 200 requests, ")
    go(ws, said)
    assert [line.partition(":")[0] for line in said] == ALIASES
    go(ws, said)
    assert len(said) == 3
    manifest = open_run(run.path).manifest
    assert manifest.info["usage"]["requests"] == 200
    assert manifest.info["usage"]["aliases"] == ["base"]


def test_the_default_asks_checkpoint_after_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = ScriptedEngine.run

    def spy(self: ScriptedEngine, requests: Sequence[Request]) -> Iterator[Response]:
        asked.append(requests[0].checkpoint)
        assert len({r.checkpoint for r in requests}) == 1
        yield from real(self, requests)

    monkeypatch.setattr(ScriptedEngine, "run", spy)
    ws = three(tmp_path)
    go(ws)
    assert asked == [flow.checkpoint(ws, alias).digest for alias in ALIASES]


def test_settled_checkpoints_are_said_nothing_of_and_not_asked_again(tmp_path: Path) -> None:
    ws = three(tmp_path)
    broken = json.loads((tmp_path / "base.json").read_text())
    broken["rules"].insert(0, {"match": "Q: 7 + 1\nA:", "error": "out of memory"})
    suite = copy.deepcopy(workspace.SUITE) | {"views": ["ability", "chat"]}
    ws = open_workspace(workspace.write(tmp_path, base__json=broken, suite__yaml=suite), models=["base"])
    said: list[str] = []
    go(ws, said)
    assert any("needs a chat template" in line for line in said)
    points = [flow.checkpoint(ws, "base")]
    assert [p.alias for p in running.unfinished(ws, points, ws.tasks())] == ["base"]
    before = len(said)
    runs = go(ws, said, settled=["base"])
    assert len(said) == before
    assert [r.outcome for r in runs["base"].read_records()].count("infra_error") == 1
    go(ws, said)
    assert said[-1].startswith("base: 2 requests")  # the same command later does try it again, twice
