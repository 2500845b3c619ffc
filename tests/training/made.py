"""Rows, files and a checkpoint without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.engines.scripted import ScriptedEngine
from forgetbench.training.asking import Ask
from forgetbench.training.check.rows import Row, Turn
from forgetbench.types import Request, Response

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def row(prompt: str, answer: str, task_type: str | None = "a/b", line: int = 1) -> Row:
    return Row(f"made.jsonl:{line}", (Turn("user", prompt), Turn("assistant", answer)), task_type)


def rows(pairs: Sequence[tuple[str, str]], task_type: str | None = "a/b", start: int = 1) -> list[Row]:
    return [row(p, a, task_type, n) for n, (p, a) in enumerate(pairs, start)]


def chat(prompt: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], **more}


def write(file: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def point(template: str | None = TEMPLATE, **config: Any) -> Checkpoint:
    return Checkpoint(
        alias="made",
        spec=ModelSpec(alias="made", path="made", engine="scripted"),
        folder=Path("made"),
        digest="0123456789abcdef",
        parts={"weights": "made"},
        has_chat_template=template is not None,
        stop_ids=(),
        template=template,
        config=config,
    )


def asker(answer: Callable[[Request], Any]) -> tuple[Ask, list[Request]]:
    """Answers by a function, and every request that was asked."""
    seen: list[Request] = []
    engine = ScriptedEngine(answer)

    def ask(requests: Sequence[Request]) -> Mapping[str, Response]:
        seen.extend(requests)
        return {r.request_id: r for r in engine.run(list(requests)) if r.error is None}

    return ask, seen
