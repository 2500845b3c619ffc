"""GSM8K against lm-eval: the same model for 50 items, raw and chat; and thousands of real outputs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forgetbench.tasks.gsm8k import FLEXIBLE, STRICT, Gsm8k
from forgetbench.types import Generate, Generation, Response, Style

from .both import run_lm_eval, run_ours
from .conftest import GSM8K_ITEMS

pytestmark = [pytest.mark.parity, pytest.mark.realdata]

FILTERS = {"strict-match": STRICT, "flexible-extract": FLEXIBLE}


@pytest.mark.slow
@pytest.mark.parametrize("style", ["raw", "chat"])
def test_fifty_items(gsm8k: Gsm8k, lm_eval_manager: Any, qwen_folder: Path, style: Style) -> None:
    items = gsm8k.load()[:GSM8K_ITEMS]
    ours = run_ours(gsm8k, items, style, qwen_folder, 5)
    [samples] = run_lm_eval(
        lm_eval_manager,
        ["gsm8k"],
        qwen_folder,
        style=style,
        num_fewshot=None,
        limit=GSM8K_ITEMS,
        batch_size=10,
    ).values()
    assert len(samples) == 2 * GSM8K_ITEMS  # one row per filter
    finished = set()
    for sample in samples:
        key = gsm8k.canonical(sample["doc"])
        assert key is not None
        mine = ours[key]
        [(prompt, settings)] = sample["arguments"]
        assert prompt == mine.prompt
        body = mine.request.body
        assert isinstance(body, Generate)
        assert (list(body.stop), body.temperature) == (settings["until"], 0.0)
        [generation] = mine.response.generations
        assert [[generation.text]] == sample["resps"]
        [judged] = mine.judged
        assert judged.scores[FILTERS[sample["filter"]]] == sample["exact_match"]
        if sample["filter"] == "flexible-extract":
            theirs = sample["filtered_resps"][0]
            assert judged.extracted == (theirs if any(c.isdigit() for c in theirs) else None)
        finished.add(generation.finish_reason)
    # Generations that reached a stop string and such that ran into the limit: both were compared.
    assert finished == {"stop", "length"}


@pytest.mark.parametrize("num_fewshot", [2, 5])
def test_the_draws_over_the_whole_split(gsm8k: Gsm8k, lm_eval_manager: Any, num_fewshot: int) -> None:
    """Every prompt of all 1,319 items, in lm-eval's order of drawing."""
    [task] = lm_eval_manager.load(["gsm8k"])["tasks"].values()
    task.set_fewshot_seed(1234)
    for item, doc in zip(gsm8k.load(), task.test_docs(), strict=True):
        theirs = task.fewshot_context(doc, num_fewshot)
        spec = gsm8k.prompt(item, num_fewshot)
        shots = "".join(s.question + spec.answer_delimiter + s.answer + spec.shot_delimiter for s in spec.shots)
        assert shots + spec.question == theirs


def published(data_dir: Path) -> Iterator[tuple[int, str]]:
    """(position in the test split, output) of five published systems and their JSON-writing cousins."""
    folder = data_dir / "published"
    positions = {}
    with open(data_dir / "gsm8k" / "test.jsonl", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            doc = json.loads(line)
            positions[doc["question"].strip()] = number
            yield number, " " + doc["answer"]
    for path in sorted(folder.glob("gsm8k_*/*.jsonl.gz")) + sorted(folder.glob("gsm8k_abel/gsm8k/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                if "ground_truth" in row:
                    number = positions[row["question"].strip()]
                    for system in (
                        "6b_finetuning",
                        "6b_verification",
                        "175b_finetuning",
                        "175b_verification",
                    ):
                        yield number, row[system]["solution"]
                        yield number, row[system]["solution"].replace("\nA: ", "\n#### ")
                else:
                    yield number, row["response"] if "response" in row else row["output"][0]


CRAFTED = [
    *(
        "",
        " ",
        "no number",
        "####",
        "#### ",
        "#### .",
        "#### ,",
        "..",
        "...",
        "$",
        "$$",
        "a. b, c.",
        "-",
        "--5",
    ),
    *("- 5", "-5", "#### -5", "#### 5.", "#### 5.0", "#### 1,000", "#### $1,000", "#### 1 000", "####5"),
    *("#### 5 #### 6", "5 #### x", "The answer is $18.", "18 dollars", "18.", "18,", "$18", "eighteen"),
    *("1.8.1.8", "18\n", "18\x00", "#### 18\x00", "\uff11\uff18", "\u0661\u0668", "1e3", "50%", "(18)"),
    *("**18**", "\\boxed{18}", "#### \n18", "#### 18 #### ", "x #### 18.\n"),
]


def test_scores_of_published_and_crafted_outputs(gsm8k: Gsm8k, lm_eval_manager: Any, data_dir: Path) -> None:
    """lm-eval's filters and process_results against our scoring, on the same texts."""
    from lm_eval.api.instance import Instance

    [task] = lm_eval_manager.load(["gsm8k"])["tasks"].values()
    items, docs = gsm8k.load(), list(task.test_docs())
    outputs = list(published(data_dir)) + [(0, text) for text in CRAFTED]
    instances = [
        Instance(request_type="generate_until", doc=docs[n], arguments=("", {}), idx=0, resps=[text])
        for n, text in outputs
    ]
    for ensemble in task._filters:
        ensemble.apply(instances)
    right = dict.fromkeys(FILTERS, 0)
    for (number, text), instance in zip(outputs, instances, strict=True):
        response = Response("r", generations=(Generation(text, (1,), "stop"),))
        [judged] = gsm8k.score(items[number], response)
        for name, metric in FILTERS.items():
            filtered = instance.filtered_resps[name]
            theirs = task.process_results(docs[number], [filtered])["exact_match"]
            assert judged.scores[metric] == theirs, (text, name)
            right[name] += int(theirs)
        theirs = instance.filtered_resps["flexible-extract"]
        assert judged.extracted == (theirs if any(c.isdigit() for c in theirs) else None)
    assert len(outputs) > 15_000
    # Both kinds of verdict must occur in numbers, or equality would prove little.
    assert all(3_000 < n < len(outputs) - 1_000 for n in right.values())
