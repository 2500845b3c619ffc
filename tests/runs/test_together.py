"""execute_together: several checkpoints through one engine, each one's answers in its own run."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.engines.base import Engine
from forgetbench.errors import EngineError, ForgetbenchError, Interrupted
from forgetbench.execute import Spent, Target, complete, execute_together
from forgetbench.planning.plan import TaskJob, request_id
from forgetbench.runs import open_run
from forgetbench.runs.asking import merge
from forgetbench.runs.segments import scan_folder
from forgetbench.runs.store import Run
from forgetbench.types import Generate, Prompt, Request, Response, Score
from tests.runs.fakes import IDENTITY, FakeEngine, FakeTask, checkpoint, job, jobs, plan

pytestmark = pytest.mark.unit
REPOSITORY = Path(__file__).resolve().parents[2]
BASE = checkpoint("ba5e" * 4, "base")
FIRST = checkpoint("f125" * 4, "first")
SECOND = checkpoint("5ec0" * 4, "second")
FAMILY = (BASE, FIRST, SECOND)
ADAPTED = {**IDENTITY, "adapter": "served"}


class Family(FakeEngine):
    """One engine for a base and its adapters: it notes every call, and tells the checkpoints apart."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.calls: list[list[Request]] = []

    def identity_of(self, model: SimpleNamespace) -> dict[str, str]:
        return IDENTITY if model.digest == BASE.digest else ADAPTED

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        self.calls.append(list(requests))
        yield from super().run(requests)


def target(folder: Path, model: SimpleNamespace, todo: list[TaskJob], **more: Any) -> Target:
    more.setdefault("engine_identity", IDENTITY if model.digest == BASE.digest else ADAPTED)
    return Target(plan(todo, model), todo, model, folder / model.alias, **more)


def targets(folder: Path, n: int = 6, models: Sequence[SimpleNamespace] = FAMILY, **more: Any) -> list[Target]:
    return [target(folder, model, jobs(n), **more) for model in models]


def go(todo: list[Target], engine: FakeEngine | None, **more: Any) -> list[Run]:
    def factory() -> Engine:
        assert engine is not None, "nothing should have been asked"
        return engine

    return execute_together(todo, factory, **more)


def alone(folder: Path, n: int = 6) -> list[Any]:
    """What each checkpoint's records are when it is run by itself."""
    return [go([t], Family())[0].read_records() for t in targets(folder / "alone", n)]


def test_one_engine_one_call_and_every_answer_in_its_own_run(tmp_path: Path) -> None:
    engine, built = Family(), []

    def factory() -> Engine:
        built.append(1)
        return engine

    runs = execute_together(targets(tmp_path), factory)
    assert len(built) == 1
    assert len(engine.calls) == 1
    assert engine.closed
    assert [r.alias for r in runs] == ["base", "first", "second"]
    assert [r.read_records() for r in runs] == alone(tmp_path)
    for run, model in zip(runs, FAMILY, strict=True):
        own = {r.request_id for r in plan(jobs(6), model).requests}
        for entry in run.entries:
            assert set(run.responses(entry).locations) <= own
        assert {e.identity.checkpoint for e in run.entries} == {model.digest}


def test_the_same_prompt_of_the_checkpoints_stands_side_by_side(tmp_path: Path) -> None:
    engine = Family()
    go(targets(tmp_path), engine)
    asked = [(r.prompt.text, isinstance(r.body, Generate)) for r in engine.calls[0]]
    assert len(asked) == 3 * len(set(asked))
    assert asked[::3] == asked[1::3] == asked[2::3]
    assert [r.checkpoint for r in engine.calls[0][:3]] == [m.digest for m in FAMILY]
    base_alone = [r.request_id for r in plan(jobs(6), BASE).requests]
    assert [r.request_id for r in engine.calls[0] if r.checkpoint == BASE.digest] == base_alone


def test_only_what_is_missing_is_asked(tmp_path: Path) -> None:
    go(targets(tmp_path, models=[FIRST]), Family())
    go([target(tmp_path, BASE, [job(FakeTask("add", 6))])], Family())
    engine = Family()
    runs = go(targets(tmp_path), engine)
    (call,) = engine.calls
    assert {r.checkpoint for r in call} == {BASE.digest, SECOND.digest}
    assert not {r.request_id for r in call} & {r.request_id for r in plan([job(FakeTask("add", 6))], BASE).requests}
    assert [r.read_records() for r in runs] == alone(tmp_path)
    assert [r.read_records() for r in go(targets(tmp_path), None)] == alone(tmp_path)


def test_two_names_of_one_checkpoint_are_asked_once(tmp_path: Path) -> None:
    other = SimpleNamespace(**{**vars(BASE), "alias": "other"})
    engine = Family()
    runs = go(targets(tmp_path, models=[BASE, other]), engine)
    assert len(engine.asked) == len(set(engine.asked)) == len(plan(jobs(6), BASE).requests)
    assert runs[0].read_records() == runs[1].read_records()
    # And where one of them has its answers already, the other takes them over.
    third = SimpleNamespace(**{**vars(BASE), "alias": "third"})
    assert go(targets(tmp_path, models=[BASE, third]), None)[1].read_records() == runs[0].read_records()


