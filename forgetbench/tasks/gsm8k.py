"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): 1,319 grade-school word problems, answered in free text.

Prompts, shots, stops and scores are those of lm-eval 0.4.13's `gsm8k` (version 3), checked item by item in
tests/parity: five shots drawn at random for each item, 256 new tokens, and lm-eval's two metrics,

    exact_match,flexible  the last number-like run of the output (the default)
    exact_match,strict    the number after the first "#### ", the format that the shots teach

and one of ours beside them, for what those two misread (scoring/extract_robust.py):

    exact_match,robust    the number that the output gives as its answer, compared by value
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.scoring.extract import gsm8k_flexible, gsm8k_normal, gsm8k_strict
from forgetbench.scoring.extract_robust import robust_number, same_number
from forgetbench.scoring.outcome import judge_each, outcome_of
from forgetbench.tasks.base import content_hash
from forgetbench.tasks.items import Finder, KeyMaker
from forgetbench.tasks.source import DataSource, read_jsonl, read_parquet
from forgetbench.types import Generation, Item, ItemKey, Judged, PromptSpec, Response, Shot, Style

DATASET = "openai/gsm8k"
FLEXIBLE = "exact_match,flexible"
STRICT = "exact_match,strict"
ROBUST = "exact_match,robust"
FEWSHOT_SEED = 1234
STOP = ("Question:", "</s>", "<|im_end|>")
MAX_TOKENS = 256


def _question(doc: Mapping[str, Any]) -> str:
    return f"Question: {doc['question']}\nAnswer:"


class Gsm8k:
    """The GSM8K task; see the module's docstring."""

    name = "gsm8k"
    version = "3.0"
    metrics: tuple[str, ...] = (FLEXIBLE, STRICT, ROBUST)
    binary = True
    default_num_fewshot: Mapping[Style, int] = {"raw": 5, "chat": 5}

    def __init__(self, source: DataSource) -> None:
        self._source = source
        self._items: tuple[Item, ...] | None = None
        self._position: dict[ItemKey, int] = {}
        self._train: list[dict[str, Any]] | None = None
        self._draws: dict[int, list[list[int]]] = {}
        self._finder: Finder | None = None

    def load(self) -> Sequence[Item]:
        """All test items in file order."""
        if self._items is None:
            key_of = KeyMaker(self.name)
            self._items = tuple(
                Item(
                    key=key_of({"question": doc["question"]}),
                    task_type="reasoning/arithmetic",
                    doc=doc,
                    gold=doc["answer"].rsplit("#### ", 1)[-1].strip(),
                    gold_hash=content_hash({"answer": gsm8k_normal(doc["answer"])}),
                    source=where,
                )
                for where, doc in self._docs("test")
            )
            self._position = {item.key: i for i, item in enumerate(self._items)}
        return self._items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        return PromptSpec(
            form="generate",
            question=_question(item.doc),
            shots=tuple(Shot(_question(d), d["answer"]) for d in self._shots(item, num_fewshot)),
            stop=STOP,
            max_tokens=MAX_TOKENS,
        )

    def _shots(self, item: Item, n: int) -> list[dict[str, Any]]:
        """The item's own draw. lm-eval draws for one item after another from one generator, so an item's draw
        is fixed by its place in the whole split: all draws are made at once, before any selection."""
        if n == 0:
            return []
        if self._train is None:
            self._train = [doc for _, doc in self._docs("train")]
        if n > len(self._train):
            problem = f"{n} shots asked for, the training split has {len(self._train)}"
            raise UsageError("gsm8k num_fewshot", problem, "use fewer")
        items = self.load()
        if n not in self._draws:
            generator = random.Random(FEWSHOT_SEED)
            pool = range(len(self._train))
            self._draws[n] = [generator.sample(pool, n) for _ in items]
        return [self._train[i] for i in self._draws[n][self._position[item.key]]]

    def score(self, item: Item, response: Response) -> list[Judged]:
        """All three metrics for each generation."""
        return judge_each(response, lambda generation: self._judge(item, generation))

    def _judge(self, item: Item, generation: Generation) -> Judged:
        text = generation.text
        gold = gsm8k_normal(item.doc["answer"])
        flexible, strict = gsm8k_flexible(text), gsm8k_strict(text)
        right = flexible is not None and gsm8k_normal(flexible) == gold
        right_strict = strict is not None and gsm8k_normal(strict) == gold
        robust = robust_number(text)
        right_robust = same_number(robust, gold)
        # The flexible pattern takes runs such as ".." for a number too: scored (0), yet no answer was found.
        extracted = flexible if flexible is not None and any(c.isdigit() for c in flexible) else None
        if extracted is None:
            why = "The output contains no number."
        elif right:
            why = f"The last number in the output, {extracted}, equals the answer {item.gold}"
            why += "." if right_strict else f"; the number after the first #### is {strict or 'missing'}."
        else:
            why = f"The last number in the output is {extracted}, the answer is {item.gold}"
            why += f"; the number after the first #### is right: {strict}." if right_strict else "."
        if right_robust != right:
            why += f" Read as {ROBUST} the answer is {robust or 'missing'}."
        return Judged(
            scores={FLEXIBLE: float(right), STRICT: float(right_strict), ROBUST: float(right_robust)},
            outcome=outcome_of(
                text,
                correct=right or right_strict or right_robust,
                extracted=extracted,
                finish_reason=generation.finish_reason,
            ),
            output=text,
            extracted=extracted,
            why=why,
        )

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """The item of a document with a question, such as lm-eval logs it."""
        items = self.load()
        if self._finder is None:
            self._finder = Finder(items, ({"question": i.doc["question"]} for i in items))
        question = doc.get("question")
        return self._finder.find({"question": question}) if isinstance(question, str) else None

    def _docs(self, split: str) -> list[tuple[str, dict[str, Any]]]:
        """(where, {question, answer}) in file order."""
        fields = ("question", "answer")
        folder = self._source.folder("gsm8k")
        if folder is None:
            path = self._source.hub_file(DATASET, f"main/{split}-00000-of-00001.parquet")
            rows = enumerate(read_parquet(path, fields), 1)
            return [(f"{DATASET}/main/{split}:{number}", doc) for number, doc in rows]
        for path in (folder / f"{split}.jsonl", folder / f"{split}.jsonl.gz"):
            if path.is_file():
                return [(f"{path.name}:{number}", doc) for number, doc in read_jsonl(path, fields)]
        problem = f"there is no {split}.jsonl or {split}.jsonl.gz in it"
        raise UsageError(str(folder), problem, "copy it from the original GSM8K repository")
