"""Reference answers as continuations: which they are, what both are asked, and the sum against a plain model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from forgetbench.behaviour.references import MOST_REFERENCES, Along, Referred, references_of, referred, scores_of
from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.errors import UsageError
from forgetbench.planning.plan import TaskJob
from forgetbench.rounds import Side
from forgetbench.tasks.custom import CustomSet, RawFormat, SetSpec
from forgetbench.tasks.gsm8k import Gsm8k
from forgetbench.tasks.source import DataSource
from forgetbench.types import ContinuationScore, Prompt, Record, Request, Response, Score
from tests.engines import tiny

pytestmark = pytest.mark.unit

N = 24
HUGE = 10**9


def custom(folder: Path, lines: Sequence[dict[str, Any]], **spec: Any) -> CustomSet:
    file = folder / "towns.jsonl"
    file.write_text("".join(json.dumps({"task_type": "a/b", **line}) + "\n" for line in lines), encoding="utf-8")
    return CustomSet(SetSpec(name="towns", path=file, stop=("\n",), **spec))


def towns(folder: Path, n: int = N) -> CustomSet:
    return custom(folder, [{"prompt": f"Capital of {i}?", "references": [f"Town {i}", f"City {i}"]} for i in range(n)])


def record(task: CustomSet, number: int, view: str, *, output: str = "", correct: float = 1.0) -> Record:
    item = task.load()[number]
    return Record(
        task=task.name,
        content_hash=item.key.content_hash,
        occurrence=0,
        task_type="a/b",
        view=view,  # type: ignore[arg-type]
        style=None,
        decode_id="greedy",
        sample=0,
        replicate=0,
        outcome="ok",
        scores={"correct": correct},
        output=output,
        extracted=None,
        gold="",
        why="",
        gold_hash="",
        n_prompt_tokens=10,
    )


def side(point: Any, task: CustomSet, views: Sequence[str] = ("ability",), **records: Any) -> Side:
    styles = {"ability": "raw", "chat": "chat"}
    jobs = [TaskJob(task, task.load(), v, styles[v]) for v in views]  # type: ignore[arg-type]
    identity = [SimpleNamespace(task=task.name, view=v) for v in views]
    run = SimpleNamespace(
        entries=[SimpleNamespace(identity=i, state="complete") for i in identity],
        read_records=lambda _, view: [record(task, n, view, **records) for n in range(len(task.load()))],
    )
    return Side(point, cast("Any", run), jobs)


def point(digest: str, **more: Any) -> Any:
    return SimpleNamespace(
        digest=digest,
        spec=SimpleNamespace(engine="transformers"),
        has_chat_template=False,
        sends_messages=False,
        **more,
    )


def test_which_references_are_short_answers(tmp_path: Path) -> None:
    many = [f"{chr(97 + i)}x" for i in range(12)]
    lines = [
        {"prompt": "1", "references": ["Lima", "Lima, Peru", "Lima", " City of Kings "]},
        {"prompt": "2", "references": "one " * 9},
        {"prompt": "3", "references": ["two\nlines", "one"]},
        {"prompt": "4", "references": "Li.a", "scorer": "regex"},
        {"prompt": "5", "references": many},
        {"prompt": "6", "references": "1,234", "scorer": "numeric"},
    ]
    task = custom(tmp_path, lines)
    found = [references_of(task, item) for item in task.load()]
    assert found == [("Lima", "City of Kings"), (), ("one",), (), tuple(many[:MOST_REFERENCES]), ("1,234",)]


def test_what_the_task_itself_would_not_take_is_no_answer(tmp_path: Path) -> None:
    """With `extract` an answer is right only in its format, which a bare reference does not have."""
    task = custom(tmp_path, [{"prompt": "1", "references": ["Lima", "answer: Lima"]}], extract="answer: (.*)")
    assert references_of(task, task.load()[0]) == ("answer: Lima",)
    regexes = custom(tmp_path, [{"prompt": "1", "references": "Lima"}], scorer="regex")
    assert references_of(regexes, regexes.load()[0]) == ()


def test_gsm8ks_answer_has_the_form_of_its_worked_examples(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    for split in ("test", "train"):
        line = json.dumps({"question": "How many?", "answer": "It is 7 * 2.\n#### 14"})
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text(line + "\n", encoding="utf-8")
    task = Gsm8k(DataSource(data_dir=tmp_path))
    assert references_of(task, task.load()[0]) == ("#### 14",)


def test_each_is_asked_its_own_prompt_with_the_same_answers(tmp_path: Path) -> None:
    task = towns(tmp_path)
    chat = {"has_chat_template": True, "render_chat": None}
    sides = []
    for name in ("base", "sft"):
        p = point(name)
        p.__dict__.update(chat, render_chat=lambda messages, _prefill="", n=name: f"<{n}>{messages[0].content}<bot>")
        sides.append(side(p, task, ("ability", "chat"), output="\n Town"))
    asked = referred(*sides, HUGE, [])
    assert len(asked) == 2 * N
    for one in asked:
        first, second = (r.body for r in one.requests)
        assert isinstance(first, Score)
        assert first == second
        number = one.item.gold.removeprefix("Town ").split(" |")[0]
        if one.view == "ability":
            assert first.continuations == (f" Town {number}", f" City {number}")
            assert one.requests[0].prompt == one.requests[1].prompt == Prompt(text=f"Q: Capital of {number}?\nA:")
        else:
            assert set(first.continuations) == {
                lead + f"{kind} {number}" for lead in ("", " ", "\n ") for kind in ("Town", "City")
            }
            assert [r.prompt.text for r in one.requests] == [f"<{n}>Capital of {number}?<bot>" for n in ("base", "sft")]


def test_the_budget_holds_and_the_choice_is_the_same_again(tmp_path: Path) -> None:
    task = towns(tmp_path)
    sides = [side(point(n), task) for n in ("base", "sft")]
    everything = referred(*sides, HUGE, [])
    budget = sum(a.cost for a in everything) // 2
    some = referred(*sides, budget, [])
    assert 10 <= len(some) < N
    assert sum(a.cost for a in some) <= budget
    assert all(a.cost > 2 * 10 for a in some)  # both prompts, and the answers
    assert [a.item.key for a in referred(*sides, budget, [])] == [a.item.key for a in some]
    assert len(referred(*sides, HUGE, [], most=15)) == 15
    assert referred(*sides, 0, []) == []


def plain_logprob(checkpoint: Checkpoint, prompt: str, answers: Sequence[str]) -> float:
    """log of the summed probability with transformers alone, text by text."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder).eval()
    tokenizer = checkpoint.tokenizer()
    head = tokenizer(prompt)["input_ids"]
    total = 0.0
    for answer in answers:
        ids = tokenizer(prompt + answer)["input_ids"]
        assert ids[: len(head)] == head
        with torch.inference_mode():
            logs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        total += math.exp(sum(float(logs[i - 1, ids[i]]) for i in range(len(head), len(ids))))
    return math.log(total)


