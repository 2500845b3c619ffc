"""Custom sets: a user's own questions, JSONL or CSV, one to a line.

    {"task_type": "knowledge/capitals", "prompt": "Capital of Peru?", "references": ["Lima"]}
    {"task_type": "knowledge/capitals", "prompt": "Which is in Peru?", "scorer": "choice",
     "choices": ["Lima", "Quito"], "answer": "Lima"}

Fields: suites/custom_set.schema.json. `statement` ("The capital of Peru is") is the question as a sentence to be
continued; it changes neither the item nor its score. In CSV the first row names the fields, an empty cell is a missing
field, and lists are JSON in a cell. Either may be gzipped (.gz), and a file with other columns is read
through `fields` (custom_fields.py). Scorers: forgetbench/scoring/scorers.py; `choice` shows lettered options
and ranks the letters by log-probability, as MMLU does. With `scorer: none` answers are generated and kept, not
scored: the set has no metric, and no comparison or rule takes it in.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError, combined
from forgetbench.scoring.choices import LETTERS, option_lines
from forgetbench.scoring.outcome import judge_each, outcome_of
from forgetbench.scoring.refusal import is_refusal
from forgetbench.scoring.scorers import Normalise, Reference, judge
from forgetbench.tasks.base import content_hash
from forgetbench.tasks.custom_fields import Source
from forgetbench.tasks.custom_lines import Line, SetScorer, answer_index, reference_texts
from forgetbench.tasks.custom_read import read_lines
from forgetbench.tasks.items import Finder, KeyMaker
from forgetbench.tasks.ranking import option_name, score_ranking
from forgetbench.types import Generation, Item, ItemKey, Judged, Message, PromptSpec, Response, Shot, Style

METRIC = "correct"
FORMAT = "1"
"""Version of what this file makes of a line; part of the identity of results."""


@dataclass(frozen=True, slots=True)
class RawFormat:
    """How items become completion prompts: question, delimiter, answer, separator, next question, ..."""

    question: str = "Q: {prompt}\nA:"
    delimiter: str = " "
    separator: str = "\n\n"
    num_fewshot: int = 0


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How items become user turns."""

    question: str = "{prompt}"
    num_fewshot: int = 0


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A custom set and how it is asked and scored."""

    name: str
    path: Path
    fewshot: Path | None = None
    """Worked examples, in the same format; an item takes the first n of its own task_type."""
    scorer: SetScorer = "exact"
    """For lines that name none; `none`: no line is scored."""
    fields: Mapping[str, Source] | None = None
    """Our field -> the columns of both files that it is made of. None: the columns have our names."""
    raw: RawFormat = RawFormat()
    chat: ChatFormat = ChatFormat()
    stop: tuple[str, ...] | None = None
    """Stop strings. None: where a raw prompt's next question would begin (the separator and what the question
    template starts with), which ends a base model's answer and occurs in no chat answer."""
    max_tokens: int = 256
    extract: str | None = None
    """A pattern: only its first match (its first group) is scored; no match means unparsed."""
    normalise: Normalise = field(default_factory=Normalise)

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is not None:
            return self.stop
        head = self.raw.question.split("{prompt}", 1)[0]
        stop = (self.raw.separator + head).rstrip(" ")
        return (stop,) if stop.strip() else ()


def load_set(path_or_spec: str | Path | SetSpec) -> CustomSet:
    """A custom set as a task. Its files are read, and every mistake in them raised, by `load`.

    A path alone is a set of that file's name with all defaults. Raises UsageError for a spec that cannot be.
    """
    if isinstance(path_or_spec, SetSpec):
        return CustomSet(path_or_spec)
    path = Path(path_or_spec)
    return CustomSet(SetSpec(name=path.stem, path=path))


