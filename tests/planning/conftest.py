"""A checkpoint without weights, and a task that can be bent to any purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.tasks.base import content_hash
from forgetbench.types import Item, ItemKey, Judged, PromptSpec, Response

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if not loop.last or m.role != 'assistant' %}[/]{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


class FakeTask:
    """Items are texts; `spec` makes the PromptSpec of one."""

    version = "1"
    metrics = ("acc",)
    binary = True

    def __init__(self, name: str, texts: Sequence[str], spec: Callable[[str], PromptSpec]) -> None:
        self.name, self._texts, self._spec = name, texts, spec

    def load(self) -> Sequence[Item]:
        seen: dict[str, int] = {}
        items = []
        for text in self._texts:
            digest = content_hash({"text": text})
            key = ItemKey(self.name, digest, seen.setdefault(digest, 0))
            seen[digest] += 1
            items.append(Item(key, "a/b", {"text": text}, "gold", "g"))
        return items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        return self._spec(item.doc["text"])

    def score(self, item: Item, response: Response) -> list[Judged]:
        raise NotImplementedError

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        raise NotImplementedError


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Checkpoint]:
    """A scripted checkpoint; another script is another digest."""

    def build(alias: str = "m", template: str | None = TEMPLATE, script: str = "{}") -> Checkpoint:
        file = tmp_path / f"{abs(hash(script))}.json"
        file.write_text(script)
        return resolve(ModelSpec(alias, chat_template=template, engine="scripted", engine_args={"script": str(file)}))

    return build


@pytest.fixture
def checkpoint(make: Callable[..., Checkpoint]) -> Checkpoint:
    return make()
