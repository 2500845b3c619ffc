"""MMLU (Hendrycks et al. 2021, arXiv 2009.03300): 57 subjects, 14,042 four-way questions.

Prompts, continuations and scores are those of lm-eval 0.4.13's `mmlu/default` (version 1.0), checked item by
item in tests/parity. It is one task: the subject is an item's stratum, and the score is the mean over items,
as lm-eval's groups weight it.

    question: "{question}\\nA. ..\\nB. ..\\nC. ..\\nD. ..\\nAnswer:"
    raw:      description + shots + question; continuations " A" .. " D"
    chat:     the description is the system message, shots are turns; continuations "A" .. "D"
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from forgetbench.errors import ManyUsageErrors, UsageError, combined
from forgetbench.scoring.choices import LETTERS, option_lines
from forgetbench.tasks.base import content_hash
from forgetbench.tasks.items import Finder, KeyMaker
from forgetbench.tasks.ranking import option_name, score_ranking
from forgetbench.tasks.source import DataSource, read_csv, read_parquet
from forgetbench.types import Item, ItemKey, Judged, PromptSpec, Response, Shot, Style

DATASET = "cais/mmlu"
LABELS = LETTERS[:4]

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "humanities": (
        "formal_logic", "high_school_european_history", "high_school_us_history", "high_school_world_history",
        "international_law", "jurisprudence", "logical_fallacies", "moral_disputes", "moral_scenarios",
        "philosophy", "prehistory", "professional_law", "world_religions",
    ),
    "other": (
        "business_ethics", "clinical_knowledge", "college_medicine", "global_facts", "human_aging",
        "management", "marketing", "medical_genetics", "miscellaneous", "nutrition",
        "professional_accounting", "professional_medicine", "virology",
    ),
    "social_sciences": (
        "econometrics", "high_school_geography", "high_school_government_and_politics",
        "high_school_macroeconomics", "high_school_microeconomics", "high_school_psychology",
        "human_sexuality", "professional_psychology", "public_relations", "security_studies", "sociology",
        "us_foreign_policy",
    ),
    "stem": (
        "abstract_algebra", "anatomy", "astronomy", "college_biology", "college_chemistry",
        "college_computer_science", "college_mathematics", "college_physics", "computer_security",
        "conceptual_physics", "electrical_engineering", "elementary_mathematics", "high_school_biology",
        "high_school_chemistry", "high_school_computer_science", "high_school_mathematics",
        "high_school_physics", "high_school_statistics", "machine_learning",
    ),
}  # fmt: skip
"""lm-eval's four groups and their subjects."""

SUBJECTS: Mapping[str, str] = {s: c for c, subjects in CATEGORIES.items() for s in subjects}
"""Subject -> category."""


class Doc(NamedTuple):
    """One question and where it was read."""

    fields: dict[str, Any]
    """As the hub has it: question, subject, choices (4 texts), answer (0 to 3)."""
    where: str


def _content(doc: Mapping[str, Any]) -> dict[str, Any]:
    return {"subject": doc["subject"], "question": doc["question"], "choices": list(doc["choices"])}


def _question(doc: Mapping[str, Any]) -> str:
    return f"{doc['question'].strip()}\n{option_lines(doc['choices'])}\nAnswer:"


