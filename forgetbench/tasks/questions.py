"""An item's question as people read it, without template, options or worked examples."""

from __future__ import annotations

from typing import NamedTuple

from forgetbench.tasks.base import Task
from forgetbench.types import Item

_FIELDS = ("question", "prompt", "text", "instruction")


class Asked(NamedTuple):
    text: str
    choices: tuple[str, ...]


def question_of(task: Task, item: Item) -> Asked:
    """The question from the item's document, else from its prompt; and the options that are shown with it."""
    choices = item.doc.get("choices")
    shown = tuple(c for c in choices if isinstance(c, str)) if isinstance(choices, list | tuple) else ()
    for name in _FIELDS:
        value = item.doc.get(name)
        if isinstance(value, str) and value.strip():
            return Asked(value, shown)
    spec = task.prompt(item, 0)
    if spec.messages is not None:
        return Asked("\n\n".join(m.content for m in spec.messages if m.role == "user"), shown)
    return Asked(spec.chat_question or spec.question, shown)
