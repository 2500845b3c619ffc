"""The lm-eval bridge without a model: names, task types, metrics, errors in one line, suites. Docs are made up."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.config import SuiteTask
from forgetbench.engines.registry import make_engine
from forgetbench.errors import UsageError
from forgetbench.planning.deployment import bind
from forgetbench.planning.plan import TaskJob, build_plan
from forgetbench.tasks.base import in_style, warnings_of
from forgetbench.tasks.deployment import deploy
from forgetbench.tasks.lm_eval_bridge import LmEvalTask
from forgetbench.tasks.lm_eval_prompts import OWN_SHOTS
from forgetbench.tasks.questions import question_of
from forgetbench.tasks.registry import default_num_fewshot, get_task
from forgetbench.tasks.select import sample, select
from forgetbench.tasks.source import DataSource
from forgetbench.types import ContinuationScore, Generation, Response
from tests.engines import tiny
from tests.parity.bridged import own

pytestmark = pytest.mark.unit
CAPITALS: list[dict[str, Any]] = [
    {"question": "Capital of Arvenia?", "options": ["Tolmis", "Brask", "Tolmis-Ness"], "right": 0},
    {"question": "Capital of Bredland?", "options": ["Karst", "Yeld", "Omm"], "right": 2},
    {"question": "Capital of Arvenia?", "options": ["Tolmis", "Brask", "Tolmis-Ness"], "right": 1},
    {"question": "Capital of Corvo?", "options": ["Lint", "Parl", "Ister"], "right": 1},
]
CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}\nAnswer:",
    "doc_to_target": "{{right}}",
    "doc_to_choice": "{{options}}",
    "metric_list": [{"metric": "acc_norm"}, {"metric": "acc"}],
    "tag": ["places", "knowledge_of_places"],
}
WRITTEN: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}\nAnswer:",
    "doc_to_target": "{{options[right]}}",
    "generation_kwargs": {"until": "\n", "do_sample": True, "temperature": 0.8, "max_new_tokens": 7},
    "metric_list": [
        {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True},
        {"metric": "bleu"},
    ],
    "filter_list": [
        {"name": "strict-match", "filter": [{"function": "regex", "regex_pattern": "is (\\w+)\\."}, {"function": "take_first"}]},
        {"name": "whole", "filter": [{"function": "take_first"}]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def yamls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yamls")
    own(folder, "capitals", CAPITALS, **CHOICE)
    own(folder, "capitals: old", CAPITALS[:2], **{**CHOICE, "num_fewshot": 0})
    own(folder, "written", CAPITALS, **WRITTEN)
    own(folder, "code", CAPITALS, **{**WRITTEN, "unsafe_code": True})
    own(folder, "worse", CAPITALS, **{**WRITTEN, "metric_list": [{"metric": "ter"}]})
    for name, members in (
        ("both", ["capitals", "capitals: old"]),
        ("mixed", ["capitals", "written"]),
        ("codes", ["written", "code"]),
    ):
        (folder / f"_{name}.yaml").write_text(yaml.safe_dump({"group": name, "task": members}), encoding="utf-8")
    nested = {"group": "nested", "task": [{"group": "inner", "task": ["capitals"]}, "capitals: old"]}
    (folder / "_nested.yaml").write_text(yaml.safe_dump(nested), encoding="utf-8")
    return folder


def ranks(*logprobs: float) -> Response:
    return Response("r", scores=tuple(ContinuationScore(v, False, 1) for v in logprobs))


def writes(*texts: str, finish: Any = "stop") -> Response:
    return Response("r", generations=tuple(Generation(t, (1,), finish) for t in texts))


def test_items(yamls: Path) -> None:
    task = LmEvalTask("capitals", include=yamls)
    items = task.load()
    assert [i.source for i in items] == [f"lm_eval:capitals[{n}]" for n in range(4)]
    assert [i.key.occurrence for i in items] == [0, 0, 1, 0]  # the same question, another answer
    assert items[0].key.content_hash == items[2].key.content_hash
    assert items[0].gold_hash != items[2].gold_hash
    assert [i.gold for i in items] == ["Tolmis", "Omm", "Brask", "Parl"]
    assert {i.task_type for i in items} == {"capitals/capitals"}
    assert {i.stratum for i in items} == {None}
    assert {i.n_choices for i in items} == {3}
    assert question_of(task, items[1]).text == "Capital of Bredland?"


@pytest.mark.parametrize(("name", "given", "types"), [
    ("both", None, ["both/capitals", "both/capitals_old"]),
    ("both", "knowledge", ["knowledge/capitals", "knowledge/capitals_old"]),
    ("both", "knowledge/places", ["knowledge/places"]),
    ("nested", None, ["nested/capitals", "nested/capitals_old"]),
    ("places", None, ["places/capitals", "places/capitals_old"]),
    ("capitals: old", "geo", ["geo/capitals_old"]),
    ("written", None, ["written/written"]),
])  # fmt: skip
def test_task_types(yamls: Path, name: str, given: str | None, types: list[str]) -> None:
    items = LmEvalTask(name, include=yamls, task_type=given).load()
    assert sorted({i.task_type for i in items}) == types
    assert len({i.stratum for i in items}) == (2 if name in ("both", "nested", "places") else 1)


def test_a_group_is_limited_and_sampled_task_by_task(yamls: Path) -> None:
    items = LmEvalTask("both", include=yamls).load()
    assert [i.source for i in select(items, 1, per_stratum=True)] == ["lm_eval:capitals[0]", "lm_eval:capitals: old[0]"]
    drawn = sample(items, 3, 0)
    assert {i.stratum for i in drawn.items} == {"capitals", "capitals: old"}


def test_metrics(yamls: Path) -> None:
    task = LmEvalTask("capitals", include=yamls)
    assert (task.metrics, task.binary, task.warning) == (("acc", "acc_norm"), True, None)
    written = LmEvalTask("written", include=yamls)
    assert written.metrics == ("exact_match,strict-match", "exact_match,whole")
    [line] = warnings_of([written])
    assert "bleu left out" in line
    assert "asked greedily where lm-eval samples" in line
    worse = LmEvalTask("worse", include=yamls)
    assert (worse.metrics, worse.binary) == ((), False)  # lower is better, and of the whole set only
    with pytest.raises(UsageError, match="no metric in common"):
        LmEvalTask("mixed", include=yamls)


def test_why_an_option_was_chosen(yamls: Path) -> None:
    task = LmEvalTask("capitals", include=yamls)
    first = task.load()[0]
    [right] = task.score(first, ranks(-2, -3, -3))
    assert (right.scores, right.extracted) == ({"acc": 1.0, "acc_norm": 0.0}, "Tolmis")
    assert right.why == (
        "'Tolmis' is the most likely of 3 options and the answer; by acc_norm the choice is wrong."
    )  # fmt: skip
    [wrong] = task.score(first, ranks(-9, -3, -4))
    assert wrong.scores["acc"] == 0.0
    assert wrong.why.startswith("'Brask' is more likely than the answer 'Tolmis' by 6.00 nats")
    assert "Brask -3.0000" in wrong.output
    for broken in (ranks(-1, -2), ranks(-1, float("nan"), -2), Response("r", error="out of memory"), Response("r")):
        [judged] = task.score(first, broken)
        assert (judged.outcome, judged.scores) == ("infra_error", {})


def test_what_the_filters_took(yamls: Path) -> None:
    task = LmEvalTask("written", include=yamls)
    first = task.load()[0]
    [judged] = task.score(first, writes("It is Tolmis."))
    assert judged.scores == {"exact_match,strict-match": 1.0, "exact_match,whole": 0.0}
    assert (judged.outcome, judged.extracted, judged.output) == ("ok", "Tolmis", "It is Tolmis.")
    assert judged.why == (
        "The filter strict-match took 'Tolmis'; the reference is 'Tolmis'; exact_match,strict-match is 1."
    )  # fmt: skip
    [lost] = task.score(first, writes("Tolmis"))
    assert lost.scores == {"exact_match,strict-match": 0.0, "exact_match,whole": 1.0}
    assert (lost.outcome, lost.extracted) == ("unparsed", None)
    [cut] = task.score(first, writes("It is Brask. And", finish="length"))
    assert (cut.outcome, cut.extracted) == ("truncated", "Brask")
    several = task.score(first, writes("It is Tolmis.", "It is Brask."))
    assert [j.scores["exact_match,strict-match"] for j in several] == [1.0, 0.0]


def test_what_is_asked(yamls: Path) -> None:
    task = LmEvalTask("written", include=yamls)
    spec = task.prompt(task.load()[1], OWN_SHOTS)
    assert (spec.form, spec.stop, spec.max_tokens) == ("generate", ("\n",), 7)
    assert spec.question == "Capital of Bredland?\nAnswer:"
    shown = task.prompt(task.load()[1], 2)
    assert shown.question.count("Answer:") == 3
    assert shown.question.endswith(spec.question)
    old = LmEvalTask("capitals: old", include=yamls)
    assert old.prompt(old.load()[0], 1) == old.prompt(old.load()[0], OWN_SHOTS)  # a task that sets 0 keeps 0
    chat = in_style(task, "chat").prompt(task.load()[1], 1)
    assert [m.role for m in chat.messages or ()] == ["user", "assistant", "user"]
    with pytest.raises(UsageError, match=r"lm_eval:written\[0\]: lm-eval cannot make its prompt with 9 shots"):
        task.prompt(task.load()[1], 9)


def test_the_version_is_of_the_definition_not_of_the_place(tmp_path: Path) -> None:
    versions = []
    for place, changes in (("a", {}), ("b", {}), ("c", {"metric_list": [{"metric": "acc"}]})):
        folder = tmp_path / place
        folder.mkdir()
        own(folder, "capitals", CAPITALS, **{**CHOICE, **changes})
        versions.append(LmEvalTask("capitals", include=folder).version)
    assert versions[0] == versions[1] != versions[2]
    assert versions[0].startswith("0.4.13+")


def test_under_the_deployment_preset(yamls: Path, tmp_path: Path) -> None:
    task = deploy(LmEvalTask("written", include=yamls))
    [item, *_] = task.load()
    [judged] = task.score(item, writes("<think>is Brask.</think>It is Tolmis."))
    assert judged.scores["exact_match,strict-match"] == 1.0
    ranked = LmEvalTask("capitals", include=yamls)
    assert deploy(ranked) is ranked


def test_a_text_longer_than_the_context(tmp_path: Path) -> None:
    """Its likelihood is one question: what does not fit is named, and counts as nothing."""
    from forgetbench.checkpoints import ModelSpec, resolve

    own(
        tmp_path, "pages", [{"page": "a b c d"}, {"page": "x y " * 400}], output_type="loglikelihood_rolling",
        doc_to_text="", doc_to_target="{{page}}", metric_list=[{"metric": "bits_per_byte"}],
    )  # fmt: skip
    point = resolve(ModelSpec("tiny", path=str(tiny.save(tmp_path / "tiny")), dtype="float32"))
    task = LmEvalTask("pages", include=tmp_path)
    assert task.metrics == ("loglikelihood_per_byte",)
    job = TaskJob(bind(task, "chat", point, None), task.load(), "chat", "chat")
    plan = build_plan([job], point)
    engine = make_engine(point, device="cpu", threads=1)
    responses = {plan.origins[r.request_id][0].item: r for r in engine.run(plan.requests)}
    engine.close()
    short, long = task.load()
    [fits] = task.score(short, responses[short.key])
    assert fits.scores["loglikelihood_per_byte"] == pytest.approx(responses[short.key].scores[0].logprob / 7)
    [too_long] = task.score(long, responses[long.key])
    assert (too_long.outcome, too_long.scores) == ("infra_error", {})
    assert "exceeds the context of 512" in too_long.why


@pytest.mark.parametrize(("name", "problem"), [
    ("capital", "has no such task, group or tag; did you mean 'capitals'"),
    ("code", "'lm_eval:code': runs the model's programs in lm-eval's own process, without a sandbox; use humaneval"),
    ("codes", "without a sandbox; use humaneval"),
    ("nothing like it", "has no such task, group or tag; it has both, capitals"),
])  # fmt: skip
def test_names_that_cannot_be_asked(yamls: Path, name: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_task(f"lm_eval:{name}", source=DataSource(), include=yamls)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(tmp_path, "gone", CAPITALS, **CHOICE)
    (tmp_path / "gone.jsonl").unlink()
    own(tmp_path, "hub", CAPITALS, **{**CHOICE, "dataset_path": "nobody/nowhere", "dataset_kwargs": None})
    own(tmp_path, "misfit", CAPITALS, **{**CHOICE, "doc_to_choice": "{{opt"})
    own(tmp_path, "empty", CAPITALS, **{**CHOICE, "process_docs": "HERE"})
    file = tmp_path / "empty.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("HERE", "!function none.none"), encoding="utf-8")
    (tmp_path / "none.py").write_text("def none(docs):\n    return docs.select([])\n", encoding="utf-8")
    for name in ("gone", "hub", "misfit", "empty"):
        with pytest.raises(UsageError) as caught:
            LmEvalTask(name, include=tmp_path)
        assert str(caught.value).startswith(f"task 'lm_eval:{name}': ")
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="there is no folder"):
        LmEvalTask("gone", include=tmp_path / "none")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "forgetbench.tasks.lm_eval_load.find_spec", lambda name: None if name == "lm_eval" else found(name)
    )
    with pytest.raises(UsageError, match=r"lm-eval is not installed; install forgetbench\[lm-eval\]"):
        LmEvalTask("gone", include=tmp_path)


@pytest.mark.parametrize(("entry", "problem"), [
    ({"task": "lm_eval:"}, "use one of mmlu"),
    ({"task": "lm-eval:arc_easy"}, "use one of mmlu"),
    ({"task": "mmlu", "include": "x"}, "belongs to a task of lm-eval's"),
    ({"set": "x.jsonl", "task_type": "a/b"}, "belongs to a task of lm-eval's"),
    ({"task": "lm_eval:arc_easy", "task_type": "a/b/c"}, "one or two levels"),
    ({"task": "lm_eval:arc_easy", "scorer": "exact"}, "belongs to a `set`"),
    ({"task": "lm_eval:arc_easy", "version": "v1"}, "belongs to the task ifeval"),
])  # fmt: skip
def test_entries_that_a_suite_may_not_have(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SuiteTask.model_validate(entry)


def test_an_entry_of_a_suite() -> None:
    entry = SuiteTask.model_validate({"task": "lm_eval:leaderboard::bbh", "num_fewshot": 3})
    assert (entry.bridged, entry.key) == ("leaderboard::bbh", "leaderboard_bbh")
    assert SuiteTask(task="mmlu").bridged is None
    assert default_num_fewshot("lm_eval:arc_easy", "raw") == OWN_SHOTS