class CustomSet:
    """A custom set; see the module's docstring."""

    binary = True

    def __init__(self, spec: SetSpec) -> None:
        _check_spec(spec)
        self.spec = spec
        self.metrics: tuple[str, ...] = () if spec.scorer == "none" else (METRIC,)
        self.name = spec.name
        self.version = f"{FORMAT}-{_spec_hash(spec)}"
        self.default_num_fewshot: Mapping[Style, int] = {
            "raw": spec.raw.num_fewshot,
            "chat": spec.chat.num_fewshot,
        }
        self._items: tuple[Item, ...] | None = None
        self._lines: dict[ItemKey, Line] = {}
        self._shots: dict[str, list[tuple[str, Line]]] = {}
        self._shots_made: dict[int, Shot] = {}
        """By id() of a line in `_shots`, which stays there."""
        self._finder: Finder | None = None

    def load(self) -> Sequence[Item]:
        """All items in file order. Raises every mistake in the set and its shots at once; nothing is run."""
        if self._items is not None:
            return self._items
        lines, errors = read_lines(self.spec.path, self.spec.scorer, self.spec.fields)
        if self.spec.fewshot is not None:
            shots, shot_errors = read_lines(self.spec.fewshot, self.spec.scorer, self.spec.fields)
            errors = [*errors, *shot_errors, *self._index_shots(shots)]
        if not errors:
            errors = self._too_few_shots(lines)
        if errors:
            raise combined(errors)
        key_of = KeyMaker(self.name)
        items = []
        for number, line in lines:
            item = self._item(line, key_of(_content(line)), number)
            self._lines[item.key] = line
            items.append(item)
        self._items = tuple(items)
        return self._items

    def _index_shots(self, shots: Sequence[tuple[int, Line]]) -> list[UsageError]:
        errors: list[UsageError] = []
        for number, line in shots:
            where = f"{self.spec.fewshot}:{number}"
            if self._scorer(line) == "none" and line.answer is None and not line.references:
                problem = "missing, and a worked example has to show an answer"
                errors.append(UsageError(f"{where}: answer", problem, 'add "answer": the text to show'))
            if self._scorer(line) == "regex" and line.answer is None:
                problem = "missing, and a pattern cannot be shown as an answer"
                errors.append(UsageError(f"{where}: answer", problem, 'add "answer": the text to show'))
            self._shots.setdefault(line.task_type, []).append((content_hash(_content(line)), line))
        return errors

    def _too_few_shots(self, lines: Sequence[tuple[int, Line]]) -> list[UsageError]:
        """Every item must get the shots that its style asks for: fewer, unnoticed, would be another test."""
        wanted = max(self.spec.raw.num_fewshot, self.spec.chat.num_fewshot)
        if wanted and self.spec.fewshot is None:
            problem = f"num_fewshot is {wanted} and no fewshot file is given"
            return [UsageError(f"set '{self.name}'", problem, "name a file of worked examples under fewshot")]
        short: dict[str, int] = {}
        for _, line in lines:
            have = len(self._shots_for(line, content_hash(_content(line))))
            if have < wanted:
                short[line.task_type] = min(have, short.get(line.task_type, have))
        return [
            UsageError(
                str(self.spec.fewshot),
                f"{have} worked examples for an item of {task_type} (itself left out), {wanted} wanted",
                f"add examples of {task_type}, or lower num_fewshot",
            )
            for task_type, have in short.items()
        ]

    def _shots_for(self, line: Line, own: str) -> list[Line]:
        """`own`: the line's content hash."""
        return [shot for digest, shot in self._shots.get(line.task_type, []) if digest != own]

    def _scorer(self, line: Line) -> str:
        return line.scorer or self.spec.scorer

    def _item(self, line: Line, key: ItemKey, number: int) -> Item:
        doc: dict[str, Any] = line.model_dump(exclude_none=True)
        gold_of: dict[str, Any] = {"scorer": self._scorer(line)}
        if self._scorer(line) == "choice" and line.choices is not None:
            answer = answer_index(line)
            doc["answer"] = answer
            gold = option_name(LETTERS[answer or 0], line.choices[answer or 0])
            gold_of["answer"] = answer
        else:
            gold = " | ".join(reference_texts(line))
            gold_of |= {"references": list(reference_texts(line)), "tolerance": line.tolerance}
        return Item(
            key=key,
            task_type=line.task_type,
            doc=doc,
            gold=gold,
            gold_hash=content_hash(gold_of),
            cluster=line.cluster,
            n_choices=len(line.choices) if line.choices is not None else None,
            source=f"{self.spec.path.name}:{number}",
        )

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        """Shots are the first `num_fewshot` worked examples of the item's task_type, itself left out."""
        self.load()
        line = self._lines[item.key]
        shots = self._shots_for(line, item.key.content_hash)
        if num_fewshot > len(shots):
            problem = f"{num_fewshot} shots asked for, {len(shots)} are there for {line.task_type}"
            raise UsageError(str(self.spec.fewshot or self.spec.path), problem, "add worked examples or lower it")
        raw, messages = self.spec.raw, None
        if line.messages is not None:
            messages = tuple(Message(m.role, m.content) for m in line.messages)
        rank = self._scorer(line) == "choice"
        return PromptSpec(
            form="rank" if rank else "generate",
            question=self._raw_question(line),
            shots=tuple(self._as_shot(s) for s in shots[:num_fewshot]),
            chat_question=self._chat_question(line),
            messages=messages,
            answer_delimiter=raw.delimiter,
            shot_delimiter=raw.separator,
            choices=LETTERS[: len(line.choices)] if rank and line.choices else (),
            stop=() if rank else self.spec.stops,
            max_tokens=self.spec.max_tokens,
        )

    def _as_shot(self, line: Line) -> Shot:
        """Rendered once: thousands of items share their worked examples."""
        shot = self._shots_made.get(id(line))
        if shot is None:
            shot = Shot(self._raw_question(line), self._shown(line), self._chat_question(line))
            self._shots_made[id(line)] = shot
        return shot

    def _raw_question(self, line: Line) -> str:
        return self.spec.raw.question.replace("{prompt}", _with_options(line, _as_text(line)))

    def _chat_question(self, line: Line) -> str:
        text = line.chat_prompt or _as_text(line)
        return self.spec.chat.question.replace("{prompt}", _with_options(line, text))

    def _shown(self, shot: Line) -> str:
        """The answer of a worked example."""
        if self._scorer(shot) == "choice":
            return LETTERS[answer_index(shot) or 0]
        return str(shot.answer) if shot.answer is not None else reference_texts(shot)[0]

    def score(self, item: Item, response: Response) -> list[Judged]:
        """`correct`: 1 or 0 for each sample."""
        line = self._lines[item.key]
        if self._scorer(line) == "choice":
            return score_ranking(item, response, LETTERS[: item.n_choices], METRIC)
        return judge_each(response, lambda generation: self._judge(line, generation))

    def _judge(self, line: Line, generation: Generation) -> Judged:
        references = reference_texts(line)
        if self._scorer(line) == "none":
            return _unscored(generation)
        reference = Reference(references, 1e-6 if line.tolerance is None else line.tolerance)
        match = judge(generation.text, self._scorer(line), reference, self.spec.normalise, self.spec.extract)
        outcome = outcome_of(
            generation.text,
            correct=match.correct,
            extracted=match.extracted,
            finish_reason=generation.finish_reason,
            refusal_wanted=any(is_refusal(r) for r in references),
        )
        return Judged({METRIC: float(match.correct)}, outcome, generation.text, match.extracted, match.why)

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """The item that asks what `doc` asks: the same task_type, prompt or messages, and choices."""
        items = self.load()
        if self._finder is None:
            self._finder = Finder(items, (_content(self._lines[i.key]) for i in items))
        asked = {k: doc[k] for k in ("task_type", "prompt", "chat_prompt", "messages", "choices") if doc.get(k)}
        return self._finder.find(asked)


