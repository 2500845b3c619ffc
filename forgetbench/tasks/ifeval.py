"""IFEval (Zhou et al. 2023, arXiv 2311.07911): 541 prompts with 834 instructions that a program can check.

Prompts, limits and scores are those of lm-eval 0.4.13's `ifeval` (version 4.0), checked item by item in
tests/parity: the prompt as it stands, no shots, 1,280 new tokens, no stop string. Metrics:

    prompt_level_strict_acc   all instructions of the prompt are followed (the default)
    prompt_level_loose_acc    the same, of the best of eight variants of the text (scoring/ifeval/judge.py)
    inst_level_strict_acc     share of the prompt's instructions that are followed
    inst_level_loose_acc      the same, loosely

The mean of the two inst_level metrics over prompts is not lm-eval's figure, which is a mean over all
instructions of all prompts; `micro_average` gives that one exactly, from the verdicts in `Record.extra`.

The data has three versions, option `version`:

    current   2024-06-11, what the hub has by name; differs from v2 in the wording of one prompt (key 2785: "at
              least 3 placeholders")
    v2        2023-11-27, what GPT-4's published answers and the paper's table are about
    v1        2023-11-14, the first release, 747 instructions, only 157 of its prompts in v2; DeepSeek's
              published answers are about it. Its repeat_prompt has no argument (lm-eval cannot score it): what
              is to be repeated is what stands before "First repeat the request".

task_type: `instruction/<group>` where all of a prompt's instructions are of one group (322 prompts),
`instruction/several` otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from forgetbench.errors import UsageError, combined
from forgetbench.scoring.ifeval import NEEDS, Instruction, follow
from forgetbench.scoring.outcome import judge_each, outcome_of
from forgetbench.tasks.base import content_hash
from forgetbench.tasks.extras import no_shots, require
from forgetbench.tasks.items import Finder, KeyMaker
from forgetbench.tasks.source import DataSource, read_jsonl
from forgetbench.types import Generation, Item, ItemKey, Judged, PromptSpec, Record, Response, Style

Version = Literal["current", "v2", "v1"]

DATASET = "google/IFEval"
FILES: Mapping[str, str] = {
    "current": "input_data.jsonl",
    "v2": "input_data_v2_20231127.jsonl",
    "v1": "input_data_v1_20231114.jsonl",
}
MAX_TOKENS = 1280
PROMPT_STRICT, PROMPT_LOOSE = "prompt_level_strict_acc", "prompt_level_loose_acc"
INST_STRICT, INST_LOOSE = "inst_level_strict_acc", "inst_level_loose_acc"
_REPEAT = "First repeat the request"
_PATTERNS = ("keyword", "keywords", "forbidden_words", "section_spliter")
"""Arguments that are used as regular expressions."""


class IfEval:
    """The IFEval task; see the module's docstring."""

    name = "ifeval"
    metrics: tuple[str, ...] = (PROMPT_STRICT, PROMPT_LOOSE, INST_STRICT, INST_LOOSE)
    binary = True
    default_num_fewshot: Mapping[Style, int] = {"raw": 0, "chat": 0}

    def __init__(self, source: DataSource, version: Version = "current") -> None:
        if version not in FILES:
            raise UsageError("ifeval version", f"there is no '{version}'", f"use one of {', '.join(FILES)}")
        self._source = source
        self._data: Version = version
        self.version = "4.0" if version == "current" else f"4.0-{version}"
        self._items: tuple[Item, ...] | None = None
        self._finder: Finder | None = None

    def check_ready(self) -> None:
        """Raises UsageError where the packages that scoring needs are missing."""
        require(self.name, "langdetect", "nltk")

    def load(self) -> Sequence[Item]:
        """All prompts in file order."""
        if self._items is None:
            key_of = KeyMaker(self.name)
            errors: list[UsageError] = []
            items = []
            for where, doc in self._docs():
                problem = _completed(doc)
                if problem is not None:
                    errors.append(UsageError(where, problem, "restore the original file"))
                else:
                    items.append(_item(doc, where, key_of))
            if errors:
                raise combined(errors)
            self._items = tuple(items)
        return self._items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        no_shots(self.name, num_fewshot)
        return PromptSpec(form="generate", question=item.doc["prompt"], max_tokens=MAX_TOKENS)

    def score(self, item: Item, response: Response) -> list[Judged]:
        """All four metrics for each generation; the verdicts on each instruction in `extra`."""
        return judge_each(response, lambda generation: _judge(item, generation))

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """The item of a document with a prompt, such as lm-eval logs it."""
        items = self.load()
        if self._finder is None:
            self._finder = Finder(items, ({"prompt": i.doc["prompt"]} for i in items))
        prompt = doc.get("prompt")
        return self._finder.find({"prompt": prompt}) if isinstance(prompt, str) else None

    def _docs(self) -> list[tuple[str, dict[str, Any]]]:
        """(where, {key, prompt, instruction_id_list, kwargs}) in file order."""
        folder = self._source.folder("ifeval")
        if folder is None:
            if self._data != "current":
                problem = f"the hub has the current version only, not {self._data}"
                raise UsageError("ifeval version", problem, "pass --data-dir with the original files")
            path = self._source.hub_file(DATASET, "ifeval_input_data.jsonl")
            return [(f"{DATASET}:{number}", doc) for number, doc in read_jsonl(path, ("prompt",))]
        file = FILES[self._data]
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                return [(f"{path.name}:{number}", doc) for number, doc in read_jsonl(path, ("prompt",))]
        problem = f"there is no {file} or {file}.gz in it"
        raise UsageError(str(folder), problem, "copy it from the original IFEval repository")


