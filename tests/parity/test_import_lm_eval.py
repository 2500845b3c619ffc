"""Files that lm-eval itself wrote, imported: its documents are our items, its prompts ours, its scores unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.runs.assemble import text_hash
from forgetbench.runs.importers.gather import Options, gather
from forgetbench.tasks.base import Task
from forgetbench.tasks.gsm8k import FLEXIBLE, STRICT, Gsm8k
from forgetbench.tasks.mmlu import Mmlu

pytestmark = [pytest.mark.parity, pytest.mark.realdata]

LIMIT = 4


@pytest.fixture(scope="module")
def written(lm_eval_manager: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """`--log_samples` of lm-eval's dummy model, which answers at random."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    folder = tmp_path_factory.mktemp("samples")
    tasks = ["gsm8k", "mmlu_anatomy", "mmlu_virology"]
    found = lm_eval.simple_evaluate(
        model="dummy", tasks=tasks, limit=LIMIT, log_samples=True, task_manager=lm_eval_manager, bootstrap_iters=0
    )
    assert found is not None
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.date_id = "2026-01-02T03-04-05.678901"
    tracker.general_config_tracker.model_name_sanitized = "dummy"
    for task in tasks:
        tracker.save_results_samples(task_name=task, samples=found["samples"][task])
    return sorted(folder.glob("**/samples_*.jsonl"))


def test_documents_prompts_and_scores(written: list[Path], gsm8k: Gsm8k, mmlu: Mmlu) -> None:
    known: dict[str, Task] = {"gsm8k": gsm8k, "mmlu": mmlu}
    assert len(written) == 3
    made, _ = gather(written, Options(models={"dummy": "dummy"}), known.get)
    by_task = {one.task: one for one in made["dummy"]}
    assert set(by_task) == {"gsm8k", "mmlu"}

    rows = [json.loads(line) for path in written for line in path.read_text(encoding="utf-8").splitlines()]
    sums = {r["doc"]["question"]: r for r in rows if r["filter"] == "flexible-extract"}
    strict = {r["doc"]["question"]: r for r in rows if r["filter"] == "strict-match"}
    items = {item.key: item for item in gsm8k.load()}
    ours = by_task["gsm8k"]
    assert (ours.metrics, ours.decode_id, len(ours.records)) == ((FLEXIBLE, STRICT), "greedy", LIMIT)
    assert not ours.notes
    for record in ours.records:
        item = items[record.key]
        spec = gsm8k.prompt(item, 5)
        prompt = "".join(s.question + " " + s.answer + "\n\n" for s in spec.shots) + spec.question
        assert record.prompt_text_hash == text_hash(prompt)
        assert record.scores[FLEXIBLE] == sums[item.doc["question"]]["exact_match"]
        assert record.scores[STRICT] == strict[item.doc["question"]]["exact_match"]
        assert (record.gold, record.gold_hash) == (item.gold, item.gold_hash)

    choices = {r["doc"]["question"]: r for r in rows if r["filter"] == "none"}
    subjects = {item.key: item for item in mmlu.load()}
    assert len(by_task["mmlu"].records) == len(choices)
    for record in by_task["mmlu"].records:
        item = subjects[record.key]
        assert record.scores["acc"] == choices[item.doc["question"]]["acc"]
        assert record.stratum == item.stratum
        assert record.extra["resps"]
