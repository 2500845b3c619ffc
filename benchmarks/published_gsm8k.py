"""GSM8K: OpenAI's four systems, Abel-7B and -70B (also on GSM8K_robust), ZeroEval's three.

OpenAI and Abel publish a verdict on each item. ZeroEval publishes sums; its verdicts are found by its rule
(WildEval/ZeroEval @ 8c1485e, src/evaluation/math_eval.py: the JSON's answer, without `$` and `,`, quotients worked out;
its first number), and the sums of these are the published ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.published_types import Difference, Family, Fault, Reading, Score, percent, read_rows, said
from forgetbench.scoring.extract import gsm8k_normal, last_number
from forgetbench.scoring.extract_robust import same_number
from forgetbench.tasks.gsm8k import FLEXIBLE, ROBUST, Gsm8k
from forgetbench.tasks.source import DataSource
from forgetbench.types import Item, Judged

OPENAI = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
ABEL: Mapping[tuple[str, str], float] = {
    ("gsm8k", "7b"): 59.74,
    ("gsm8k", "70b"): 83.62,
    ("gsm8k_robust", "7b"): 58.23,
    ("gsm8k_robust", "70b"): 81.80,
}
ZEROEVAL: Mapping[str, float] = {
    "gemma-2-2b-it": 51.63,
    "Meta-Llama-3-8B-Instruct": 78.47,
    "gpt-3.5-turbo-0125": 80.36,
}


@dataclass(frozen=True, slots=True)
class Published:
    """One output with its published verdict."""

    item: Item
    number: int
    """Position in the test split, from 0."""
    text: str
    right: bool
    read: str
    """What their scorer took for the answer; empty: nothing, or not known."""


@dataclass(frozen=True, slots=True)
class System:
    set: str
    name: str
    published: float | None
    """Percent; None: the sum of the labels is what was published."""
    labels: str
    outputs: tuple[Published, ...]


def run(data: Path) -> Family:
    scores: list[Score] = []
    differences: list[Difference] = []
    readings: list[Reading] = []
    task = Gsm8k(DataSource(data_dir=data))
    for system in systems(data, task):
        outputs = system.outputs
        judged = [task.score(o.item, said(o.text))[0] for o in outputs]
        n = len(outputs)
        published = percent(sum(o.right for o in outputs), n) if system.published is None else system.published
        for metric in (FLEXIBLE, ROBUST):
            differing = [
                _difference(system, metric, o, j)
                for o, j in zip(outputs, judged, strict=True)
                if (j.scores[metric] == 1.0) != o.right
            ]
            ours = percent(sum(j.scores[metric] for j in judged), n)
            scores.append(Score(system.set, system.name, metric, n, ours, published, n, len(differing)))
            differences += differing
            readings.append(_reading(system, metric, outputs, judged, differing))
    return Family(tuple(scores), tuple(differences), tuple(readings))


def systems(data: Path, task: Gsm8k) -> Iterator[System]:
    """Every system, its outputs in the order of its file."""
    items = task.load()
    number = {i.doc["question"].strip(): n for n, i in enumerate(items)}
    rows = read_rows(data, "gsm8k_openai_solutions/example_model_solutions")
    for name in OPENAI:
        found = []
        for row in rows:
            n = number[row["question"].strip()]
            found.append(Published(items[n], n, row[name]["solution"], bool(row[name]["is_correct"]), ""))
        yield System("gsm8k_openai_solutions", name, None, "its flags", tuple(found))
    for (folder, size), published in ABEL.items():
        outputs = tuple(
            Published(_with_gold(items[row["id"]], row["gold"]), row["id"], row["response"], row["result"], row["pred"])
            for row in read_rows(data, f"gsm8k_abel/{folder}/{size}")
        )
        yield System(f"gsm8k_abel/{folder}", f"Abel-{size.upper()}", published, "its flags", outputs)
    for name, published in ZEROEVAL.items():
        found = []
        for row in read_rows(data, f"gsm8k_zeroeval/{name}"):
            n = int(row["id"].rsplit("#", 1)[-1])
            text = row["output"][0]
            answer = zeroeval_answer(text)
            right = zeroeval_right(answer, gsm8k_normal(items[n].doc["answer"]))
            found.append(Published(items[n], n, text, right, answer or ""))
        yield System("gsm8k_zeroeval", name, published, "its scorer's rule", tuple(found))


def _with_gold(item: Item, gold: str) -> Item:
    """GSM8K_robust changes the numbers of a question, and so its answer."""
    return replace(item, doc={**item.doc, "answer": f"#### {gold}"}, gold=gold)


_FIELDS = (
    r'"answer"\s*:\s*"([^"]*?)"',
    r'"answer"\s*:\s*([^,\s]*)',
    r"answer\s*:\s*([^,\s]*)",
)


def zeroeval_answer(text: str) -> str | None:
    """What ZeroEval takes for the answer: that of the first complete object, else the first field of that name."""
    depth, start = 0, 0
    for position, char in enumerate(text):
        if char == "{":
            start = position if depth == 0 else start
            depth += 1
        elif char == "}" and depth:
            depth -= 1
            if depth == 0:
                try:
                    found = json.loads(text[start : position + 1].replace("\n", ""))
                except ValueError:
                    break
                if isinstance(found, dict) and "answer" in found:
                    return str(found["answer"])
                break
    matches = (re.search(pattern, text) for pattern in _FIELDS)
    return next((m[1] for m in matches if m), None)


def zeroeval_right(answer: str | None, gold: str) -> bool:
    if answer is None:
        return False
    plain = answer.replace("$", "").replace(",", "").strip()
    quotient = re.fullmatch(r"(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)", plain)
    if quotient:
        return float(quotient[1]) / float(quotient[2]) == float(gold)
    first = re.search(r"-?\d+(?:\.\d+)?", plain)
    return first is not None and float(first.group()) == float(gold)


def _difference(system: System, metric: str, output: Published, judged: Judged) -> Difference:
    fault, why = _cause(metric, output, judged)
    right = {True: "right", False: "wrong"}
    read = f" ({_short(output.read)})" if output.read else ""
    ours = right[judged.scores[metric] == 1.0]
    theirs = f"{right[output.right]}{read}"
    item = f"test #{output.number} (answer {output.item.gold})"
    return Difference(system.set, system.name, metric, item, ours, theirs, fault, why)


def _cause(metric: str, output: Published, judged: Judged) -> tuple[Fault, str]:
    """Whose fault, by what the other readings make of it."""
    robust = judged.scores[ROBUST] == 1.0
    stated = bool(output.read)
    if output.right:  # and not here
        if metric == FLEXIBLE and same_number(judged.extracted, output.item.gold):
            return "lm-eval's", "the right number, written with other zeros: lm-eval compares numbers as text"
        if metric == FLEXIBLE and robust:
            return "lm-eval's", "the right answer is stated, and another number stands after it"
        return "ours", "the right answer is stated and not read"
    if robust and stated:
        written = output.text.rstrip()
        if "=" in output.read or _numbers(output.read) > 1:
            return "theirs", "the answer field holds the working; their reader takes its first number, not its result"
        if written.endswith("."):
            return "theirs", "the right number with a full stop behind it, which their reader keeps"
        return "theirs", "the right answer is stated, and their reader does not find it"
    last = last_number(output.text)
    if metric == FLEXIBLE and last is not None:
        return "lm-eval's", "another answer is stated, or none; the last number of the text happens to be the right one"
    return "ours", "the text breaks off before its answer; its last number happens to be the right one"


def _numbers(text: str) -> int:
    return len(re.findall(r"\d+(?:[.,]\d+)*", text))


def _short(text: str, limit: int = 40) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def _reading(
    system: System, metric: str, outputs: tuple[Published, ...], judged: list[Judged], differing: list[Difference]
) -> Reading:
    """Labels that are wrong themselves are not held against a metric."""
    missed = sum(o.right and j.scores[metric] != 1.0 for o, j in zip(outputs, judged, strict=True))
    accepted = sum(d.ours == "right" and d.fault != "theirs" for d in differing)
    return Reading(system.set, system.name, metric, len(outputs), missed, accepted, system.labels)
