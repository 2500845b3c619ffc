"""MMLU as open questions: what is asked without its options, answered in words of one's own.

    question: "Question: {question}\\nAnswer:"
    shots: dev questions, likewise, with their answers: the subject's own first, then those of all others in an order
           that their hash gives, since few subjects have as many as are asked for

The gold is the text of the right option, and an answer is right if it says that text (whole words; case and punctuation
are ignored). Questions that only make sense with their options are left out: "which of the following",
a sentence to complete, "all of the above", statements to judge; so are those whose right option is long. So this is
a set of its own, not a score to hold against MMLU's: what a model can pick from four it need not be able to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.scoring.extract import parse_number
from forgetbench.scoring.outcome import judge_each, outcome_of
from forgetbench.scoring.scorers import Normalise, Reference, contains, numeric
from forgetbench.tasks.base import content_hash
from forgetbench.tasks.mmlu import LABELS, Mmlu
from forgetbench.tasks.source import DataSource
from forgetbench.types import Generation, Item, ItemKey, Judged, PromptSpec, Response, Shot, Style

METRIC = "correct"
MAX_TOKENS = 32
DEV = 5
"""Dev questions of a subject."""
LONGEST = 8
"""Words of a gold text: a longer one is hardly ever said in the same words."""

_NEEDS_OPTIONS = re.compile(
    r"which (?:one )?of (?:the|these|those)\b|\bfollowing\b|\b(?:except|all but)\b|_{2,}"
    r"|\bstatements? (?:1|2|i|ii|a|b)\b|\b(?:is|are) (?:not )?(?:true|false|correct)\b"
    r"|\bwhich (?:statement|option|choice|answer|pair|set|list|term|word|phrase|equation|expression)\b"
    r"|\b(?:best|most likely|least likely) (?:describe|explain|define|illustrate|represent|characteri[sz]e)s?\b",
    re.IGNORECASE,
)
_SPEAKS_OF_OPTIONS = re.compile(
    r"\b(?:all|none|both|neither|either|any|two) of (?:the|these|those)\b|\b(?:above|below)\b|^\(?[A-D]\)?$"
    r"|\b[A-D] and [A-D]\b|^(?:i|ii|iii|iv)\b|^(?:true|false|yes|no)\b|\b(?:true|false)[,;]",
    re.IGNORECASE,
)
_SHOT = re.compile(r"(.*)\nA\. (.*)\nB\. (.*)\nC\. (.*)\nD\. (.*)\nAnswer:", re.DOTALL)
"""How MMLU shows a dev question."""
_NORMALISE = Normalise(ignore_case=True, ignore_punctuation=True, first_line=True)


def needs_options(question: str, choices: Sequence[str]) -> bool:
    """Whether a question cannot be asked without its options, judged by its words."""
    text = " ".join(question.split())
    if not text.endswith("?") or _NEEDS_OPTIONS.search(text):
        return True
    return any(_SPEAKS_OF_OPTIONS.search(choice.strip()) for choice in choices)


class OpenQuestions:
    """See the module's docstring. Items keep the content hash of the MMLU question that they come from."""

    name = "mmlu_open"
    version = "1"
    metrics: tuple[str, ...] = (METRIC,)
    binary = True
    default_num_fewshot: Mapping[Style, int] = {"raw": 4, "chat": 0}

    def __init__(self, source: DataSource | Mmlu) -> None:
        """Of a task that is there already, its items are not read twice."""
        self._mmlu = source if isinstance(source, Mmlu) else Mmlu(source)
        self._dev: Mapping[str, Sequence[Shot]] = {}
        self._shots: dict[str, Sequence[Shot]] = {}

    def load(self) -> Sequence[Item]:
        return self.opened(self._mmlu.load())

    def opened(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Those of MMLU's items that can be asked without options, in the order given."""
        return tuple(self._open(item) for item in items if _askable(item.doc))

    def _open(self, item: Item) -> Item:
        gold = _gold(item.doc)
        doc = {**item.doc, "references": [gold]}
        key = ItemKey(self.name, item.key.content_hash, item.key.occurrence)
        return replace(item, key=key, doc=doc, gold=gold, gold_hash=content_hash({"gold": gold}), n_choices=None)

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        """Raises UsageError for more shots than there are dev questions that can be asked openly."""
        shots = self._shots_of(item.doc["subject"]) if num_fewshot else ()
        if num_fewshot > len(shots):
            problem = f"{num_fewshot} shots asked for, there are {len(shots)} open dev questions"
            raise UsageError(f"{self.name} num_fewshot", problem, f"use at most {len(shots)}")
        return PromptSpec(
            form="generate",
            question=_question(item.doc["question"]),
            chat_question=item.doc["question"].strip(),
            shots=tuple(shots[:num_fewshot]),
            stop=("\n",),
            max_tokens=MAX_TOKENS,
        )

    def _shots_of(self, subject: str) -> Sequence[Shot]:
        """The subject's own in file order, then the others'."""
        if not self._dev:
            one_of = {item.doc["subject"]: item for item in self._mmlu.load()}
            shown = {name: map(_opened_shot, self._mmlu.prompt(item, DEV).shots) for name, item in one_of.items()}
            self._dev = {name: [shot for shot in shots if shot is not None] for name, shots in shown.items()}
        if subject not in self._shots:
            others = [shot for name, shots in self._dev.items() if name != subject for shot in shots]
            others.sort(key=lambda shot: content_hash({"question": shot.question}))
            self._shots[subject] = [*self._dev[subject], *others]
        return self._shots[subject]

    def score(self, item: Item, response: Response) -> list[Judged]:
        return judge_each(response, lambda generation: self._judge(item, generation))

    def _judge(self, item: Item, generation: Generation) -> Judged:
        scorer = contains if parse_number(item.gold) is None else numeric
        match = scorer(generation.text, Reference((item.gold,)), _NORMALISE)
        outcome = outcome_of(
            generation.text,
            correct=match.correct,
            extracted=match.extracted,
            finish_reason=generation.finish_reason,
        )
        return Judged({METRIC: float(match.correct)}, outcome, generation.text, match.extracted, match.why)

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """As MMLU's own: by question, choices and subject."""
        key = self._mmlu.canonical(doc)
        return None if key is None or not _askable(doc) else ItemKey(self.name, key.content_hash, key.occurrence)


def _askable(doc: Mapping[str, Any]) -> bool:
    choices: Sequence[str] = doc["choices"]
    short = "answer" not in doc or 0 < len(_gold(doc).split()) <= LONGEST
    return short and not needs_options(doc["question"], choices)


def _gold(doc: Mapping[str, Any]) -> str:
    text: str = doc["choices"][int(doc["answer"])]
    return text.strip().rstrip(".")


def _question(text: str) -> str:
    return f"Question: {text.strip()}\nAnswer:"


def _opened_shot(shot: Shot) -> Shot | None:
    """MMLU's worked example without its options; None where it needs them."""
    found = _SHOT.fullmatch(shot.question)
    if found is None:
        return None
    question, *choices = found.groups()
    doc = {"question": question, "choices": choices, "answer": LABELS.index(shot.answer)}
    return Shot(_question(question), _gold(doc), question.strip()) if _askable(doc) else None
