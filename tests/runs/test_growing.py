"""A checkpoint asked bit by bit: what is stored, what is recorded, and that it resumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from forgetbench.engines.base import Engine
from forgetbench.errors import EngineError, ForgetbenchError, Interrupted
from forgetbench.execute import execute
from forgetbench.growing import Asking, growing
from forgetbench.planning.plan import TaskJob
from forgetbench.runs import open_run
from forgetbench.runs.spent import Spent
from forgetbench.runs.store import Run
from forgetbench.runs.target import Target
from forgetbench.types import Record
from tests.runs.fakes import IDENTITY, FakeEngine, checkpoint, jobs, plan

pytestmark = pytest.mark.unit


def _keys(todo: Sequence[TaskJob], *views: str) -> list[Asking]:
    """Every item once for each of the views that it is asked in."""
    return list(dict.fromkeys((job.view, item.key) for job in todo if job.view in views for item in job.items))


def _grow(
    folder: Path, todo: Sequence[TaskJob], blocks: Sequence[Sequence[Asking]], engine: FakeEngine | None
) -> tuple[Run, list[Record], list[Spent]]:
    """Ask block after block; engine None: nothing may be asked."""
    made: list[Engine] = []

    def factory() -> Engine:
        assert engine is not None, "nothing should have been asked"
        assert not made, "the engine was made twice"
        made.append(engine)
        return engine

    target = Target(plan(todo), todo, checkpoint(), folder, IDENTITY)
    spent: list[Spent] = []
    records: list[Record] = []
    with growing(target, factory, lambda line: None, spent.append) as grown:
        for block in blocks:
            records += grown.ask(block)
        run = grown.finish()
    return run, records, spent


def test_only_the_items_named_are_asked_and_recorded(tmp_path: Path) -> None:
    todo, engine = jobs(), FakeEngine()
    keys = _keys(todo, "ability")
    run, records, spent = _grow(tmp_path, todo, [keys[:5], keys[5:9]], engine)
    whole = execute(plan(todo), todo, checkpoint(), FakeEngine, tmp_path / "whole", engine_identity=IDENTITY)
    expected = [r for r in whole.read_records() if r.view == "ability" and ("ability", r.key) in keys[:9]]
    assert run.read_records() == expected
    assert [(r.key, r.output, r.scores) for r in records] == [(r.key, r.output, r.scores) for r in expected]
    assert len(engine.asked) == len(set(engine.asked)) == 9
    assert engine.closed
    assert [(e.state, e.n_items) for e in run.entries] == [("complete", 9)]
    assert [s.usage.requests for s in spent] == [9]
    assert open_run(tmp_path).read_records() == expected  # what the next reader finds


def test_the_whole_set_later_asks_only_the_rest(tmp_path: Path) -> None:
    todo, first, second = jobs(), FakeEngine(), FakeEngine()
    _grow(tmp_path, todo, [_keys(todo, "ability", "chat")[:20]], first)
    run = execute(plan(todo), todo, checkpoint(), lambda: second, tmp_path, engine_identity=IDENTITY)
    assert not set(first.asked) & set(second.asked)
    whole = execute(plan(todo), todo, checkpoint(), FakeEngine, tmp_path / "whole", engine_identity=IDENTITY)
    assert run.read_records() == whole.read_records()
    assert sorted(map(str, open_run(tmp_path).read_records())) == sorted(map(str, whole.read_records()))


def test_after_the_whole_set_nothing_is_asked(tmp_path: Path) -> None:
    todo = jobs()
    whole = execute(plan(todo), todo, checkpoint(), FakeEngine, tmp_path, engine_identity=IDENTITY)
    everything = _keys(todo, "ability", "chat", "as_used")
    some, records, spent = _grow(tmp_path, todo, [everything[3:7], everything[20:22]], None)
    assert some.read_records() == [r for r in whole.read_records() if r in records]
    assert not spent
    assert len(records) == 6
    all_of_it, _, _ = _grow(tmp_path, todo, [everything], None)
    assert all_of_it.read_records() == whole.read_records()
    assert [e.key for e in all_of_it.entries] == [e.key for e in whole.entries]


def test_the_same_question_of_two_views_is_asked_once(tmp_path: Path) -> None:
    todo, engine = jobs(), FakeEngine()
    raw, used = _keys(todo, "ability")[12:15], _keys(todo, "as_used")[:3]
    run, _, _ = _grow(tmp_path, todo, [raw, used], engine)
    assert [k for _, k in raw] == [k for _, k in used]
    assert len(engine.asked) == 3
    assert sorted(e.identity.view for e in run.entries) == ["ability", "as_used"]


def test_what_fails_is_tried_again_and_is_then_an_infra_error(tmp_path: Path) -> None:
    todo = jobs()
    keys = _keys(todo, "ability")[:6]
    (_, key), *_ = keys
    failing = {r for r, origins in plan(todo).origins.items() if any(o.item == key for o in origins)}
    engine = FakeEngine(fails=lambda request, attempt: request in failing)
    run, records, _ = _grow(tmp_path, todo, [keys], engine)
    assert sorted(engine.asked.count(request) for request in set(engine.asked)) == [1, 1, 1, 1, 1, 2]
    assert [r.key for r in records if r.outcome == "infra_error"] == [key]
    assert run.entries[0].n_infra_error == 1
    again, _, _ = _grow(tmp_path, todo, [keys], FakeEngine())
    assert again.entries[0].n_infra_error == 0


def test_an_interruption_keeps_what_was_answered(tmp_path: Path) -> None:
    todo = jobs()
    keys = _keys(todo, "ability")

    def stop(request: str) -> None:
        if len(engine.asked) == 8:
            raise KeyboardInterrupt

    engine = FakeEngine(on_ask=stop)
    with pytest.raises(Interrupted, match="the same command resumes"):
        _grow(tmp_path, todo, [keys[:5], keys[5:12]], engine)
    assert engine.closed
    second = FakeEngine()
    run, _, _ = _grow(tmp_path, todo, [keys[:5], keys[5:12]], second)
    assert len(second.asked) == 12 - 7
    assert not set(second.asked) & set(engine.asked[:7])
    assert sum(e.n_items for e in run.entries) == 12


def test_a_dead_engine_is_closed_and_said(tmp_path: Path) -> None:
    todo, engine = jobs(), FakeEngine(die_after=3)
    with pytest.raises(EngineError, match="the engine died"):
        _grow(tmp_path, todo, [_keys(todo, "ability")[:9]], engine)
    assert engine.closed


def test_another_engine_than_announced_is_refused(tmp_path: Path) -> None:
    todo = jobs()
    with pytest.raises(ForgetbenchError, match="announced was"):
        _grow(tmp_path, todo, [_keys(todo, "ability")[:2]], FakeEngine(identity={"name": "other"}))
