"""One side of the engine benchmark in a fresh process: run a workload, write what it took and what came out.

    python -m benchmarks.engines_side SPEC.json OUT.json

What is timed is the same on both sides: from loaded tasks and a loaded model to scored items (prompts rendered,
tokenised, run, scored). Loading is timed for itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.engines_world import Workload, write_lm_eval_tasks
from forgetbench.types import GREEDY, Generate, ItemKey, Plan, Prompt, Request, Response, Score

CHILD_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # Otherwise the first log-probability costs 16 s of compiling, on both sides.
    "TORCHDYNAMO_DISABLE": "1",
}


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    work = Workload(**{**spec["work"], "subjects": tuple(spec["work"]["subjects"])})
    if spec["engine"] == "transformers":
        import torch

        torch.set_num_threads(1)
    side = ours if spec["side"] == "ours" else theirs
    Path(sys.argv[2]).write_text(json.dumps(side(spec, work)), encoding="utf-8")
    return 0


def ours(spec: dict[str, Any], work: Workload) -> dict[str, Any]:
    """Plan, run, score with an engine of forgetbench."""
    from forgetbench.checkpoints import ModelSpec, resolve
    from forgetbench.engines.registry import make_engine
    from forgetbench.planning import TaskJob, build_plan
    from forgetbench.tasks.registry import get_task
    from forgetbench.tasks.source import DataSource

    begin = time.perf_counter()
    task = get_task(work.task, source=DataSource(data_dir=Path(spec["data"])))
    items = _chosen(list(task.load()), work)
    model = ModelSpec("model", spec["model"], dtype=spec["dtype"], engine=spec["engine"])
    point = resolve(model, cache_dir=Path(spec["work_dir"]))
    engine = make_engine(point, **spec["engine_args"])
    warm = Request("warm", point.digest, Prompt(text="Question: one"), Score((" A", " B")))
    warm_words = Request("words", point.digest, Prompt(text="Question: one"), Generate(2))
    list(engine.run([warm, warm_words]))  # loads the model
    before = engine.usage
    loaded = time.perf_counter()
    job = TaskJob(task, items, "ability", "raw", work.num_fewshot, max_tokens=work.max_tokens)
    plan = build_plan([job], point)
    answers = {a.request_id: a for a in engine.run(plan.requests)}
    judged = _judge(plan, answers, task, items)
    seconds = time.perf_counter() - loaded
    usage = {k: v - asdict(before)[k] for k, v in asdict(engine.usage).items()}
    tokens = _token_report(plan, point, spec)
    engine.close()
    failed = [a.error for a in answers.values() if a.error]
    if failed:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
    return {
        "load_seconds": loaded - begin,
        "seconds": seconds,
        "items": len(items),
        "scores": judged,
        "texts": {
            str(origin.item): [g.text for g in answers[i].generations]
            for i, origins in plan.origins.items()
            for origin in origins
        },
        "usage": usage,
        "tokens": tokens,
    }


def _chosen(items: list[Any], work: Workload) -> list[Any]:
    if not work.subjects:
        return items[: work.limit]
    return [i for s in work.subjects for i in [i for i in items if i.stratum == s][: work.limit]]


def _judge(plan: Plan, answers: dict[str, Response], task: Any, items: list[Any]) -> dict[str, dict[str, float]]:
    from forgetbench.tasks.gsm8k import ROBUST

    by_key: dict[ItemKey, Any] = {i.key: i for i in items}
    found: dict[str, dict[str, float]] = {}
    for request_id, origins in plan.origins.items():
        for origin in origins:
            assert origin.decode_id == GREEDY
            [judged] = task.score(by_key[origin.item], answers[request_id])
            found[str(origin.item)] = {m: v for m, v in judged.scores.items() if m != ROBUST}  # lm-eval has none
    return found


def _token_report(plan: Plan, point: Any, spec: dict[str, Any]) -> dict[str, int]:
    """Tokens that the plan's requests hold, and those of their trie (after the timing)."""
    from forgetbench.engines.encode import Encoder
    from forgetbench.planning.tokens import report

    found = report(plan.requests, Encoder(point.tokenizer()))
    block = int(spec["engine_args"].get("block_size") or 16)
    return {
        "requests": found.requests,
        "prompt": found.prompt_tokens,
        "trie": found.trie_tokens,
        "block": block,
        "block_trie": found.block_tokens(block),
    }


def theirs(spec: dict[str, Any], work: Workload) -> dict[str, Any]:
    """lm-eval's evaluate over its own model class."""
    for name in ("lm_eval", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    begin = time.perf_counter()
    folder = Path(spec["work_dir"]) / "lm_eval" / work.name
    names = write_lm_eval_tasks(folder, Path(spec["data"]), work)
    manager = TaskManager(include_defaults=False, include_path=str(folder))
    spans: list[tuple[float, float]] = []
    evaluate = evaluator.evaluate

    def timed(**arguments: Any) -> Any:
        start = time.perf_counter()
        found = evaluate(**arguments)
        spans.append((start, time.perf_counter()))
        return found

    evaluator.evaluate = timed  # what comes before it loads tasks and sets their options
    with contextlib.redirect_stderr(io.StringIO()):
        result = evaluator.simple_evaluate(
            model=_their_model(spec),
            tasks=names,
            num_fewshot=None if work.task == "truthfulqa" else work.num_fewshot,  # its six shots are in its prompt
            log_samples=True,
            bootstrap_iters=0,
            gen_kwargs=None if work.max_tokens is None else {"max_gen_toks": work.max_tokens},
            task_manager=manager,
        )
    [(start, end)] = spans
    scores, texts = _their_scores(result["samples"], work, Path(spec["data"]))
    return {
        "load_seconds": start - begin,
        "seconds": end - start,
        "items": len(scores),
        "scores": scores,
        "texts": texts,
    }


def _their_model(spec: dict[str, Any]) -> Any:
    common = {"pretrained": spec["model"], "dtype": spec["dtype"], "batch_size": spec["batch"]}
    if spec["engine"] == "transformers":
        from lm_eval.models.huggingface import HFLM

        return HFLM(device=spec["device"], **common)
    from lm_eval.models.vllm_causallms import VLLM

    return VLLM(**common, **{k: v for k, v in spec["engine_args"].items() if k != "dtype"})


def _their_scores(
    samples: dict[str, list[dict[str, Any]]], work: Workload, data: Path
) -> tuple[dict[str, dict[str, float]], dict[str, list[str]]]:
    """Scores and texts by our items' keys, under our metrics' names."""
    from forgetbench.tasks.gsm8k import FLEXIBLE, STRICT
    from forgetbench.tasks.registry import get_task
    from forgetbench.tasks.source import DataSource

    task = get_task(work.task, source=DataSource(data_dir=data))
    task.load()
    names = {"strict-match": STRICT, "flexible-extract": FLEXIBLE}
    scores: dict[str, dict[str, float]] = {}
    texts: dict[str, list[str]] = {}
    for name, rows in samples.items():
        for row in rows:
            key = str(task.canonical(row["doc"]))
            if work.task == "gsm8k":
                scores.setdefault(key, {})[names[row["filter"]]] = float(row["exact_match"])
                texts[key] = list(row["resps"][0])
            else:
                metric = "acc" if work.task == "mmlu" else name.removeprefix("truthfulqa_")
                scores.setdefault(key, {})[metric] = float(row["acc"])
    return scores, texts


if __name__ == "__main__":
    os.environ.update({k: v for k, v in CHILD_ENVIRONMENT.items() if k not in os.environ})
    raise SystemExit(main())
