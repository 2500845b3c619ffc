"""lm-eval's tasks through our bridge, plan and engine, and through lm-eval itself: the same items, side by side."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.checkpoints.resolve import resolve
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.engines.registry import make_engine
from forgetbench.planning.plan import TaskJob, build_plan
from forgetbench.runs.assemble import join_responses
from forgetbench.runs.units import build_units
from forgetbench.tasks.base import in_style
from forgetbench.tasks.lm_eval_bridge import LmEvalTask
from forgetbench.tasks.lm_eval_prompts import OWN_SHOTS
from forgetbench.tasks.select import select
from forgetbench.types import ContinuationScore, Generate, Generation, Judged, Request, Response, Style

from .both import run_lm_eval
from .oracle import include

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Answered:
    requests: tuple[Request, ...]
    responses: tuple[Response, ...]
    judged: Judged

    @property
    def arguments(self) -> list[tuple[Any, ...]]:
        """As lm-eval logs them, one for each continuation or text."""
        found: list[tuple[Any, ...]] = []
        for r in self.requests:
            if isinstance(r.body, Generate):
                found.append((r.prompt.text, r.body.stop, r.body.max_tokens))
            else:
                found += [(r.prompt.text, c) for c in r.body.continuations]
        return found

    @property
    def values(self) -> list[Any]:
        found: list[Any] = []
        for r in self.responses:
            found += [g.text for g in r.generations] or [(s.logprob, s.is_greedy) for s in r.scores]
        return found


def run_bridged(
    task: LmEvalTask,
    folder: Path,
    style: Style,
    limit: int,
    num_fewshot: int = OWN_SHOTS,
    max_tokens: int | None = None,
) -> dict[str, Answered]:
    """By the items' source, `lm_eval:<task>[<position>]`."""
    checkpoint = resolve(ModelSpec(alias="tiny", path=str(folder), dtype="float32"))
    items = select(task.load(), limit, per_stratum=True)
    view = "ability" if style == "raw" else "chat"
    job = TaskJob(in_style(task, style), items, view, style, num_fewshot, max_tokens=max_tokens)
    plan = build_plan([job], checkpoint)
    assert not plan.skipped
    engine = make_engine(checkpoint, device="cpu", threads=1)
    responses = {r.request_id: r for r in engine.run(plan.requests)}
    engine.close()
    [unit] = build_units(plan, [job], checkpoint, {})
    found = {}
    for asked in unit.asked:
        mine = tuple(responses[r.request_id] for r in asked.requests)
        [judged] = task.score(asked.item, join_responses(mine))
        found[asked.item.source] = Answered(asked.requests, mine, judged)
    return found


def check(
    task: LmEvalTask,
    manager: Any,
    name: str,
    folder: Path,
    style: Style,
    limit: int,
    *,
    num_fewshot: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, Answered]:
    """Prompts and continuations byte-equal, log-probabilities within 1e-4, texts and every kept metric equal."""
    mine = run_bridged(task, folder, style, limit, OWN_SHOTS if num_fewshot is None else num_fewshot, max_tokens)
    theirs = run_lm_eval(
        manager,
        [name],
        folder,
        style=style,
        num_fewshot=num_fewshot,
        limit=limit,
        batch_size=4,
        max_tokens=max_tokens,
    )
    rows = [(f"lm_eval:{leaf}[{s['doc_id']}]", s) for leaf, samples in theirs.items() for s in samples]
    assert {source for source, _ in rows} == set(mine)
    compared: set[str] = set()
    for source, sample in rows:
        one = mine[source]
        assert len(one.arguments) == len(sample["arguments"])
        for ours, its in zip(one.arguments, sample["arguments"], strict=True):
            if isinstance(its[-1], dict):
                until = its[1]["until"]
                limit_ = its[1].get("max_gen_toks", 256)
                assert ours == (its[0], tuple([until] if isinstance(until, str) else until), limit_)
            else:
                assert ours == (tuple(its) if len(its) == 2 else ("", its[0]))
        for value, resps in zip(one.values, sample["resps"], strict=True):
            [their] = resps
            if isinstance(value, str):
                assert value == their
                continue
            logprob, greedy = their if isinstance(their, list | tuple) else (their, value[1])
            assert value[0] == pytest.approx(float(logprob), abs=TOLERANCE)
            assert str(value[1]) == str(greedy)
        assert one.judged.outcome != "infra_error"
        for metric, expected in metric_values(task, sample).items():
            assert one.judged.scores[metric] == pytest.approx(expected, abs=TOLERANCE)
            compared.add(metric)
    assert compared == set(task.metrics)
    return mine


