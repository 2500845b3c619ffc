"""BIG-Bench Hard: two tasks of Codex' worked answers whose answer is a number, read by GSM8K's robust reading.

BBH is no task of ours. These 500 outputs were not looked at when the robust reading was written, so they show how it
does on others. Verdicts on items follow from the authors' rule: what stands after "the answer is", without a final
full stop, equals the target. SOURCE: Suzgun et al. (2022), arXiv 2210.09261.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.published_types import FOLDER, Difference, Family, Reading, Score, percent, read_rows
from forgetbench.scoring.extract import gsm8k_flexible, gsm8k_normal
from forgetbench.scoring.extract_robust import robust_number, same_number

SET, SYSTEM = "bbh_codex/cot", "code-davinci-002"
TASKS = ("object_counting", "multistep_arithmetic_two")
FLEXIBLE, ROBUST = "GSM8K's flexible reading", "GSM8K's robust reading"


def run(data: Path) -> Family:
    rows = read_rows(data, SET)
    published = json.loads((data / FOLDER / f"{SET}_metrics.json").read_text(encoding="utf-8"))
    scores: list[Score] = []
    differences: list[Difference] = []
    readings: list[Reading] = []
    for task in TASKS:
        chosen = [(r["index"], r["prediction"], r["target"]) for r in rows if r["task"] == task]
        labels = [authors_answer(text) == target for _, text, target in chosen]
        for metric in (FLEXIBLE, ROBUST):
            ours = [_right(metric, text, target) for _, text, target in chosen]
            differing = [
                Difference(SET, task, metric, f"#{index} (answer {target})", _word(mine), _word(label), "ours",
                           "the readings disagree")
                for (index, _, target), mine, label in zip(chosen, ours, labels, strict=True)
                if mine != label
            ]  # fmt: skip
            n = len(chosen)
            scores.append(
                Score(SET, f"{SYSTEM}, {task}", metric, n, percent(sum(ours), n), published[task]["accuracy"], n,
                      len(differing))
            )  # fmt: skip
            missed = sum(d.theirs == "right" for d in differing)
            readings.append(
                Reading(SET, task, metric, n, missed, len(differing) - missed, "its scorer's rule; held out")
            )
            differences += differing
    return Family(tuple(scores), tuple(differences), tuple(readings))


def authors_answer(text: str) -> str:
    return text.rsplit("the answer is", 1)[-1].strip().removesuffix(".")


def _right(metric: str, text: str, target: str) -> bool:
    if metric == ROBUST:
        return same_number(robust_number(text), target)
    found = gsm8k_flexible(text)
    return found is not None and gsm8k_normal(found) == target


def _word(right: bool) -> str:
    return "right" if right else "wrong"
