"""TruthfulQA against lm-eval: 50 items of each of its three tasks, raw and chat; and published answers."""

from __future__ import annotations

import csv
import functools
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.tasks.source import DataSource
from forgetbench.tasks.truthfulqa import TruthfulQa, TruthfulQaGen
from forgetbench.types import ContinuationScore, Generate, Generation, Response, Style

from .both import run_lm_eval, run_ours
from .oracle import include

pytestmark = [pytest.mark.parity, pytest.mark.realdata]

ITEMS = 50
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def choices(data_dir: Path) -> TruthfulQa:
    return TruthfulQa(DataSource(data_dir=data_dir))


@pytest.fixture(scope="module")
def answers(data_dir: Path) -> TruthfulQaGen:
    return TruthfulQaGen(DataSource(data_dir=data_dir))


@pytest.fixture(scope="module")
def manager(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """lm-eval's three tasks over the original files, converted as the hub's copy was made of them."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    registered = Path(lm_eval.__file__).parent / "tasks" / "truthfulqa"
    folder = tmp_path_factory.mktemp("lm_eval_truthfulqa")
    original = data_dir / "truthfulqa" / "v1"
    ranked = [
        {
            "question": row["question"],
            **{t: {"choices": [*row[t]], "labels": [*row[t].values()]} for t in ("mc1_targets", "mc2_targets")},
        }
        for row in json.loads((original / "mc_task.json").read_text(encoding="utf-8"))
    ]
    with open(original / "TruthfulQA.csv", encoding="utf-8-sig", newline="") as file:
        written = [
            {
                "question": row["Question"],
                "correct_answers": [a.strip() for a in row["Correct Answers"].strip().split(";")],
                "incorrect_answers": [a.strip() for a in row["Incorrect Answers"].strip().split(";")],
            }
            for row in csv.DictReader(file)
        ]
    for name, docs in (("mc1", ranked), ("mc2", ranked), ("gen", written)):
        include(folder, f"truthfulqa_{name}", registered / f"truthfulqa_{name}.yaml", {"validation": docs})
    return TaskManager(include_defaults=False, include_path=str(folder))


def check(choices: TruthfulQa, manager: Any, folder: Path, style: Style, n: int) -> set[float]:
    """One request of ours against two of theirs; returns the values of mc1 that occurred."""
    ours = run_ours(choices, choices.load()[:n], style, folder, 0)
    theirs = run_lm_eval(
        manager,
        ["truthfulqa_mc1", "truthfulqa_mc2"],
        folder,
        style=style,
        num_fewshot=None,
        limit=n,
        batch_size=4,
    )
    for name, metric in (("truthfulqa_mc1", "mc1"), ("truthfulqa_mc2", "mc2")):
        assert len(theirs[name]) == n
        for sample in theirs[name]:
            key = choices.canonical(sample["doc"])
            assert key is not None
            mine = ours[key]
            scores = dict(zip(mine.continuations, mine.response.scores, strict=True))
            for (prompt, continuation), (logprob, greedy) in zip(
                sample["arguments"], sample["filtered_resps"], strict=True
            ):
                assert prompt == mine.prompt
                assert scores[continuation].logprob == pytest.approx(float(logprob), abs=TOLERANCE)
                assert str(scores[continuation].is_greedy) == str(greedy)
            [judged] = mine.judged
            assert judged.scores[metric] == pytest.approx(sample["acc"], abs=TOLERANCE)
    return {s["acc"] for s in theirs["truthfulqa_mc1"]}


@pytest.mark.slow
@pytest.mark.parametrize("style", ["raw", "chat"])
def test_fifty_items_ranked(choices: TruthfulQa, manager: Any, qwen_folder: Path, style: Style) -> None:
    assert check(choices, manager, qwen_folder, style, ITEMS) == {0.0, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("style", ["raw", "chat"])
def test_a_tokenizer_that_adds_bos(choices: TruthfulQa, manager: Any, llama_folder: Path, style: Style) -> None:
    check(choices, manager, llama_folder, style, 10)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["raw", "chat"])
def test_fifty_items_generated(
    answers: TruthfulQaGen, manager: Any, qwen_folder: Path, style: Style, few_draws: None
) -> None:
    ours = run_ours(answers, answers.load()[:ITEMS], style, qwen_folder, 0)
    [samples] = run_lm_eval(
        manager, ["truthfulqa_gen"], qwen_folder, style=style, num_fewshot=None, limit=ITEMS, batch_size=10
    ).values()
    assert len(samples) == ITEMS
    for sample in samples:
        key = answers.canonical(sample["doc"])
        assert key is not None
        mine = ours[key]
        [(prompt, settings)] = sample["arguments"]
        assert prompt == mine.prompt
        body = mine.request.body
        assert isinstance(body, Generate)
        assert (list(body.stop), body.max_tokens) == (settings["until"], 256)
        [generation] = mine.response.generations
        assert [[generation.text]] == sample["resps"]
        equal_scores(mine.judged[0].scores, sample)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval bootstraps a single value, 1,000 draws of it: two draws give the same (see below) and save minutes."""
    from rouge_score import scoring

    monkeypatch.setattr(scoring, "BootstrapAggregator", functools.partial(scoring.BootstrapAggregator, n_samples=2))


def test_scores_with_all_of_its_draws(answers: TruthfulQaGen) -> None:
    from lm_eval.tasks.truthfulqa import utils

    for item, text in zip(answers.load()[:3], ("\nA: Nothing happens.", "The seeds grow.", "nothing"), strict=True):
        [judged] = answers.score(item, Response("r", generations=(Generation(text, (1,), "stop"),)))
        equal_scores(judged.scores, utils.process_results_gen(dict(item.doc), [text]))


def equal_scores(mine: Any, theirs: Any) -> None:
    """lm-eval's figures from 0 to 100, ours from 0 to 1; all twelve."""
    assert len(mine) == 12
    for name, value in mine.items():
        scale = 1 if name.endswith("_acc") else 100
        assert scale * value == pytest.approx(float(theirs[name]), abs=1e-9), name


def test_every_prompt(choices: TruthfulQa, answers: TruthfulQaGen, manager: Any) -> None:
    """All 817 prompts, continuations and references."""
    loaded = manager.load(["truthfulqa_mc1", "truthfulqa_mc2", "truthfulqa_gen"])["tasks"]
    assert len(choices.load()) == len(answers.load()) == 817
    by_key = {i.key: i for i in (*choices.load(), *answers.load())}
    for name, task in loaded.items():
        ours = answers if name == "truthfulqa_gen" else choices
        docs = list(task.validation_docs())
        assert len(docs) == 817
        for doc in docs:
            key = ours.canonical(doc)
            assert key is not None
            spec = ours.prompt(by_key[key], 0)
            assert spec.question == task.doc_to_text(doc)
            if name == "truthfulqa_gen":
                for field in ("correct_answers", "incorrect_answers"):
                    assert doc[field] == by_key[key].doc[field]
            else:
                assert set(task.doc_to_choice(doc)) <= set(spec.choices)
                if name == "truthfulqa_mc2":
                    assert tuple(task.doc_to_choice(doc)) == spec.choices


@pytest.mark.slow
def test_scores_of_published_answers(answers: TruthfulQaGen, data_dir: Path, few_draws: None) -> None:
    """GPT-3's answers (ada and davinci) and crafted ones through lm-eval's process_results."""
    from lm_eval.tasks.truthfulqa import utils

    items = {i.doc["question"]: i for i in answers.load()}
    outputs = [(next(iter(items)), text) for text in ("", " ", "\nA:", "I have no comment.", "A . B . C", "是的。")]
    for system in ("ada", "davinci"):
        with gzip.open(data_dir / "published" / "truthfulqa_gpt3" / f"{system}.jsonl.gz", "rt", encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        # A few of its questions are worded as in the release before.
        known = [(row["question"].strip(), row["model_answer"]) for row in rows if row["question"].strip() in items]
        assert len(known) > 780
        outputs += known[::2]
    right = 0
    for question, text in outputs:
        item = items[question]
        [judged] = answers.score(item, Response("r", generations=(Generation(text, (1,), "stop"),)))
        equal_scores(judged.scores, utils.process_results_gen(dict(item.doc), [text]))
        right += judged.scores["bleu_acc"] == 1.0
    assert len(outputs) > 800
    assert 200 < right < len(outputs) - 200


def test_probabilities_too_small_to_exponentiate_are_lost_there_and_kept_here(choices: TruthfulQa) -> None:
    from lm_eval.tasks.truthfulqa import utils

    item = choices.load()[0]
    logprobs = [-1000.0 - i for i in range(len(item.doc["choices"]))]
    theirs = utils.process_results_mc2(item.doc, [(v, False) for v in logprobs])["acc"]
    [judged] = choices.score(item, Response("r", scores=tuple(ContinuationScore(v, False, 1) for v in logprobs)))
    assert str(theirs) == "nan"
    higher = [v + 900 for v in logprobs]
    assert judged.scores["mc2"] == pytest.approx(
        utils.process_results_mc2(item.doc, [(v, False) for v in higher])["acc"], abs=1e-12
    )
