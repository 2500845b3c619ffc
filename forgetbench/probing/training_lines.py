"""Training examples as question and answer, and those that teach what a probe found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from forgetbench.analysis.leaks import grams, words
from forgetbench.errors import UsageError
from forgetbench.probing.modal import forms_of
from forgetbench.probing.types import Example, Form, Line, Taught
from forgetbench.probing.variants import finder
from forgetbench.training.check.rows import Row, Turn, row_of
from forgetbench.training.data import examples, read_training
from forgetbench.types import Message

UNTYPED = "all"
_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system", "user": "user", "assistant": "assistant",
}  # fmt: skip


def read_examples(files: Sequence[Path]) -> list[Example]:
    """The examples of training files that ask and answer, in their order; plain text has none.

    Layouts, and mistakes, are those of `training.data.read_training`: all mistakes are raised at once. Of a
    conversation the last answer counts, as its question the last user turn before it, and what stands before that is
    kept. A `task_type` is kept where the file has one.
    """
    read_training(files)
    found: list[Example] = []
    for file in files:
        for line, example in examples(file):
            if isinstance(example, Mapping):
                made = _example(row_of(example, f"{file.name}:{line}"), tools=bool(example.get("tools")))
                if made is not None:
                    found.append(made)
    if files and not found:
        cure = "give chats, instruction/output, prompt/response or question/answer"
        raise UsageError(str(files[0]), "holds no example with a question and an answer", cure)
    return found


def _example(row: Row, *, tools: bool) -> Example | None:
    """tools: the line describes some, which a template writes into the prompt."""
    turns = row.turns
    answers = [i for i, turn in enumerate(turns) if turn.role == "assistant" and turn.text.strip()]
    at = answers[-1] if answers else 0
    asked = [i for i, turn in enumerate(turns[:at]) if turn.role == "user"]
    if row.plain or not asked or not turns[asked[-1]].text:
        return None
    before: tuple[Message, ...] | None = None
    if asked[-1] == at - 1 and not tools and not any(turn.calls for turn in turns[: at + 1]):
        before = _messages(turns[: at - 1])
    return Example(turns[asked[-1]].text, turns[at].text, row.task_type or UNTYPED, row.where, before)


def _messages(turns: Sequence[Turn]) -> tuple[Message, ...] | None:
    """None: a turn has a role that no prompt of ours has, such as tool."""
    made = [Message(_ROLES[turn.role], turn.text) for turn in turns if turn.role in _ROLES]
    return tuple(made) if len(made) == len(turns) else None


def taught(question: str, form: Form, named: Sequence[str], examples: Sequence[Example], *, most: int = 8) -> Taught:
    """The training lines nearest to a question, those with the modal answer and a named word first.

    Nearness is the share of the question's n-grams of 1, 2 and 3 words that a line's prompt has.
    """
    mine = _ngrams(question)
    lines: list[tuple[tuple[bool, int, float], Line]] = []
    by_word = {word: [0, 0] for word in named}
    for example in examples:
        same = form in forms_of(example.prompt, example.answer)
        held = list(filter(finder(example.prompt), named))
        for word in held:
            by_word[word][0] += 1
            by_word[word][1] += same
        overlap = len(mine & _ngrams(example.prompt)) / max(len(mine), 1)
        if same or overlap > 0:
            line = Line(example.where, example.prompt, example.answer, overlap, same)
            lines.append(((same, len(held), overlap), line))
    lines.sort(key=lambda pair: pair[0], reverse=True)
    return Taught(
        total=len(examples),
        with_form=sum(key[0] for key, _ in lines),
        by_word={word: (n, k) for word, (n, k) in by_word.items()},
        lines=tuple(line for _, line in lines[:most]),
    )


def _ngrams(text: str) -> frozenset[str]:
    sequence = words(text)
    return frozenset(gram for n in (1, 2, 3) for gram in grams(sequence, n))
