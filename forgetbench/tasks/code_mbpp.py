"""MBPP (Austin et al. 2021, arXiv 2108.07732): 500 short Python problems, and MBPP+ (Liu et al. 2023, arXiv
2305.01210): 378 of all of MBPP's, mended and tested with about 35 times as many cases.

Prompts, shots, stops and limits are those of lm-eval 0.4.13, checked item by item in tests/parity:

    mbpp        raw   `mbpp` (version 1.0): 3 shots (problems 2, 3, 4), stop [DONE], 256 new tokens
                chat  `mbpp_instruct` (version 1.0): 3 shots as turns, the answer begun with a fence, 256
    mbpp_plus   raw   `mbpp_plus`: as mbpp
                chat  `mbpp_plus_instruct`: no shots, one test shown, the answer begun with a fence, 1,024

Two things differ from lm-eval on purpose (docs/parity.md). The first word after the opened fence is not taken
for the name of a language ("def" would be cut off). And `pass@1` of MBPP+ runs the tests of MBPP+: lm-eval runs
the first three of MBPP's, which are `pass@1,base` here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from forgetbench.errors import UsageError, combined
from forgetbench.tasks.code import PASS, Answer, CodeTask, Tests, check_python, read_docs
from forgetbench.types import Item, PromptSpec, Shot, Style

BASE = "pass@1,base"
FENCE = "```"
TEST_IDS = range(11, 511)
SHOT_IDS = (2, 3, 4)
SHOWN = 3
"""Tests of a problem that a prompt shows, and that decide."""
_STOP = ("[DONE]",)
_EXPERT = "You are an expert Python programmer, and here is your task:"
_HUB = "google-research-datasets/mbpp"
_LANGUAGE_LINE = re.compile(r"\w*\n")

Docs = list[tuple[str, dict[str, Any]]]


class Mbpp(CodeTask):
    """The MBPP task; see the module's docstring."""

    name = "mbpp"
    version = "1.0"
    default_num_fewshot: Mapping[Style, int] = {"raw": 3, "chat": 3}
    _shot_docs: tuple[dict[str, Any], ...] = ()

    def docs(self) -> Docs:
        return [(where, doc) for where, doc in self._mbpp("test") if doc["task_id"] in TEST_IDS]

    def _mbpp(self, split: str) -> Docs:
        """The whole of the original file, or a split of the hub's."""
        hub = (_HUB, f"full/{split}-00000-of-00001.parquet")
        docs = read_docs(self._source, "mbpp", "mbpp", hub, ("text", "code"), ("task_id", *_LISTS, "test_setup_code"))
        return _checked(docs, ("task_id", *_LISTS))

    def content(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        return {"text": self.task_text(doc), "tests": list(doc["test_list"][:SHOWN])}

    def reference(self, doc: Mapping[str, Any]) -> str:
        return str(doc["code"])

    def task_text(self, doc: Mapping[str, Any]) -> str:
        return str(doc["text"])

    def tests(self, doc: Mapping[str, Any]) -> Sequence[Tests]:
        setup = str(doc.get("test_setup_code") or "")
        shown = "\n".join(doc["test_list"][:SHOWN])
        # The set-up (of one problem) builds objects of the program's own class.
        return (Tests(PASS, f"{setup}\n{shown}" if setup else shown, shared=bool(setup)),)

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        shots = self._shots(num_fewshot)
        if self.style == "raw":
            return PromptSpec(
                "generate",
                question=self._raw(item.doc),
                shots=tuple(Shot(self._raw(d), f"{d['code']}\n[DONE]") for d in shots),
                answer_delimiter="",
                stop=_STOP,
                max_tokens=256,
            )
        prefill = f"\n{FENCE}python\n"
        return PromptSpec(
            "generate",
            question=self._asked(item.doc),
            shots=tuple(Shot(self._asked(d), f"{prefill}{d['code']}\n{FENCE}") for d in shots),
            prefill=prefill,
            max_tokens=256,
        )

    def _raw(self, doc: Mapping[str, Any]) -> str:
        tests = "\n".join(doc["test_list"][:SHOWN])
        text = doc["prompt"] if "prompt" in doc else doc["text"]
        return f"{_EXPERT} {text} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"

    def _asked(self, doc: Mapping[str, Any]) -> str:
        tests = "\n".join(doc["test_list"][:SHOWN])
        return f"{_EXPERT}\n{doc['text']}\nYour code should pass these tests:\n{tests}"

    def _shots(self, n: int) -> list[dict[str, Any]]:
        """lm-eval's are the same for every problem, the first n of problems 2, 3, 4 (also for MBPP+)."""
        if n == 0:
            return []
        if n > len(SHOT_IDS):
            raise UsageError(f"{self.name} num_fewshot", f"{n} shots asked for, there are {len(SHOT_IDS)}", "use fewer")
        if not self._shot_docs:
            found = {doc["task_id"]: doc for _, doc in self._mbpp("prompt")}
            missing = [i for i in SHOT_IDS if i not in found]
            if missing:
                raise UsageError(f"{self.name} shots", f"mbpp has no problem {missing[0]}", "restore the original file")
            self._shot_docs = tuple(found[i] for i in SHOT_IDS)
        return list(self._shot_docs[:n])

    def read(self, doc: Mapping[str, Any], text: str) -> Answer:
        code = text if self.style == "raw" else fenced(text)
        return Answer(code if code is not None and code.strip() else None, code or "")


class MbppPlus(Mbpp):
    """MBPP with the tests of EvalPlus."""

    name = "mbpp_plus"
    metrics: tuple[str, ...] = (PASS, BASE)
    default_num_fewshot: Mapping[Style, int] = {"raw": 3, "chat": 0}
    wall_seconds = 30.0

    def docs(self) -> Docs:
        hub = ("evalplus/mbppplus", "data/test-00000-of-00001-d5781c9c51e02795.parquet")
        lists = ("test_imports", *_LISTS)
        texts = ("prompt", "code", "test")
        docs = read_docs(self._source, "mbpp_plus", "MbppPlus-OriginFmt", hub, texts, ("task_id", *lists))
        docs = _checked(docs, ("task_id", *lists))
        check_python(docs, self.reference)
        return docs

    def task_text(self, doc: Mapping[str, Any]) -> str:
        return str(doc["prompt"])

    def tests(self, doc: Mapping[str, Any]) -> Sequence[Tests]:
        plus = "\n".join([*doc["test_imports"], doc["test"]])
        return Tests(PASS, plus), Tests(BASE, "\n".join(doc["test_list"][:SHOWN]))

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        if self.style == "raw":
            return super().prompt(item, num_fewshot)
        if num_fewshot:
            raise UsageError(
                f"{self.name} chat_num_fewshot", f"is {num_fewshot}; it has no shots in chat", "set it to 0"
            )
        doc = item.doc
        return PromptSpec(
            "generate",
            question=f"{doc['prompt']} Your code should satisfy the following assertion:\n{doc['test_list'][0]}",
            prefill=f"Here is a solution to this programming problem:\n{FENCE}python\n",
            max_tokens=1024,
        )


def fenced(text: str) -> str | None:
    """The code of an answer that was begun with an opened fence: up to the closing one; None: it never closes.

    The rest of the fence's own line (a language) is dropped, as is a line end before the closing fence.
    """
    code, closing, _ = text.partition(FENCE)
    if not closing:
        return None
    language = _LANGUAGE_LINE.match(code)
    return (code[language.end() :] if language else code).removesuffix("\n")


_LISTS = ("test_list",)


def _checked(docs: Docs, fields: tuple[str, ...]) -> Docs:
    """The lists hold texts, the tests are enough to fill a prompt, and the number is one."""
    errors = []
    for where, doc in docs:
        for field in fields:
            value = doc.get(field)
            texts = isinstance(value, list) and all(isinstance(t, str) for t in value)
            good = isinstance(value, int) if field == "task_id" else texts
            if good and field == "test_list":
                good = len(doc[field]) >= SHOWN
            if not good:
                problem = f"field '{field}' is {str(value)[:60]!r}"
                errors.append(UsageError(where, problem, "restore the original file"))
                break
    if errors:
        raise combined(errors)
    return docs
