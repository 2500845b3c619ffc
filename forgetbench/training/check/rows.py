"""Training examples as turns, with the line that each came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from forgetbench.training.data import examples, keys_of, read_training

ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "human": "user",
    "gpt": "assistant",
}
"""Roles that chat templates know, and what the share-GPT names stand for."""
UNTYPED = "(none)"


class Turn(NamedTuple):
    role: str
    """Under its common name; as the file has it where it is unknown."""
    text: str
    calls: bool = False
    """A turn that calls a tool may be without text."""


@dataclass(frozen=True, slots=True)
class Row:
    """One training example. Plain text (replay, continued pretraining) is one turn without a role."""

    where: str
    """`file:line`."""
    turns: tuple[Turn, ...]
    task_type: str | None
    plain: bool = False

    @property
    def answer(self) -> str | None:
        """The text of the last assistant turn; None: there is none."""
        at = self._last()
        return None if at is None else self.turns[at].text

    @property
    def prompt(self) -> str:
        """All that stands before the last assistant turn; of plain text nothing."""
        at = self._last()
        return "" if self.plain else "\n".join(t.text for t in self.turns[: len(self.turns) if at is None else at])

    @property
    def text(self) -> str:
        return "\n".join(t.text for t in self.turns)

    @property
    def kind(self) -> str:
        """The task_type, or UNTYPED."""
        return self.task_type or UNTYPED

    def _last(self) -> int | None:
        return next((i for i in range(len(self.turns) - 1, -1, -1) if self.turns[i].role == "assistant"), None)


def read_rows(files: Sequence[Path]) -> list[Row]:
    """Every example of every file, in order. Mistakes and layouts are those of `training.data.read_training`, which
    raises all of them at once."""
    read_training(files)
    return [
        row_of(example, f"{file.name}:{line}")
        for file in files
        for line, example in examples(file)
        if isinstance(example, str | Mapping)
    ]


def row_of(example: str | Mapping[str, Any], where: str) -> Row:
    """One example that `read_training` accepts. Of a pair of answers (`chosen`, `rejected`) the chosen one counts."""
    if isinstance(example, str):
        return Row(where, (Turn("", example),), None, plain=True)
    kind = example.get("task_type")
    task_type = kind.strip() if isinstance(kind, str) and kind.strip() else None
    beside = example.get("system")
    system = [Turn("system", beside)] if isinstance(beside, str) and beside else []
    for key in ("messages", "conversations"):
        if example.get(key) is not None:
            turns = _turns(example[key])
            own = any(turn.role == "system" for turn in turns)
            return Row(where, (*(() if own else system), *turns), task_type)
    keys = keys_of(example)
    if keys.question is None and (keys.answer is None or example.get("text") is not None):
        return Row(where, (Turn("", str(example.get("text") or "")),), task_type, plain=True)
    made = system
    prompt, answer, more = (None if key is None else example[key] for key in keys)
    if isinstance(prompt, str) and isinstance(more, str):
        prompt = f"{prompt}\n{more}"
    for value, role in ((prompt, "user"), (answer, "assistant")):
        if isinstance(value, str):
            made.append(Turn(role, value))
        elif value is not None:
            made += _turns(value)
    return Row(where, tuple(made), task_type)


def _turns(turns: str | Iterable[Mapping[str, Any]]) -> list[Turn]:
    given = json.loads(turns) if isinstance(turns, str) else turns
    made = []
    for turn in given:
        role = str(turn.get("role") or turn.get("from") or "")
        content = turn.get("content") if turn.get("content") is not None else turn.get("value")
        if isinstance(content, list):
            content = "\n".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping))
        made.append(Turn(ROLES.get(role, role), content or "", bool(turn.get("tool_calls"))))
    return made


def by_kind(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by task_type, in the order of the names; those without one under UNTYPED."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kind, []).append(row)
    return dict(sorted(groups.items()))