def test_answers_of_another_engine_are_not_taken_over(tmp_path: Path) -> None:
    other = SimpleNamespace(**{**vars(BASE), "alias": "other"})
    go(targets(tmp_path, models=[BASE], engine_identity=IDENTITY), Family())

    class Apart(FakeEngine):
        def identity_of(self, model: SimpleNamespace) -> dict[str, str]:
            return {**IDENTITY, "version": "2"} if model.alias == "other" else IDENTITY

    engine = Apart()
    both = [
        target(tmp_path, BASE, jobs(6)),
        target(tmp_path, other, jobs(6), engine_identity={**IDENTITY, "version": "2"}),
    ]
    go(both, engine)
    assert len(engine.asked) == len(plan(jobs(6), BASE).requests)


def test_a_failure_is_tried_again_for_its_own_checkpoint_only(tmp_path: Path) -> None:
    broken = plan(jobs(6), FIRST).requests[0].request_id
    engine = Family(fails=lambda request_id, attempt: request_id == broken)
    runs = go(targets(tmp_path), engine)
    assert [len(c) for c in engine.calls] == [3 * len(plan(jobs(6), BASE).requests), 1]
    failed = [[r.request_id for r in run.read_records() if r.outcome == "infra_error"] for run in runs]
    assert failed[0] == failed[2] == []
    assert set(failed[1]) == {broken}
    again = Family()
    assert [r.read_records() for r in go(targets(tmp_path), again)] == alone(tmp_path)
    assert again.asked == [broken]


def test_settled_failures_are_not_asked_again(tmp_path: Path) -> None:
    broken = plan(jobs(6), FIRST).requests[0].request_id
    go(targets(tmp_path), Family(fails=lambda request_id, attempt: request_id == broken))
    mended = [dataclasses.replace(t, settled=True) for t in targets(tmp_path)]
    runs = go(mended, None)
    assert next(r.request_id for r in runs[1].read_records() if r.outcome == "infra_error") == broken
    assert [complete(t) for t in targets(tmp_path)] == [True, False, True]
    assert all(complete(t) for t in mended)


def test_complete_writes_nothing(tmp_path: Path) -> None:
    (one,) = targets(tmp_path, models=[BASE])
    assert not complete(one)
    assert not one.run_dir.exists()
    go([one], Family())
    assert complete(one)
    (more,) = targets(tmp_path, 7, models=[BASE])
    assert not complete(more)


def test_each_checkpoints_announced_identity_is_checked(tmp_path: Path) -> None:
    wrong = [*targets(tmp_path, models=[BASE]), target(tmp_path, FIRST, jobs(6), engine_identity=IDENTITY)]
    engine = Family()
    with pytest.raises(ForgetbenchError, match="announced was"):
        go(wrong, engine)
    assert engine.closed
    assert engine.asked == []


def test_without_announced_identities_the_engine_is_asked_for_each(tmp_path: Path) -> None:
    runs = go(targets(tmp_path, engine_identity=None), Family())
    assert [r.manifest.engine for r in runs] == [IDENTITY, ADAPTED, ADAPTED]


def test_two_checkpoints_in_one_folder_are_refused(tmp_path: Path) -> None:
    same = [dataclasses.replace(t, run_dir=tmp_path) for t in targets(tmp_path, models=[BASE, FIRST])]
    with pytest.raises(ForgetbenchError, match="share a folder"):
        go(same, None)


def test_a_dead_engine_keeps_what_it_said_of_every_checkpoint(tmp_path: Path) -> None:
    engine = Family(die_after=30)
    with pytest.raises(EngineError):
        go(targets(tmp_path), engine)
    rest = Family()
    runs = go(targets(tmp_path), rest)
    assert not set(engine.asked) & set(rest.asked)
    assert [r.read_records() for r in runs] == alone(tmp_path)


def test_ctrl_c_counts_the_answers_of_all_and_resumes(tmp_path: Path) -> None:
    seen: list[str] = []

    def interrupt(request_id: str) -> None:
        seen.append(request_id)
        if len(seen) == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    total = 3 * len(plan(jobs(6), BASE).requests)
    with pytest.raises(Interrupted, match=rf"8 of {total} answers are stored in .*base, .*first, .*second;"):
        go(targets(tmp_path), Family(on_ask=interrupt))
    rest = Family()
    runs = go(targets(tmp_path), rest)
    assert not set(seen[:8]) & set(rest.asked)
    assert [r.read_records() for r in runs] == alone(tmp_path)


def test_progress_counts_each_checkpoints_own_requests(tmp_path: Path) -> None:
    told: dict[str, dict[tuple[str, str], tuple[int, int]]] = {}

    def progress(alias: str) -> Any:
        def tell(task: str, view: str, done: int, total: int, tokens: int) -> None:
            told.setdefault(alias, {})[task, view] = (done, total)

        return tell

    todo = [dataclasses.replace(t, progress=progress(t.checkpoint.alias)) for t in targets(tmp_path)]
    go(todo, Family())
    assert set(told) == {"base", "first", "second"}
    assert told["first"]["add", "ability"] == (6, 6)
    assert all(done == total for each in told.values() for done, total in each.values())