def metric_values(task: LmEvalTask, sample: dict[str, Any]) -> dict[str, float]:
    """What lm-eval noted for an item under one filter, by our metrics' names."""
    found = {}
    for metric in task._metrics.kept:
        if metric.filter == sample["filter"]:
            value = sample[metric.key]
            found[metric.name] = float(value[0] / value[1] if metric.per_byte else value)
    return found


def rows_of(path: Path, n: int) -> list[dict[str, Any]]:
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").split("\n")
    return [json.loads(line) for line in lines[:n]]


def own(folder: Path, name: str, docs: Sequence[dict[str, Any]], **entry: Any) -> None:
    """A task of the user's own, in lm-eval's form."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(d) + "\n" for d in docs), encoding="utf-8")
    written = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        **entry,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")


def own_sums(folder: Path, count: int, *, num_fewshot: int, max_gen_toks: int) -> None:
    """Such a task, `sums`: its answers are generated, up to the end of a line."""
    docs = [{"q": f"{n} + 1", "a": f"{n + 1}"} for n in range(count)]
    own(
        folder, "sums", docs, output_type="generate_until", doc_to_text="{{q}} =", doc_to_target="{{a}}",
        generation_kwargs={"until": ["\n"], "max_gen_toks": max_gen_toks}, num_fewshot=num_fewshot,
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )  # fmt: skip


def write_tasks(folder: Path, data_dir: Path) -> None:
    """ARC, HellaSwag, BBH and WinoGrande as lm-eval defines them, over our files; and small ones of other kinds."""
    import lm_eval

    registered = Path(lm_eval.__file__).parent / "tasks"
    arc = {
        "train": rows_of(data_dir / "arc" / "ARC-Easy-train.jsonl.gz", 40),
        "validation": rows_of(data_dir / "arc" / "ARC-Easy-validation.jsonl", 5),
        "test": rows_of(data_dir / "arc" / "ARC-Easy-test.jsonl", 20),
    }
    include(folder, "arc_easy", registered / "arc" / "arc_easy.yaml", arc)
    include(folder, "arc_information", registered / "arc" / "arc_easy.yaml", arc)
    file = folder / "arc_information.yaml"
    entry = yaml.safe_load(file.read_text(encoding="utf-8"))
    means = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_mutual_info")]
    file.write_text(yaml.safe_dump(entry | {"metric_list": means}), encoding="utf-8")

    hellaswag = []
    for row in rows_of(data_dir / "hellaswag" / "hellaswag_val.jsonl.gz", 12):
        activity, _, context = row["ctx"].partition(": ")
        rest = {"ctx_a": context, "ctx_b": "", "endings": row["endings"], "label": str(row["label"])}
        hellaswag.append({"activity_label": activity, **rest})
    # Both splits: the worked examples are drawn from the training one.
    include(
        folder,
        "hellaswag",
        registered / "hellaswag" / "hellaswag.yaml",
        dict.fromkeys(("train", "validation"), hellaswag),
    )

    for kind in ("cot_fewshot", "zeroshot"):
        for name in ("boolean_expressions", "formal_fallacies"):
            examples = json.loads((data_dir / "bbh" / "bbh" / f"{name}.json").read_text(encoding="utf-8"))["examples"]
            target = f"bbh_{kind}_{name}"
            include(folder, target, registered / "bbh" / kind / f"{name}.yaml", {"test": examples[:8]})
        members = [f"bbh_{kind}_boolean_expressions", f"bbh_{kind}_formal_fallacies"]
        (folder / f"_{kind}.yaml").write_text(
            yaml.safe_dump({"group": f"bbh_{kind}", "task": members}), encoding="utf-8"
        )

    winogrande = {
        "train": rows_of(data_dir / "winogrande" / "train_xs.jsonl", 20),
        "validation": rows_of(data_dir / "winogrande" / "dev.jsonl", 8),
    }
    include(folder, "winogrande", registered / "winogrande" / "default.yaml", winogrande)

    words = [
        {"text": f"One, two, three and then {w}", "next": f"{w} {i}"} for i, w in enumerate(("four", "five", "six"))
    ]
    own(
        folder, "last_word", words, output_type="loglikelihood", doc_to_text="{{text}}", doc_to_target=" {{next}}",
        metric_list=[{"metric": "perplexity"}, {"metric": "acc"}],
    )  # fmt: skip
    texts = [{"page": d["question"]} for d in arc["test"][:3]]
    own(
        folder, "pages", texts, output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{page}}",
        metric_list=[{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    )  # fmt: skip
    sums = [{"q": f"What is {n} + 1?", "a": str(n + 1)} for n in range(5)]
    names = [{"q": f"Who wrote book {n}?", "a": ["no answer", "True"] if n % 2 else ["4", "valid"]} for n in range(12)]
    own(
        folder, "any_of", names, output_type="generate_until", doc_to_text="{{q}}", doc_to_target="{{a}}",
        metric_list=[
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True,
             "ignore_punctuation": True},
        ],
    )  # fmt: skip
    own(
        folder, "begun", sums, output_type="generate_until", doc_to_text="Q: {{q}}\nA:", doc_to_target="{{a}}",
        description="Add.\n\n", gen_prefix="The answer is", num_fewshot=2,
        generation_kwargs={"until": ["\n"], "max_gen_toks": 12}, metric_list=[{"metric": "exact_match"}, {"metric": "bleu"}],
    )  # fmt: skip
    own(
        folder, "begun_choice", sums, output_type="multiple_choice", doc_to_text="Q: {{q}}\nA:",
        doc_to_target="{{a|int - 1}}", doc_to_choice=["1", "2", "3", "4", "5"], gen_prefix="The answer is", num_fewshot=1,
        metric_list=[{"metric": "acc"}, {"metric": "mcc"}, {"metric": "brier_score"}],
    )  # fmt: skip


class MadeUp:
    """Answers that are a function of the question: the same to both, and of every kind that filters meet."""

    TEXTS = (
        "Let us see. So the answer is False.", "the answer is True. And more.", "invalid", "(A)", "True", "", "  valid.\n",
        "The answer is 3.", "4", "no answer", "So the answer is invalid.",
    )  # fmt: skip

    def number(self, *parts: Any) -> int:
        return int(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8], 16)

    def text(self, prompt: str) -> str:
        return self.TEXTS[self.number(prompt) % len(self.TEXTS)]

    def likelihood(self, prompt: str, continuation: str) -> tuple[float, bool]:
        n = self.number(prompt, continuation)
        return -(n % 5000) / 100 - 0.5, n % 3 == 0


def made_up_answers(task: LmEvalTask) -> dict[str, Judged]:
    """Of all items, raw, by their source."""
    made, judged = MadeUp(), {}
    for item in task.load():
        first = task.prompt(item, OWN_SHOTS)
        scores: list[ContinuationScore] = []
        texts: list[Generation] = []
        for spec in (first, *first.also):
            if spec.form == "generate":
                texts.append(Generation(made.text(spec.question), (1,), "stop"))
            else:
                scores += [ContinuationScore(*made.likelihood(spec.question, c), 1) for c in spec.choices]
        [judged[item.source]] = task.score(item, Response("r", tuple(texts), tuple(scores)))
    return judged


def made_up_samples(manager: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    """lm-eval's own evaluation of the same answers; several rows for several filters."""
    import lm_eval
    from lm_eval.api.model import LM

    made = MadeUp()

    class Model(LM):
        def loglikelihood(self, requests: Any) -> Any:
            return [made.likelihood(*r.args) for r in requests]

        def loglikelihood_rolling(self, requests: Any) -> Any:
            return [made.likelihood("", r.args[0])[0] for r in requests]

        def generate_until(self, requests: Any) -> Any:
            return [made.text(r.args[0]) for r in requests]

    with contextlib.redirect_stderr(io.StringIO()):
        result = lm_eval.simple_evaluate(model=Model(), tasks=[name], task_manager=manager, bootstrap_iters=0)
    found: dict[str, list[dict[str, Any]]] = {}
    for leaf, samples in result["samples"].items():
        for sample in samples:
            found.setdefault(f"lm_eval:{leaf}[{sample['doc_id']}]", []).append(sample)
    return found
