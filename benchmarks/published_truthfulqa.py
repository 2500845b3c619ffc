"""TruthfulQA: the written answers of GPT-3 ada and davinci, 817 each.

No score was published for these runs; the file has a judge's verdict (true or not) on each answer, without saying which
judge. Our task tells true from false by likeness to reference answers, so what is compared is how often the two agree,
not whether one of them is wrong. The multiple-choice figures cannot be had: the files have no likelihoods of options.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.published_types import Family, Score, percent, read_rows, said
from forgetbench.tasks.source import DataSource
from forgetbench.tasks.truthfulqa import TruthfulQaGen

SET = "truthfulqa_gpt3"
METRICS = ("bleu_acc", "rouge1_acc")
QUICK = 100


def run(data: Path, quick: bool = False) -> Family:
    """quick: the first 100 answers of each."""
    task = TruthfulQaGen(DataSource(data_dir=data))
    items = {i.key: i for i in task.load()}
    scores = []
    for system in ("ada", "davinci"):
        rows = read_rows(data, f"{SET}/{system}")[: QUICK if quick else None]
        keys = [task.canonical(row) for row in rows]
        found = [(items[key], row) for key, row in zip(keys, rows, strict=True) if key is not None]
        judged = [task.score(item, said(row["model_answer"]))[0] for item, row in found]
        labels = [row["judge_pred"] == 1 for _, row in found]
        left = len(rows) - len(found)
        for metric in METRICS:
            ours = [j.scores[metric] == 1.0 for j in judged]
            agree = sum(a == b for a, b in zip(ours, labels, strict=True))
            note = f"the judge calls {percent(sum(labels), len(labels)):.1f} true; agrees on {agree} of {len(labels)}, "
            note += f"kappa {kappa(ours, labels):.2f}"
            note += f"; {left} questions are not among the 817 of v1" if left else ""
            scores.append(
                Score(SET, f"GPT-3 {system}", metric, len(found), percent(sum(ours), len(ours)), None, note=note)
            )
    return Family(tuple(scores))


def kappa(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """Agreement beyond chance, (p_o - p_e) / (1 - p_e); 0 where both say the same of everything.

    SOURCE: Cohen (1960), A Coefficient of Agreement for Nominal Scales, formula 1.
    """
    n = len(ours)
    observed = sum(a == b for a, b in zip(ours, theirs, strict=True)) / n
    a, b = sum(ours) / n, sum(theirs) / n
    chance = a * b + (1 - a) * (1 - b)
    return 0.0 if chance == 1.0 else (observed - chance) / (1 - chance)
