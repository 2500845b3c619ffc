"""MMLU: HELM's logged 5-shot answers of five models, 14,015 questions each.

HELM logs the one token that a model wrote, not the likelihood of all four letters, so the letter written is ranked
first here. What is no letter ("To", "The") has no answer and counts as wrong, as it does in HELM. HELM's figure is the
mean over subjects; ours is the mean over items, as lm-eval's groups weight it: both are given. Nine subjects of one
model come with HELM's own question, letter and gold: these are compared item by item.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.published_types import FOLDER, Difference, Family, Reading, Score, percent
from forgetbench.tasks.mmlu import LABELS, Mmlu
from forgetbench.tasks.source import DataSource
from forgetbench.types import ContinuationScore, Item, Response

SET = "mmlu_helm"
PUBLISHED: Mapping[str, float] = {
    "openai_gpt-4-0613": 82.4,
    "openai_gpt-4-1106-preview": 79.6,
    "meta_llama-3-70b": 79.3,
    "mistralai_mixtral-8x22b": 77.8,
    "google_gemini-1.5-flash-preview-0514": 77.8,
}
RAW = "meta_llama-3-70b"
NOTE = (
    "MMLU: HELM publishes three digits of the mean over all 14,042 questions, the logged answers are those to 14,015 "
    "(the duplicates are left out); what is left between the figures is that and the rounding."
)


@dataclass(frozen=True, slots=True)
class Logged:
    item: Item
    text: str
    """What the model wrote."""
    right: bool
    """Here."""


def run(data: Path) -> Family:
    task = Mmlu(DataSource(data_dir=data))
    items: dict[str, list[Item]] = defaultdict(list)
    for item in task.load():
        items[item.stratum or ""].append(item)
    scores: list[Score] = []
    readings: list[Reading] = []
    differences: list[Difference] = []
    for system, published in PUBLISHED.items():
        found = logged(data, system, task, items)
        n = len(found)
        labelled = raw_labels(data, items) if system == RAW else {}
        differing = [x for x in found if x.item.source in labelled and labelled[x.item.source] != x.right]
        scores += [
            Score(SET, system, "acc, mean over subjects", n, _macro(found), published, len(labelled), len(differing)),
            Score(SET, system, "acc, mean over items", n, percent(sum(x.right for x in found), n), None,
                  note="not published by HELM"),
        ]  # fmt: skip
        differences += [
            Difference(SET, system, "acc", x.item.source, str(x.right), str(not x.right), "ours",
                       "HELM's own question, options and gold letter give another verdict")
            for x in differing
        ]  # fmt: skip
        readings.append(_reading(system, found))
    return Family(tuple(scores), tuple(differences), tuple(readings), (NOTE,))


def logged(data: Path, system: str, task: Mmlu, items: Mapping[str, Sequence[Item]]) -> list[Logged]:
    found = []
    with gzip.open(data / FOLDER / SET / f"{system}.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            item = items[row["subject"]][int(row["row"])]
            found.append(Logged(item, row["prediction"], right(task, item, row["prediction"])))
    return found


def right(task: Mmlu, item: Item, text: str) -> bool:
    """Whether the task finds the logged answer right: the letter that was written is the most likely one."""
    letter = text.strip()
    if letter not in LABELS:
        return False
    ranked = tuple(ContinuationScore(0.0 if x == letter else -1.0, x == letter, 1) for x in LABELS)
    [judged] = task.score(item, Response("published", scores=ranked))
    return judged.scores["acc"] == 1.0


def raw_labels(data: Path, items: Mapping[str, Sequence[Item]]) -> dict[str, bool]:
    """HELM's verdicts where it logged everything: by where the item was read. Raises ValueError for a question that
    is none of ours."""
    found: dict[str, bool] = {}
    for path in sorted((data / FOLDER / SET / "helm_raw_llama-3-70b").glob("*.json.gz")):
        subject = path.name.removesuffix(".json.gz")
        by_content = {(i.doc["question"].strip(), _options(i.doc["choices"])): i for i in items[subject]}
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            states = json.load(lines)["request_states"]
        for state in states:
            instance, mapping = state["instance"], state["output_mapping"]
            item = by_content.get((instance["input"]["text"].strip(), _options(list(mapping.values()))))
            if item is None:
                raise ValueError(f"{path.name}: {instance['input']['text'][:80]!r} is none of our questions")
            gold = {r["output"]["text"] for r in instance["references"] if "correct" in r["tags"]}
            letter = state["result"]["completions"][0]["text"].strip()
            found[item.source] = mapping.get(letter) in gold
    return found


def _options(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(t.strip() for t in texts)


def _macro(found: Sequence[Logged]) -> float:
    subjects: dict[str, list[bool]] = defaultdict(list)
    for x in found:
        subjects[x.item.stratum or ""].append(x.right)
    return sum(percent(sum(v), len(v)) for v in subjects.values()) / len(subjects)


def _reading(system: str, found: Sequence[Logged]) -> Reading:
    """A lenient reading: a letter anywhere in what was written, alone among blanks and punctuation."""
    missed = 0
    for x in found:
        words = ["".join(c for c in word if c.isalnum()) for word in x.text.split()]
        letters = [w for w in words if w in LABELS]
        missed += not x.right and x.text.strip() not in LABELS and letters[:1] == [LABELS[int(x.item.doc["answer"])]]
    none = sum(x.text.strip() not in LABELS for x in found)
    return Reading(SET, system, "acc", len(found), missed, 0, f"a letter anywhere in the text; {none} outputs are none")