def _unscored(generation: Generation) -> Judged:
    """An answer that is kept for later judging."""
    text = generation.text
    outcome = outcome_of(text, correct=False, extracted=text.strip() or None, finish_reason=generation.finish_reason)
    return Judged({}, outcome, text, text.strip() or None, "Not scored: the set has no scorer.")


def _content(line: Line) -> dict[str, Any]:
    """What is asked, without the answer: identity of an item."""
    return line.model_dump(include={"task_type", "prompt", "chat_prompt", "messages", "choices"}, exclude_none=True)


def _as_text(line: Line) -> str:
    """The prompt; of a conversation the user's turn, or a transcript when there is more than that."""
    if line.prompt is not None:
        return line.prompt
    turns = line.messages or []
    if len(turns) == 1:
        return turns[0].content
    if len(turns) == 2 and turns[0].role == "system":
        return f"{turns[0].content}\n{turns[1].content}"
    names = {"system": "System", "user": "User", "assistant": "Assistant"}
    return "\n".join(f"{names[t.role]}: {t.content}" for t in turns)


def _with_options(line: Line, text: str) -> str:
    return text if line.choices is None else f"{text}\n{option_lines(line.choices)}"


def _spec_hash(spec: SetSpec) -> str:
    """How items are asked and scored, and the file of worked examples, as 8 hex digits.

    The items themselves are not in it: records carry their content and gold hashes.
    """
    shots = b""
    if spec.fewshot is not None:
        with contextlib.suppress(OSError, ValueError):  # `load` reports what is wrong with the file
            shots = spec.fewshot.read_bytes()
    how: dict[str, Any] = {
        "raw": [spec.raw.question, spec.raw.delimiter, spec.raw.separator],
        "chat": spec.chat.question,
        "scorer": spec.scorer,
        "extract": spec.extract,
        "normalise": repr(spec.normalise),
        "shots": hashlib.sha256(shots).hexdigest(),
    }
    if spec.fields is not None:
        how["fields"] = {k: v if isinstance(v, str) else list(v) for k, v in spec.fields.items()}
    return content_hash(how)[:8]


def _check_spec(spec: SetSpec) -> None:
    where = f"set '{spec.name}'"
    if not re.fullmatch(r"[^\W_][\w.-]{0,99}", spec.name):
        raise UsageError(
            where, "the name cannot be used", "use letters, digits, '.', '_' and '-' (it becomes a folder)"
        )
    for style, question in (("raw", spec.raw.question), ("chat", spec.chat.question)):
        if question.count("{prompt}") != 1:
            raise UsageError(f"{where}: {style}.question", "it does not hold {prompt} once", "write {prompt} into it")
    if min(spec.raw.num_fewshot, spec.chat.num_fewshot) < 0:
        raise UsageError(f"{where}: num_fewshot", "it is negative", "use 0 or more")
    if spec.max_tokens < 1:
        raise UsageError(f"{where}: max_tokens", f"it is {spec.max_tokens}", "use 1 or more")
    if spec.stop is not None and "" in spec.stop:
        raise UsageError(f"{where}: stop", "a stop string is empty", "drop it")
    if spec.extract is not None:
        try:
            re.compile(spec.extract)
        except (re.error, OverflowError, RecursionError) as e:
            raise UsageError(f"{where}: extract", f"not a pattern ({e})", "mend the pattern") from None
