"""execute: what is asked, what is stored, what is never asked again."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forgetbench.engines.base import Capabilities, Engine
from forgetbench.errors import EngineError, Exit, ForgetbenchError, Interrupted, UsageError
from forgetbench.execute import execute, rescore
from forgetbench.planning.plan import TaskJob
from forgetbench.runs import open_run
from forgetbench.runs.store import Run
from forgetbench.scoring import SCORER_VERSION
from forgetbench.types import Decode, Plan, Record, Request, Response
from tests.runs.fakes import IDENTITY, FakeEngine, FakeTask, answer, checkpoint, job, jobs, plan

pytestmark = pytest.mark.unit


def go(folder: Path, todo: list[TaskJob], engine: FakeEngine | None, **more: Any) -> Run:
    """Execute; engine None: nothing may be asked."""

    def factory() -> Engine:
        assert engine is not None, "nothing should have been asked"
        return engine

    model = more.pop("model", checkpoint())
    the_plan = more.pop("the_plan", None) or plan(todo, model)
    identity = more.pop("engine_identity", engine.identity if engine else IDENTITY)
    return execute(the_plan, todo, model, factory, folder, engine_identity=identity, **more)


def rows(run: Run) -> list[Record]:
    return run.read_records()


def test_a_run_holds_a_record_of_every_sample_in_the_order_of_the_items(tmp_path: Path) -> None:
    todo = jobs()
    engine = FakeEngine()
    run = go(tmp_path, todo, engine)
    assert engine.closed
    records = rows(run)
    expected = [
        (j.task.name, item.key.content_hash, j.view, sample)
        for j in todo
        for item in j.items
        for sample in range(j.decode.n)
    ]
    assert [(r.task, r.content_hash, r.view, r.sample) for r in records] == expected
    assert len(engine.asked) == len(set(engine.asked)) == len(plan(todo).requests)


def test_a_record_carries_prompt_evidence_and_statistics(tmp_path: Path) -> None:
    todo = jobs()
    by_id: dict[str, Request] = {r.request_id: r for r in plan(todo).requests}
    for r in rows(go(tmp_path, todo, FakeEngine())):
        request = by_id[r.request_id or ""]
        response = answer(request)
        assert r.prompt == request.prompt.text
        assert r.prompt_token_hash == response.prompt_token_hash
        assert r.n_prompt_tokens == response.prompt_tokens
        assert r.truncated_left == 0
        assert r.source is not None
        assert r.stratum in (None, "even")
        assert r.style == ("chat" if r.view == "chat" else "raw")
        if r.task == "pick":
            assert (r.finish_reason, r.n_output_tokens, r.mean_logprob) == (None, None, None)
            assert r.extra["choice_logprobs"] == [s.logprob for s in response.scores]
            assert r.n_choices == 3
            continue
        g = response.generations[r.sample]
        assert g.logprobs is not None
        assert g.entropies is not None
        assert r.output == g.text
        assert r.finish_reason == g.finish_reason
        assert r.n_output_tokens == len(g.token_ids)
        assert r.mean_logprob == pytest.approx(sum(g.logprobs) / len(g.logprobs), rel=1e-12)
        assert r.mean_entropy == pytest.approx(sum(g.entropies) / len(g.entropies), rel=1e-12)
        assert r.outcome == ("unparsed" if g.text.endswith("x") else "ok")


def test_hashes_of_prompts_tell_prompts_apart(tmp_path: Path) -> None:
    add = FakeTask("add", 3)
    records = rows(go(tmp_path, [job(add), job(add, "chat"), job(add, "as_used")], FakeEngine()))
    by_view = {v: [r.prompt_text_hash for r in records if r.view == v] for v in ("ability", "chat", "as_used")}
    assert by_view["ability"] == by_view["as_used"]
    assert not set(by_view["ability"]) & set(by_view["chat"])
    assert all(len(h or "") == 16 for h in by_view["ability"])


def test_the_second_call_builds_no_engine_and_reads_no_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = go(tmp_path, jobs(), FakeEngine())

    def written() -> dict[Path, int]:
        files = (p for p in tmp_path.rglob("*") if p.is_file() and not p.name.endswith("lock"))
        return {p: p.stat().st_mtime_ns for p in files}

    before = written()
    monkeypatch.setattr("forgetbench.runs.work.scan_folder", lambda folder: pytest.fail("read responses"))
    told: list[tuple[Any, ...]] = []
    second = go(tmp_path, jobs(), None, progress=lambda *a: told.append(a))
    assert rows(second) == rows(first)
    assert written() == before
    assert ("add", "ability", 12, 12, 0) in told


def test_adding_a_task_runs_that_task_only(tmp_path: Path) -> None:
    go(tmp_path, jobs(), FakeEngine())
    extra = job(FakeTask("new", 4))
    engine = FakeEngine()
    run = go(tmp_path, [*jobs(), extra], engine)
    assert sorted(engine.asked) == sorted(r.request_id for r in plan([extra]).requests)
    assert {e.identity.task for e in run.entries} == {"pick", "add", "dice", "new"}


def test_raising_the_limit_asks_only_the_new_items_and_lowering_it_none(tmp_path: Path) -> None:
    add = FakeTask("add", 10)
    few = rows(go(tmp_path, [job(add, limit=4)], FakeEngine()))
    engine = FakeEngine()
    all_ten = go(tmp_path, [job(add)], engine)
    assert len(engine.asked) == 6
    assert rows(all_ten)[:4] == few
    again = go(tmp_path, [job(add, limit=4)], None)
    assert rows(again) == few
    # What was asked for last is what a reader of the folder sees; the snapshot from before still reads.
    assert len(open_run(tmp_path).read_records()) == 4
    assert len(rows(all_ten)) == 10


CHANGES: dict[str, Any] = {
    "task version": lambda: ([job(FakeTask("add", 4, version="2"))], checkpoint(), IDENTITY),
    "task name": lambda: ([job(FakeTask("add2", 4))], checkpoint(), IDENTITY),
    "view": lambda: ([job(FakeTask("add", 4), "as_used")], checkpoint(), IDENTITY),
    "style": lambda: ([dataclasses.replace(job(FakeTask("add", 4)), style="chat")], checkpoint(), IDENTITY),
    "num_fewshot": lambda: ([job(FakeTask("add", 4), num_fewshot=1)], checkpoint(), IDENTITY),
    "max_tokens": lambda: ([job(FakeTask("add", 4), max_tokens=9)], checkpoint(), IDENTITY),
    "stop": lambda: ([job(FakeTask("add", 4), stop=("x",))], checkpoint(), IDENTITY),
    "temperature": lambda: ([job(FakeTask("add", 4), decode=Decode(0.5))], checkpoint(), IDENTITY),
    "top_p": lambda: ([job(FakeTask("add", 4), decode=Decode(0.7, 0.5))], checkpoint(), IDENTITY),
    "n": lambda: ([job(FakeTask("add", 4), decode=Decode(0.7, 0.9, 2))], checkpoint(), IDENTITY),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_identity_never_resumes(tmp_path: Path, change: str) -> None:
    sampled = job(FakeTask("add", 4), decode=Decode(0.7, 0.9))
    first = go(tmp_path, [job(FakeTask("add", 4)), sampled], FakeEngine())
    todo, model, identity = CHANGES[change]()
    engine = FakeEngine(identity=identity)
    run = go(tmp_path, todo, engine, model=model)
    assert not {e.digest for e in run.entries} & {e.digest for e in first.entries}
    # The as_used view asks the identical requests, of which the answers may not be shared between entries
    # that are not asked for in the same plan.
    assert len(engine.asked) == 4


def test_a_prompt_that_changed_under_the_same_identity_is_asked_again(tmp_path: Path) -> None:
    class Reworded(FakeTask):
        def prompt(self, item: Any, num_fewshot: int) -> Any:
            spec = super().prompt(item, num_fewshot)
            return dataclasses.replace(spec, question="Please: " + spec.question)

    old = go(tmp_path, [job(FakeTask("add", 4))], FakeEngine())
    engine = FakeEngine()
    new = go(tmp_path, [job(Reworded("add", 4))], engine)
    assert old.entries[0].digest == new.entries[0].digest
    assert len(engine.asked) == 4
    assert all((r.prompt or "").startswith("Please: ") for r in rows(new))


def test_replicate_is_identity(tmp_path: Path) -> None:
    todo = [job(FakeTask("dice", 3), decode=Decode(0.7, 0.9, 2))]
    first = go(tmp_path, todo, FakeEngine())
    engine = FakeEngine()
    second = go(tmp_path, todo, engine, the_plan=plan(todo, replicate=1))
    assert len(engine.asked) == 3
    assert {r.replicate for r in rows(second)} == {1}
    assert {r.replicate for r in rows(first)} == {0}
    assert len(open_run(tmp_path).read_records()) == 12  # both replicates stand side by side


def test_a_later_round_is_stored_apart_with_its_parents(tmp_path: Path) -> None:
    todo = [job(FakeTask("add", 3))]
    go(tmp_path, todo, FakeEngine())
    base = plan(todo)
    later = Plan(
        base.requests,
        {i: tuple(dataclasses.replace(o, round=1) for o in os_) for i, os_ in base.origins.items()},
        round=1,
        parents=("comparison:abc",),
    )
    run = go(tmp_path, todo, FakeEngine(), the_plan=later)
    assert run.entries[0].identity.decode["parents"] == ["comparison:abc"]
    assert {r.round for r in rows(run)} == {1}
    assert {r.round for r in open_run(tmp_path).read_records()} == {0, 1}


@pytest.mark.parametrize("part", ["checkpoint", "engine"])
def test_the_folder_of_another_checkpoint_or_engine_is_refused(tmp_path: Path, part: str) -> None:
    go(tmp_path, jobs(), FakeEngine())
    model = checkpoint("0123456789abcdef") if part == "checkpoint" else checkpoint()
    identity = {**IDENTITY, "dtype": "bfloat16"} if part == "engine" else IDENTITY
    with pytest.raises(UsageError, match="another checkpoint or engine"):
        go(tmp_path, jobs(), FakeEngine(identity=identity), model=model)


def test_an_engine_that_is_not_the_announced_one_is_refused(tmp_path: Path) -> None:
    engine = FakeEngine()
    with pytest.raises(ForgetbenchError, match="announced"):
        go(tmp_path, jobs(), engine, engine_identity={"name": "other"})
    assert engine.asked == []


def test_without_an_announced_identity_the_engine_is_asked_for_it(tmp_path: Path) -> None:
    todo, engines = jobs(), [FakeEngine(), FakeEngine()]
    for engine in engines:
        execute(plan(todo), todo, checkpoint(), lambda engine=engine: engine, tmp_path)
    assert [bool(e.asked) for e in engines] == [True, False]
    assert all(e.closed for e in engines)


def test_one_request_answers_all_its_origins(tmp_path: Path) -> None:
    add = FakeTask("add", 6)
    todo = [job(add), job(add, "as_used")]
    engine = FakeEngine()
    run = go(tmp_path, todo, engine)
    assert len(engine.asked) == 6
    assert [r.output for r in rows(run)[:6]] == [r.output for r in rows(run)[6:]]


def test_a_view_added_later_takes_over_the_answers_to_identical_requests(tmp_path: Path) -> None:
    add = FakeTask("add", 6)
    go(tmp_path, [job(add)], FakeEngine())
    run = go(tmp_path, [job(add), job(add, "as_used")], None)
    assert len(rows(run)) == 12


# --- failures -------------------------------------------------------------------------------------------------


def test_a_failed_request_is_tried_twice_and_then_once_more_by_the_next_call(tmp_path: Path) -> None:
    todo = jobs()
    broken = plan(todo).requests[0].request_id
    engine = FakeEngine(fails=lambda request_id, attempt: request_id == broken)
    run = go(tmp_path, todo, engine)
    assert Counter(engine.asked)[broken] == 2
    assert max(Counter(i for i in engine.asked if i != broken).values()) == 1
    bad = [r for r in rows(run) if r.request_id == broken]
    assert {r.outcome for r in bad} == {"infra_error"}
    assert all(r.scores == {} and "out of memory" in r.why and r.finish_reason == "error" for r in bad)
    assert sum(e.n_infra_error for e in run.entries) == len({(r.task, r.view) for r in bad})

    mended = FakeEngine()
    run = go(tmp_path, todo, mended)
    assert mended.asked == [broken]
    assert "infra_error" not in {r.outcome for r in rows(run)}
    assert rows(run) == rows(go(tmp_path / "undisturbed", todo, FakeEngine()))
    go(tmp_path, todo, None)


def test_a_failure_that_passes_leaves_no_trace_in_the_records(tmp_path: Path) -> None:
    flaky = FakeEngine(fails=lambda request_id, attempt: attempt == 1)
    todo = jobs()
    told: list[tuple[Any, ...]] = []
    run = go(tmp_path, todo, flaky, progress=lambda *a: told.append(a))
    assert rows(run) == rows(go(tmp_path / "undisturbed", todo, FakeEngine()))
    assert sum(e.n_infra_error for e in run.entries) == 0
    last = {t[:2]: t[2:4] for t in told}
    assert all(done == total for done, total in last.values())


def test_samples_of_a_failed_request_are_all_infra_errors(tmp_path: Path) -> None:
    todo = [job(FakeTask("dice", 2), decode=Decode(0.7, 0.9, 3))]
    run = go(tmp_path, todo, FakeEngine(fails=lambda request_id, attempt: True))
    assert [(r.sample, r.outcome) for r in rows(run)] == [(s, "infra_error") for s in (0, 1, 2)] * 2


def test_one_failed_sample_of_three_costs_that_sample(tmp_path: Path) -> None:
    class Partial(FakeEngine):
        def run(self, requests: Any) -> Any:
            for response in super().run(requests):
                first, *rest = response.generations
                yield dataclasses.replace(
                    response, generations=(dataclasses.replace(first, finish_reason="error"), *rest)
                )

    run = go(tmp_path, [job(FakeTask("dice", 2), decode=Decode(0.7, 0.9, 3))], Partial())
    assert [r.outcome == "infra_error" for r in rows(run)] == [True, False, False] * 2
    assert rows(run)[0].scores == {}
    assert run.entries[0].n_infra_error == 2


def test_a_dead_engine_keeps_what_it_said(tmp_path: Path) -> None:
    todo = jobs()
    dying = FakeEngine(die_after=9)
    with pytest.raises(EngineError, match="died"):
        go(tmp_path, todo, dying)
    assert dying.closed
    partly = open_run(tmp_path)
    assert partly.incomplete
    rest = FakeEngine()
    run = go(tmp_path, todo, rest)
    assert not set(rest.asked) & set(dying.asked)
    assert len(rest.asked) + 9 == len(plan(todo).requests)
    assert rows(run) == rows(go(tmp_path / "undisturbed", todo, FakeEngine()))


@pytest.mark.parametrize("fault", ["silent", "twice", "foreign", "short"])
def test_an_engine_that_breaks_the_contract_is_an_error(tmp_path: Path, fault: str) -> None:
    class Broken(FakeEngine):
        def run(self, requests: Any) -> Any:
            answers = [answer(r) for r in requests]
            match fault:
                case "silent":
                    answers.pop()
                case "twice":
                    answers.append(answers[0])
                case "foreign":
                    answers.append(Response("nobody asked this", answers[0].generations))
                case "short":
                    answers[0] = dataclasses.replace(answers[0], generations=answers[0].generations[:1])
            yield from answers

    with pytest.raises(EngineError, match="engine"):
        go(tmp_path, [job(FakeTask("dice", 2), decode=Decode(0.7, 0.9, 3))], Broken())


def test_a_plan_that_the_engine_cannot_serve_is_refused_before_anything_runs(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.capabilities = Capabilities(score=False, generate=True, token_stats=True)
    with pytest.raises(UsageError, match="score continuations"):
        go(tmp_path, jobs(), engine)
    assert engine.asked == []
    assert engine.closed


def test_a_fault_in_a_task_names_task_and_item_and_loses_nothing(tmp_path: Path) -> None:
    class Faulty(FakeTask):
        def score(self, item: Any, response: Any) -> Any:
            raise KeyError("gold")

    todo = [job(Faulty("add", 3))]
    with pytest.raises(ForgetbenchError, match=r"scoring of add:\w+#0 \(add.jsonl:1\) failed: KeyError"):
        go(tmp_path, todo, FakeEngine())
    assert len(rows(go(tmp_path, [job(FakeTask("add", 3))], None))) == 3


def test_two_jobs_that_cannot_be_told_apart_are_a_usage_error(tmp_path: Path) -> None:
    add = FakeTask("add", 3)
    with pytest.raises(UsageError, match="asked twice"):
        go(tmp_path, [job(add), job(add, num_fewshot=2)], FakeEngine(), the_plan=plan([job(add)]))


def test_ranked_items_in_a_sampled_job_are_greedy_rows(tmp_path: Path) -> None:
    run = go(tmp_path, [job(FakeTask("pick", 3, "rank"), decode=Decode(0.7, 1.0, 4))], FakeEngine())
    assert [(r.decode_id, r.sample) for r in rows(run)] == [("greedy", 0)] * 3
    # ... and are the same rows as in a greedy job.
    go(tmp_path, [job(FakeTask("pick", 3, "rank"))], None)


def test_a_checkpoint_without_template_has_its_chat_view_noted_and_not_run(tmp_path: Path) -> None:
    add = FakeTask("add", 3)
    run = go(tmp_path, [job(add), job(add, "chat")], FakeEngine(), model=checkpoint(template=False))
    assert {r.view for r in rows(run)} == {"ability"}
    assert "chat template" in run.notes[0]


def test_an_unwritable_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        go(tmp_path / "file" / "run", jobs(), FakeEngine())


def test_a_damaged_line_is_noted_and_asked_again(tmp_path: Path) -> None:
    todo = [job(FakeTask("add", 5))]
    run = go(tmp_path, todo, FakeEngine())
    before = rows(run)
    segment = next(tmp_path.rglob("*.jsonl"))
    lines = segment.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b"it is", b"it was")
    segment.write_bytes(b"\n".join(lines))
    for parquet in tmp_path.rglob("*.parquet"):
        parquet.write_bytes(b"damaged too")
    notes: list[str] = []
    engine = FakeEngine()
    assert rows(go(tmp_path, todo, engine, on_note=notes.append)) == before
    assert len(engine.asked) == 1
    assert len(notes) == 1
    assert f"{segment.name}:3: corrupt" in notes[0]


# --- interruption ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_flush_and_end_in_130(tmp_path: Path, how: signal.Signals) -> None:
    todo = jobs()
    seen: list[str] = []

    def interrupt(request_id: str) -> None:
        seen.append(request_id)
        if len(seen) == 8:
            os.kill(os.getpid(), how)

    # A job started in the background inherits an ignored SIGINT, which no handler of ours should override.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    stored: list[str] = []
    engine = FakeEngine(on_ask=interrupt)
    try:
        with pytest.raises(Interrupted, match=r"7 of \d+ answers are stored") as caught:
            go(tmp_path, todo, engine, on_stored=stored.append)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert caught.value.exit_code is Exit.INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is before
    assert engine.closed
    assert set(stored) == set(seen[:7])
    rest = FakeEngine()
    run = go(tmp_path, todo, rest)
    assert not set(stored) & set(rest.asked)
    assert rows(run) == rows(go(tmp_path / "undisturbed", todo, FakeEngine()))


def test_it_runs_in_a_thread_that_is_not_the_main_one(tmp_path: Path) -> None:
    done: list[Run] = []
    thread = threading.Thread(target=lambda: done.append(go(tmp_path, jobs(), FakeEngine())))
    thread.start()
    thread.join()
    assert rows(done[0])


# --- rescoring ------------------------------------------------------------------------------------------------


def test_rescoring_asks_nothing_and_keeps_the_old_records(tmp_path: Path) -> None:
    todo = jobs()
    run = go(tmp_path, todo, FakeEngine())
    before = rows(run)
    stricter = FakeTask("add", 12)
    stricter.bonus = 1.0
    new = rescore(run, [stricter], scorer_version="other")
    after = rows(new)
    for old, fresh in zip(before, after, strict=True):
        if old.task == "add":
            assert fresh.scores["exact"] == old.scores["exact"] + 1
            assert dataclasses.replace(fresh, scores=old.scores) == old
        else:
            assert fresh == old
    assert rows(run) == before  # the old files stand
    assert {e.scorer_version for e in open_run(tmp_path).entries} == {SCORER_VERSION, "other"}
    assert len(open_run(tmp_path).read_records()) == len(before)


def test_a_new_scorer_version_rescoring_needs_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = jobs()
    before = rows(go(tmp_path, todo, FakeEngine()))
    monkeypatch.setattr("forgetbench.scoring.SCORER_VERSION", "next")
    for j in todo:
        j.task.scored.clear()  # type: ignore[attr-defined]
    assert rows(go(tmp_path, todo, None)) == before
    assert todo[0].task.scored  # type: ignore[attr-defined]
    assert len(list(tmp_path.rglob("next-*.parquet"))) == 5


def test_rescoring_another_version_of_a_task_is_refused(tmp_path: Path) -> None:
    run = go(tmp_path, jobs(), FakeEngine())
    with pytest.raises(UsageError, match="version 2"):
        rescore(run, [FakeTask("add", 12, version="2")])
    with pytest.raises(UsageError, match="no longer among"):
        rescore(run, [FakeTask("add", 3)])


def test_identity_is_left_beside_the_responses(tmp_path: Path) -> None:
    run = go(tmp_path, jobs(), FakeEngine())
    for entry in run.entries:
        stored = json.loads((tmp_path / entry.folder / "identity.json").read_text())
        assert stored == json.loads(json.dumps(dataclasses.asdict(entry.identity)))


def test_without_its_manifest_a_run_is_made_anew_from_the_responses(tmp_path: Path) -> None:
    before = rows(go(tmp_path, jobs(), FakeEngine()))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match="damaged manifest"):
        go(tmp_path, jobs(), None)
    (tmp_path / "manifest.json").unlink()
    assert rows(go(tmp_path, jobs(), None)) == before
