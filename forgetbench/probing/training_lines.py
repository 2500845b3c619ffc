"""Training examples as question and answer, and those that teach what a probe found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetbench.analysis.leaks import grams, words
from forgetbench.errors import UsageError
from forgetbench.probing.modal import forms_of
from forgetbench.probing.types import Example, Form, Line, Taught
from forgetbench.probing.variants import words_of
from forgetbench.training.data import examples, keys_of, read_training

UNTYPED = "all"


def read_examples(files: Sequence[Path]) -> list[Example]:
    """The examples of training files that ask and answer, in their order; plain text has none.

    Layouts, and mistakes, are those of `training.data.read_training`: all mistakes are raised at once. Of a
    conversation the last answer counts, and as its question the last user turn. A `task_type` is kept where the file
    has one.
    """
    read_training(files)
    found: list[Example] = []
    for file in files:
        for line, example in examples(file):
            if isinstance(example, Mapping):
                pair = _pair(example)
                if pair is not None:
                    kind = example.get("task_type")
                    task_type = kind if isinstance(kind, str) and kind.strip() else UNTYPED
                    found.append(Example(*pair, task_type, f"{file.name}:{line}"))
    if files and not found:
        cure = "give chats, instruction/output, prompt/response or question/answer"
        raise UsageError(str(files[0]), "holds no example with a question and an answer", cure)
    return found


def _pair(example: Mapping[str, Any]) -> tuple[str, str] | None:
    for key in ("messages", "conversations"):
        if example.get(key):
            return _of_turns(list(_turns(example[key])))
    keys = keys_of(example)
    prompt = example[keys.question] if keys.question else None
    answer = example[keys.answer] if keys.answer else None
    if isinstance(prompt, list) or isinstance(answer, list):
        return _of_turns([*_turns(prompt or []), *_turns(answer or [])])
    if not isinstance(prompt, str) or not isinstance(answer, str) or not prompt or not answer:
        return None
    more = example[keys.more] if keys.more else None
    return (f"{prompt}\n{more}" if isinstance(more, str) and more else prompt), answer


def _turns(turns: Any) -> Iterator[tuple[str, str]]:
    """(role, text) of each turn that has a text."""
    import json

    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except ValueError:
            yield "user", turns
            return
    for turn in turns:
        role = str(turn.get("role") or turn.get("from") or "")
        content = turn.get("content") if turn.get("content") is not None else turn.get("value")
        if isinstance(content, list):
            content = "\n".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping))
        if isinstance(content, str):
            yield {"human": "user", "gpt": "assistant"}.get(role, role), content


def _of_turns(turns: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The last answer and the user turn before it."""
    for at in range(len(turns) - 1, 0, -1):
        if turns[at][0] == "assistant":
            asked = [text for role, text in turns[:at] if role == "user"]
            return (asked[-1], turns[at][1]) if asked else None
    return None


def taught(question: str, form: Form, named: Sequence[str], examples: Sequence[Example], *, most: int = 8) -> Taught:
    """The training lines nearest to a question, those with the modal answer and a named word first.

    Nearness is the share of the question's n-grams of 1, 2 and 3 words that a line's prompt has.
    """
    mine = _ngrams(question)
    lines: list[tuple[tuple[bool, int, float], Line]] = []
    by_word = {word: [0, 0] for word in named}
    for example in examples:
        same = form in forms_of(example.prompt, example.answer)
        inside = set(words_of(example.prompt))
        held = [word for word in named if word in inside]
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
