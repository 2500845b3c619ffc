"""A comparison as large as the report must bear, made of real text: every MMLU question with its five worked
examples, answered twice with about 1 kB of GSM8K solutions.

Text that repeats itself would flatter the file's size, since gzip sees it: no two answers of an item are alike
here. Which answers are right is drawn.
"""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

from forgetbench.analysis.types import Comparison, Pair, Side
from forgetbench.gate.types import Verdict
from forgetbench.tasks.mmlu import Mmlu
from forgetbench.tasks.source import DataSource
from tests.report.sample import changes_of, side_info, verdict_of

ANSWER_CHARS = 1_000
BASE_ACCURACY = 0.64


def _solutions(data: Path, rng: random.Random) -> Iterator[str]:
    """Texts of about 1 kB without end: solutions of GSM8K's training split, shuffled anew each time round."""
    with gzip.open(data / "gsm8k" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["answer"].rsplit("\n####", 1)[0] for line in lines]
    while True:
        rng.shuffle(texts)
        text = ""
        for one in texts:
            text += one + "\n"
            if len(text) >= ANSWER_CHARS:
                yield text[:ANSWER_CHARS]
                text = ""


def _side(right: bool, gold: str, text: str, rng: random.Random) -> Side:
    extracted = gold if right else rng.choice([x for x in "ABCD" if x != gold])
    verb = "equals" if right else "is not"
    return Side(
        score=float(right),
        outcome="ok",
        output=f"{text}\nThe answer is ({extracted}).",
        extracted=extracted,
        why=f"extracted '{extracted}' {verb} the reference '{gold}'",
        style="raw",
        prompt_text_hash=None,
        prompt_token_hash=None,
        finish_reason="stop",
        n_output_tokens=len(text) // 4,
        mean_logprob=-rng.random(),
    )


def mmlu_pairs(data: Path, seed: int = 0) -> list[Pair]:
    """All 14,042 items. A subject loses 1 to 9 points; 4 % of the items flip each way besides."""
    rng = random.Random(seed)
    solutions = _solutions(data, rng)
    task = Mmlu(source=DataSource(data_dir=data, offline=True))
    subjects: dict[str, float] = {}
    pairs = []
    for item in task.load():
        spec = task.prompt(item, 5)
        shots = "".join(s.question + spec.answer_delimiter + s.answer + spec.shot_delimiter for s in spec.shots)
        drop = subjects.setdefault(item.stratum or "", 0.01 + 0.08 * math.sin(len(subjects)) ** 2)
        right = rng.random() < BASE_ACCURACY
        moves = rng.random() < ((drop + 0.04) / BASE_ACCURACY if right else 0.04 / (1 - BASE_ACCURACY))
        now = right != moves
        pairs.append(
            Pair(
                task="mmlu",
                content_hash=item.key.content_hash,
                occurrence=item.key.occurrence,
                task_type=item.task_type,
                view="ability",
                metric="acc",
                decode_id="greedy",
                gold=item.gold,
                prompt=spec.system + shots + spec.question,
                flip="same" if right == now else "lost" if right else "gained",
                base=_side(right, item.gold, next(solutions), rng),
                candidate=_side(now, item.gold, next(solutions), rng),
                stratum=item.stratum,
                source=item.source,
            )
        )
    return pairs


def comparison(data: Path, seed: int = 0) -> tuple[list[Comparison], list[Verdict]]:
    """What the report is built from: one candidate, 57 subjects."""
    pairs = mmlu_pairs(data, seed)
    found = Comparison(
        base=side_info("base"),
        candidate=side_info("sft"),
        suite="mmlu",
        changes=changes_of(pairs),
        pairs=tuple(pairs),
    )
    return [found], [verdict_of(found, "sft")]