def test_what_it_took_is_told_once_and_kept_by_those_that_were_asked(tmp_path: Path) -> None:
    go(targets(tmp_path, models=[FIRST]), Family())
    before = open_run(tmp_path / "first").manifest.info["usage"]
    spent: list[Spent] = []
    engine = Family()
    go(targets(tmp_path), engine, on_spent=spent.append)
    (one,) = spent
    n = len(engine.asked)
    assert one.line() == f"base, second: {n} requests, {n} of {10 * n} prompt tokens computed"
    for alias in ("base", "second"):
        info = open_run(tmp_path / alias).manifest.info
        assert info["usage"] == one.as_info()
        assert info["usage"]["requests"] == n
        assert info["stop_ids"] == [0]
    assert open_run(tmp_path / "first").manifest.info["usage"] == before
    go(targets(tmp_path), None, on_spent=spent.append)
    assert len(spent) == 1


TOGETHER = """
import contextlib, json, sys, time
from pathlib import Path
import forgetbench.runs.target as target
from forgetbench.execute import execute_together
from tests.runs.test_together import FAMILY, Family, targets
folder, turn, delay = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
lock = target.locked
@contextlib.contextmanager
def slow(path, **more):  # time enough for the other process to take another lock first
    with lock(path, **more):
        time.sleep(0.03)
        yield
target.locked = slow
engine = Family(delay=delay, seed=turn)
print("ready", flush=True); sys.stdin.readline()
def stored(request_id): print("!" + request_id, flush=True)
todo = targets(folder)
todo = todo[turn:] + todo[:turn]
execute_together(todo, lambda: engine, on_stored=stored)
print(json.dumps(engine.asked))
"""


def start(folder: Path, turn: int, delay: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TOGETHER, str(folder), str(turn), str(delay)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_name_them_in_another_order_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Locks are taken in one order over all runs; taken target by target, these two would wait for ever."""
    children = [start(tmp_path, turn, 0.01) for turn in (0, 1)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    try:
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.communicate(timeout=40)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    asked = [i for text in said for i in json.loads(text.splitlines()[-1])]
    assert len(asked) == len(set(asked)) == 3 * len(plan(jobs(6), BASE).requests)


def test_killed_midway_the_rest_is_asked_and_nothing_twice(tmp_path: Path) -> None:
    child = start(tmp_path, 0, 0.02)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    acknowledged: set[str] = set()
    for line in child.stdout:
        if line.startswith("!"):
            acknowledged.add(line[1:].strip())
        if len(acknowledged) >= 20:
            child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    own = [{r.request_id for r in plan(jobs(6), model).requests} for model in FAMILY]
    assert all(acknowledged & ids for ids in own), "the kill came before every checkpoint had answers"
    assert len(acknowledged) < sum(len(ids) for ids in own)
    for model, ids in zip(FAMILY, own, strict=True):
        on_disk = {i for f in (tmp_path / model.alias).glob("tasks/*/responses") for i in scan_folder(f).locations}
        assert acknowledged & ids <= on_disk <= ids
    rest = Family()
    runs = go(targets(tmp_path), rest)
    assert not acknowledged & set(rest.asked)
    assert [r.read_records() for r in runs] == alone(tmp_path)


# --- merging --------------------------------------------------------------------------------------------------


def order(name: str, prompts: Sequence[str]) -> list[Request]:
    found = []
    for text in prompts:
        prompt, body = Prompt(text=text), Score(("a", "b"))
        found.append(Request(request_id(name, prompt, body), name, prompt, body))
    return found


def texts(requests: Sequence[Request], name: str | None = None) -> list[str]:
    return [r.prompt.text or "" for r in requests if name in (None, r.checkpoint)]


def test_a_question_that_another_plan_lacks_follows_its_neighbour() -> None:
    merged = merge([order("x", "abc"), order("y", "qaruc"), order("z", "ru")])
    assert texts(merged) == list("qaarruubcc")
    assert [r.checkpoint for r in merged if r.prompt.text in ("a", "r")] == ["x", "y", "y", "z"]


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), min_size=1, max_size=4))
def test_merging_keeps_every_request_and_the_first_plans_order(drawn: list[list[str]]) -> None:
    orders = [order(f"m{i}", prompts) for i, prompts in enumerate(drawn)]
    merged = merge(orders)
    assert sorted(r.request_id for r in merged) == sorted(r.request_id for o in orders for r in o)
    assert texts(merged, "m0") == drawn[0]
    firsts = [texts(merged).index(t) for t in dict.fromkeys(texts(merged))]
    assert texts(merged) == [texts(merged)[i] for i in firsts for _ in range(texts(merged).count(texts(merged)[i]))]


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True).map(sorted), min_size=1, max_size=2))
def test_two_plans_that_agree_on_the_order_both_keep_theirs(drawn: list[list[str]]) -> None:
    merged = merge(order(f"m{i}", prompts) for i, prompts in enumerate(drawn))
    for i, prompts in enumerate(drawn):
        assert texts(merged, f"m{i}") == prompts