def _completed(doc: dict[str, Any]) -> str | None:
    """Reduce `kwargs` to what counts and fill in what v1 leaves open; what is wrong with the document, or None.

    Falsy arguments are dropped, as lm-eval does: the hub's copy has a null for every argument of every type.
    Where one is then missing lm-eval would draw it at random; here the document is refused.
    """
    ids, kwargs = doc.get("instruction_id_list"), doc.get("kwargs")
    if not isinstance(ids, list) or not isinstance(kwargs, list) or not ids or len(ids) != len(kwargs):
        return "instruction_id_list and kwargs are not lists of one length"
    if not all(isinstance(k, Mapping) for k in kwargs):
        return "kwargs holds something that is no object"
    doc["kwargs"] = [{k: v for k, v in arguments.items() if v} for arguments in kwargs]
    for name, arguments in zip(ids, doc["kwargs"], strict=True):
        if name not in NEEDS:
            return f"unknown instruction '{name}'"
        if name == "combination:repeat_prompt" and "prompt_to_repeat" not in arguments and _REPEAT in doc["prompt"]:
            arguments["prompt_to_repeat"] = doc["prompt"].split(_REPEAT, 1)[0].strip()
        missing = [need for need in NEEDS[name] if need not in arguments]
        if missing:
            return f"{name} has no {missing[0]}"
        problem = _bad_pattern(arguments)
        if problem is not None:
            return f"{name}: {problem}"
    return None


def _bad_pattern(arguments: Mapping[str, Any]) -> str | None:
    for name in _PATTERNS:
        value = arguments.get(name, [])
        for pattern in [value] if isinstance(value, str) else value:
            try:
                re.compile(pattern)
            except re.error as e:
                return f"{name} '{pattern}' is no regular expression ({e})"
    return None


def _item(doc: dict[str, Any], where: str, key_of: KeyMaker) -> Item:
    ids: list[str] = doc["instruction_id_list"]
    groups = {name.split(":")[0] for name in ids}
    return Item(
        key=key_of({"prompt": doc["prompt"]}),
        task_type=f"instruction/{groups.pop() if len(groups) == 1 else 'several'}",
        doc=doc,
        gold=" | ".join(_shown(i) for i in _instructions(doc)),
        gold_hash=content_hash({"instructions": ids, "arguments": doc["kwargs"]}),
        source=where,
    )


def _instructions(doc: Mapping[str, Any]) -> list[Instruction]:
    return [Instruction(*pair) for pair in zip(doc["instruction_id_list"], doc["kwargs"], strict=True)]


def _shown(instruction: Instruction) -> str:
    values = (", ".join(v) if isinstance(v, list) else str(v) for v in instruction.arguments.values())
    arguments = ", ".join(" ".join(v.split()) for v in values)
    return f"{instruction.id} ({arguments})" if arguments else instruction.id


def _judge(item: Item, generation: Generation) -> Judged:
    text = generation.text
    instructions = _instructions(item.doc)
    verdicts = follow(text, instructions)
    n, strict, loose = len(verdicts), [v.strict for v in verdicts], [v.loose for v in verdicts]
    extracted = f"{sum(strict)} of {n} followed" if text.strip() else None
    missed = [
        f"{i.id} ({v.seen}{'; loosely followed' if v.loose else ''})"
        for i, v in zip(instructions, verdicts, strict=True)
        if not v.strict
    ]
    if extracted is None:
        why = "The output is empty."
    elif missed:
        why = f"{sum(strict)} of {n} instructions followed, not {', '.join(missed)}."
    else:
        why = "The instruction is followed." if n == 1 else f"All {n} instructions are followed."
    return Judged(
        scores={
            PROMPT_STRICT: float(all(strict)),
            PROMPT_LOOSE: float(all(loose)),
            INST_STRICT: sum(strict) / n,
            INST_LOOSE: sum(loose) / n,
        },
        outcome=outcome_of(text, correct=all(loose), extracted=extracted, finish_reason=generation.finish_reason),
        output=text,
        extracted=extracted,
        why=why,
        extra={"strict": strict, "loose": loose},
    )


def micro_average(records: Iterable[Judged | Record], which: Literal["strict", "loose"] = "strict") -> float:
    """lm-eval's inst_level accuracy: followed instructions over all instructions, of all that was scored.

    Samples that are infra_error have no verdicts and do not count. NaN: nothing was scored.
    """
    verdicts = [followed for record in records for followed in record.extra.get(which, ())]
    return sum(verdicts) / len(verdicts) if verdicts else float("nan")