class Mmlu:
    """The MMLU task; see the module's docstring."""

    name = "mmlu"
    version = "1.0"
    metrics: tuple[str, ...] = ("acc",)
    binary = True
    default_num_fewshot: Mapping[Style, int] = {"raw": 5, "chat": 5}

    def __init__(self, source: DataSource) -> None:
        self._source = source
        self._items: tuple[Item, ...] | None = None
        self._dev: dict[str, list[dict[str, Any]]] | None = None
        self._finder: Finder | None = None

    def load(self) -> Sequence[Item]:
        """All test items, subjects in alphabetical order, each subject in file order."""
        if self._items is None:
            key_of = KeyMaker(self.name)
            self._items = tuple(self._item(doc, key_of) for doc in self._docs("test"))
        return self._items

    def _item(self, doc: Doc, key_of: KeyMaker) -> Item:
        subject, answer = doc.fields["subject"], int(doc.fields["answer"])
        return Item(
            key=key_of(_content(doc.fields)),
            task_type=f"knowledge/{SUBJECTS[subject]}",
            doc=doc.fields,
            gold=option_name(LABELS[answer], doc.fields["choices"][answer]),
            gold_hash=content_hash({"answer": answer}),
            stratum=subject,
            n_choices=len(LABELS),
            source=doc.where,
        )

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        subject = item.doc["subject"]
        if self._dev is None:
            self._dev = defaultdict(list)
            for doc in self._docs("dev"):
                self._dev[doc.fields["subject"]].append(doc.fields)
        dev = self._dev[subject]
        if num_fewshot > len(dev):
            problem = f"{num_fewshot} shots asked for, {subject} has {len(dev)} dev questions"
            raise UsageError("mmlu num_fewshot", problem, f"use at most {len(dev)}")
        return PromptSpec(
            form="rank",
            # lm-eval keeps the two line ends in the chat's system message too.
            system=f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n",
            shots=tuple(Shot(_question(d), LABELS[int(d["answer"])]) for d in dev[:num_fewshot]),
            question=_question(item.doc),
            choices=LABELS,
        )

    def score(self, item: Item, response: Response) -> list[Judged]:
        """`acc`: whether the most likely letter is the answer; of equally likely ones the first counts."""
        return score_ranking(item, response, LABELS, "acc")

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """The item of a document with question, choices and subject, such as lm-eval logs it."""
        items = self.load()
        if self._finder is None:
            self._finder = Finder(items, (_content(i.doc) for i in items))
        if not {"question", "choices", "subject"} <= doc.keys():
            return None
        return self._finder.find(_content(doc))

    def _docs(self, split: str) -> list[Doc]:
        folder = self._source.folder("mmlu")
        if folder is not None:
            return _read_folder(folder, split)
        path = self._source.hub_file(DATASET, f"all/{split}-00000-of-00001.parquet")
        docs = [
            Doc(row, f"{DATASET}/all/{split}:{number}")
            for number, row in enumerate(read_parquet(path, ("question", "subject", "choices", "answer")), 1)
        ]
        for doc in docs:
            if doc.fields["subject"] not in SUBJECTS or doc.fields["answer"] not in range(4):
                problem = f"unknown subject or answer: {doc.fields['subject']!r}, {doc.fields['answer']!r}"
                raise UsageError(doc.where, problem, "use the pinned revision of the dataset")
        # A stable sort: within a subject the hub's order is that of the original files.
        return sorted(docs, key=lambda d: str(d.fields["subject"]))


def _read_folder(folder: Path, split: str) -> list[Doc]:
    """The CSV files of the original archive: question, four options, letter; no header."""
    docs: list[Doc] = []
    errors: list[UsageError] = []
    for subject in sorted(SUBJECTS):
        path = folder / split / f"{subject}_{split}.csv"
        if not path.is_file():
            errors.append(UsageError(str(path), "there is no such file", "copy it from the original MMLU archive"))
            continue
        try:
            for line, row in read_csv(path, 6):
                letter = row[5].strip()
                if letter not in LABELS:
                    problem = f"the answer is {letter[:20]!r}, not one of A, B, C, D"
                    errors.append(UsageError(f"{path}:{line}", problem, "restore the original file"))
                    continue
                answer = LABELS.index(letter)
                fields = {"question": row[0], "subject": subject, "choices": row[1:5], "answer": answer}
                docs.append(Doc(fields, f"{path.name}:{line}"))
        except ManyUsageErrors as e:
            errors += e.errors
        except UsageError as e:
            errors.append(e)
    if errors:
        raise combined(errors)
    return docs
