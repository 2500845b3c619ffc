"""A recipe over a tiny base, gathered as `train --check` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forgetbench.training.preflight.inputs import gather
from forgetbench.training.preflight.types import Inputs
from forgetbench.training.recipe import Recipe
from tests.training import tiny


def chats(n: int = 8, answer: str = "yes") -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"question {i}?"},
                {"role": "assistant", "content": f"{answer} {i}"},
            ],
            "task_type": "a/even" if i % 2 == 0 else "a/odd",
        }
        for i in range(n)
    ]


def gathered(
    folder: Path, rows: Sequence[Any] | None = None, *, template: str | None = tiny.CHAT_TEMPLATE, **settings: Any
) -> Inputs:
    """`settings`: keys of the recipe, `replay` and `held` (rows of such files), `bos` (a token), `model` (of tiny)."""
    tokenizer = tiny.tokenizer(template)
    if bos := settings.pop("bos", None):
        tokenizer.bos_token = bos
    tokenizer.save_pretrained(folder / "base")
    tiny.model(**settings.pop("model", {})).save_pretrained(folder / "base")
    tiny.write_jsonl(folder / "data.jsonl", chats() if rows is None else rows)
    recipe: dict[str, Any] = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-4, "steps": 3}
    recipe |= {"batch": {"tokens": 512}, "max_length": 96}
    if replay := settings.pop("replay", None):
        tiny.write_jsonl(folder / "replay.jsonl", replay)
        recipe["replay"] = {"share": settings.pop("share", 0.25), "files": [{"path": "replay.jsonl"}]}
    if held := settings.pop("held", None):
        tiny.write_jsonl(folder / "held.jsonl", held)
        recipe |= {"held_out": [{"path": "held.jsonl"}], "eval_every": 1}
    read = Recipe.model_validate(recipe | settings)
    return gather(read, folder, str(folder / "base"))