def test_the_sum_over_references_against_a_plain_model(tmp_path: Path) -> None:
    from forgetbench.engines.transformers_engine import TransformersEngine

    task = towns(tmp_path, 12)
    points = [
        resolve(ModelSpec(n, str(tiny.save(tmp_path / n, chat=False, seed=s))), cache_dir=tmp_path / "cache")
        for s, n in enumerate(("base", "sft"))
    ]

    def ask(name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        assert name == "references-scored"
        found: dict[str, Response] = {}
        for p in points:
            mine = [r for r in requests if r.checkpoint == p.digest]
            found |= {r.request_id: r for r in TransformersEngine(p, dtype="float32").run(mine)}
        return found

    sides = [side(p, task, correct=float(n == 0)) for n, p in enumerate(points)]
    asked = referred(sides[0], sides[1], HUGE, [])
    notes: list[str] = []
    ((view, tasks, scores),) = scores_of(asked, Along(ask, asked).answers(), notes)
    assert (view, tasks, notes) == ("ability", ("towns",), [])
    for values, checkpoint in ((scores.base, points[0]), (scores.candidate, points[1])):
        for one, value in zip(asked, values, strict=True):
            number = one.item.gold.removeprefix("Town ").split(" |")[0]
            text = f"Q: Capital of {number}?\nA:"
            expected = plain_logprob(checkpoint, text, [f" Town {number}", f" City {number}"])
            assert value == pytest.approx(expected, abs=1e-4)
    assert not scores.both_right.any()
    assert (scores.base_tokens >= 2).all()


def scored(values: Mapping[str, Sequence[float]]) -> Any:
    """An asker that gives every checkpoint its own log-probabilities; none: an error."""

    def ask(_: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        made = {}
        for r in requests:
            scores = tuple(ContinuationScore(v, False, 2) for v in values[r.checkpoint])
            made[r.request_id] = Response(r.request_id, scores=scores, error=None if scores else "no")
        return made

    return ask


def asked_of(folder: Path, n: int = N) -> list[Referred]:
    task = towns(folder, n)
    return referred(side(point("base"), task), side(point("sft"), task), HUGE, [])


def test_references_add_up(tmp_path: Path) -> None:
    ask = scored({"base": [math.log(0.2), math.log(0.3)], "sft": [-np.inf, math.log(0.1)]})
    asked = asked_of(tmp_path)
    ((_, _, scores),) = scores_of(asked, Along(ask, asked).answers(), [])
    assert np.exp(scores.base) == pytest.approx(np.full(N, 0.5))
    assert np.exp(scores.candidate) == pytest.approx(np.full(N, 0.1))


@pytest.mark.parametrize("values", [(), (-np.inf, -np.inf), (np.nan, -1.0)])
def test_what_could_not_be_scored_is_said(tmp_path: Path, values: tuple[float, ...]) -> None:
    notes: list[str] = []
    asked = asked_of(tmp_path)
    answers = Along(scored({"base": [-1.0, -2.0], "sft": values}), asked).answers()
    assert scores_of(asked, answers, notes) == []
    assert notes == [f"the references of {N} of {N} items could not be scored"]


def test_few_items_are_said_to_be_few_and_not_asked(tmp_path: Path) -> None:
    task = towns(tmp_path, 9)
    notes: list[str] = []
    assert referred(side(point("base"), task), side(point("sft"), task), HUGE, notes) == []
    assert notes == ["references are not compared (ability): 9 items in the share of tokens, 10 are wanted"]
    assert Along(scored({}), []).answers() == {}
    assert scores_of([], {}, []) == []


def test_few_answers_are_said_to_be_few(tmp_path: Path) -> None:
    notes: list[str] = []
    ask = scored({"base": [-1.0, -2.0], "sft": [-1.0, -2.0]})
    few = asked_of(tmp_path)[:4]
    assert scores_of(few, Along(ask, few).answers(), notes) == []
    assert notes == ["references are not compared (ability): 4 items in the share of tokens, 10 are wanted"]


def test_an_engine_that_cannot_score_is_heard(tmp_path: Path) -> None:
    def ask(_: str, __: Sequence[Request]) -> Mapping[str, Response]:
        raise UsageError("engine", "cannot score continuations", "choose another engine")

    with pytest.raises(UsageError, match="cannot score"):
        Along(ask, asked_of(tmp_path)).answers()


def test_they_go_along_with_a_round_of_their_checkpoint(tmp_path: Path) -> None:
    answer = scored({"base": [-1.0, -2.0], "sft": [-1.0, -2.0]})
    calls: list[tuple[str, int]] = []

    def ask(name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        calls.append((name, len(requests)))
        return answer(name, requests)

    asked = asked_of(tmp_path)
    own = Request("other", "base", Prompt(text="x"), asked[0].requests[0].body)
    along = Along(ask, asked)
    assert "other" in along("reads", [own])
    assert "other" in along("reads", [own])  # nothing goes along twice
    assert len(along.answers()) == 2 * N
    assert calls == [("reads", 1 + N), ("reads", 1), ("references-scored", N)]


def test_a_chat_that_the_server_renders_cannot_be_scored(tmp_path: Path) -> None:
    task = towns(tmp_path)
    sides = []
    for name in ("base", "sft"):
        p = point(name)
        p.__dict__.update(has_chat_template=True, sends_messages=True, alias=name)
        sides.append(side(p, task, ("chat",)))
    notes: list[str] = []
    assert referred(sides[0], sides[1], HUGE, notes) == []
    reason = "a server that renders the chat scores no answers in it"
    assert notes == [f"references are not scored: {reason} ({N} items)"]


def test_of_a_set_that_ranks_and_generates_only_the_generated_count(tmp_path: Path) -> None:
    ranked = [{"prompt": f"{i}?", "choices": ["a", "b"], "answer": "a", "scorer": "choice"} for i in range(N)]
    task = custom(tmp_path, [*ranked, *({"prompt": f"{i}!", "references": ["a"]} for i in range(N))])
    asked = referred(side(point("base"), task), side(point("sft"), task), HUGE, [])
    assert sorted(a.item.source for a in asked) == sorted(f"towns.jsonl:{N + 1 + i}" for i in range(N))


def test_items_that_are_ranked_have_no_reference(tmp_path: Path) -> None:
    lines = [{"prompt": f"{i}?", "choices": ["a", "b"], "answer": "a"} for i in range(N)]
    task = custom(tmp_path, lines, scorer="choice", raw=RawFormat())
    assert referred(side(point("base"), task), side(point("sft"), task), HUGE, []) == []
