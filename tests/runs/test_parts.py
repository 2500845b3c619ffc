"""Items of several questions: one record each, made of all their answers, by whatever road it is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from forgetbench.errors import ForgetbenchError
from forgetbench.execute import execute, rescore
from forgetbench.planning.plan import TaskJob
from forgetbench.runs.store import Run
from forgetbench.runs.units import build_units
from forgetbench.types import Decode, Item, Judged, PromptSpec, Record, Response
from tests.runs.fakes import IDENTITY, FakeEngine, FakeTask, answer, checkpoint, job, plan

pytestmark = pytest.mark.unit


class Filled(FakeTask):
    """Like WinoGrande: one question for each option, the continuation always the same."""

    def __init__(self, name: str = "filled", n: int = 6, second: str = "two", form: str = "rank") -> None:
        super().__init__(name, n, form)
        self.second = second

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        more = {"choices": (" end",)} if self.form == "rank" else {"max_tokens": 8}
        first, last = (
            PromptSpec(self.form, f"{item.doc['question']} {word}", **more)  # type: ignore[arg-type]
            for word in ("one", self.second)
        )
        return dataclasses.replace(first, also=(last,))

    def score(self, item: Item, response: Response) -> list[Judged]:
        if self.form == "rank":
            one, two = (s.logprob for s in response.scores)
            return [Judged({"acc": float(one > two)}, "ok", f"{one} {two}", None, "compared")]
        n = len(response.generations) // 2
        texts = [(response.generations[s].text, response.generations[n + s].text) for s in range(n)]
        return [Judged({"exact": float(a == b), "length": 0.0}, "ok", f"{a}|{b}", None, "") for a, b in texts]


def go(folder: Path, todo: list[TaskJob], engine: FakeEngine) -> Run:
    return execute(plan(todo), todo, checkpoint(), lambda: engine, folder, engine_identity=IDENTITY)


def rows(run: Run) -> list[Record]:
    return run.read_records()


def test_one_record_of_all_answers_in_their_order(tmp_path: Path) -> None:
    todo, engine = [job(Filled()), job(Filled(), "chat")], FakeEngine(seed=3)
    the_plan = plan(todo)
    run = go(tmp_path, todo, engine)
    records = rows(run)
    assert len(records) == 12
    assert len(engine.asked) == 24
    by_text = {(r.prompt.text or ""): r for r in the_plan.requests}
    for record, item in zip(records, [*todo[0].items, *todo[1].items], strict=True):
        before = "<user>" if record.view == "chat" else ""
        asked = [by_text[f"{before}{item.doc['question']} {word}"] for word in ("one", "two")]
        answers = [answer(r) for r in asked]
        assert record.request_id == "+".join(r.request_id for r in asked)
        assert record.output == " ".join(str(a.scores[0].logprob) for a in answers)
        assert record.extra["choice_logprobs"] == [a.scores[0].logprob for a in answers]
        assert record.n_prompt_tokens == sum(a.prompt_tokens for a in answers)
        assert record.prompt is not None
        for request in asked:
            assert request.prompt.text in record.prompt


def test_the_prompt_hash_is_of_all_questions(tmp_path: Path) -> None:
    """Two runs that were asked another second question must not be taken for the same prompts."""
    hashes = [
        [r.prompt_text_hash for r in rows(go(tmp_path / second, [job(Filled(second=second))], FakeEngine()))]
        for second in ("two", "three")
    ]
    assert not set(hashes[0]) & set(hashes[1])


def test_one_failed_question_fails_the_item_and_is_asked_again(tmp_path: Path) -> None:
    todo = [job(Filled())]
    bad = plan(todo).requests[3].request_id
    records = rows(go(tmp_path, todo, FakeEngine(fails=lambda request_id, attempt: request_id == bad)))
    [failed] = [r for r in records if r.outcome == "infra_error"]
    assert bad in (failed.request_id or "").split("+")
    assert "out of memory" in failed.why
    assert not failed.scores
    engine = FakeEngine()
    again = rows(go(tmp_path, todo, engine))
    assert engine.asked == [bad]
    assert {r.outcome for r in again} == {"ok"}


def test_scored_again_without_asking(tmp_path: Path) -> None:
    task = Filled()
    run = go(tmp_path, [job(task)], FakeEngine())
    before = rows(run)
    assert rows(rescore(run, [task], scorer_version="next")) == before


def test_samples_of_several_questions(tmp_path: Path) -> None:
    """Each sample has one answer to each question; the records keep the first question's evidence."""
    todo = [job(Filled(form="generate"), decode=Decode(temperature=0.8, top_p=0.9, n=3))]
    by_text = {r.prompt.text: answer(r) for r in plan(todo).requests}
    records = rows(go(tmp_path, todo, FakeEngine()))
    assert len(records) == 18
    for i, record in enumerate(records):
        question = todo[0].items[i // 3].doc["question"]
        one, two = (by_text[f"{question} {word}"].generations[record.sample].text for word in ("one", "two"))
        assert record.output == f"{one}|{two}"


def test_a_plan_that_lacks_a_question_is_refused() -> None:
    todo = [job(Filled(n=2))]
    whole = plan(todo)
    first = {r.request_id for r in whole.requests if (r.prompt.text or "").endswith("one")}
    part = dataclasses.replace(whole, requests=tuple(r for r in whole.requests if r.request_id not in first))
    with pytest.raises(ForgetbenchError, match=r"asks questions \[1\]"):
        build_units(part, todo, checkpoint(), IDENTITY)
