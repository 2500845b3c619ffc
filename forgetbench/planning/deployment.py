"""Bind the deployment preset to a checkpoint: its template's think tags, and room for the budget."""

from __future__ import annotations

import json
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.scoring.thinking import hidden_tags, opened_by, template_tags
from forgetbench.tasks.base import Task
from forgetbench.tasks.deployment import BUDGET, Asked, Deployment
from forgetbench.types import Message, Style


def bind(task: Task, style: Style, checkpoint: Checkpoint, max_tokens: int | None) -> Task:
    """The task as this checkpoint is asked; a task that is not under the preset is returned as it is.

    Raises UsageError where thinking could not be seen, or where the budget fills the context: both
    checkpoints must get the same one, so it is never cut for one of them.
    """
    if not isinstance(task, Deployment):
        return task
    _check_room(task.name, checkpoint, max_tokens)
    tags = template_tags(checkpoint.template)
    if style == "raw" or checkpoint.template is None:
        return task.under(Asked(style, tags))
    in_template = [t for t in tags if t.close in checkpoint.template or t.open in checkpoint.template]
    hidden = hidden_tags(_special_tokens(checkpoint), in_template) if in_template else ()
    if hidden:
        raise UsageError(
            f"models.{checkpoint.alias}",
            f"its think tag {hidden[0]} is a special token, which decoding drops: thinking cannot be told from the "
            "answer",
            'set `"special": false` for it in tokenizer.json, or use preset: parity',
        )
    prompt = checkpoint.render_chat((Message("user", "?"),))
    return task.under(Asked(style, tags, opened_by(prompt, tags)))


def _check_room(name: str, checkpoint: Checkpoint, max_tokens: int | None) -> None:
    if max_tokens is not None:
        return
    given = checkpoint.spec.served.engine_args.get("max_length")
    config: Any = checkpoint.config.get("text_config") or checkpoint.config
    limits = [given, *(config.get(k) for k in ("n_positions", "max_position_embeddings", "n_ctx"))]
    context = next((int(v) for v in limits if isinstance(v, int) and not isinstance(v, bool)), None)
    if context is not None and context < 2 * BUDGET:
        raise UsageError(
            f"task {name}",
            f"preset: deployment wants {BUDGET} new tokens, half or more of the context of {checkpoint.alias} "
            f"({context})",
            f"set max_tokens for the task in the suite, such as {max(1, context // 2)}; both checkpoints get it",
        )


def _special_tokens(checkpoint: Checkpoint) -> set[str]:
    """Contents of the special tokens: those that the config names, and those of tokenizer.json."""
    found = set(checkpoint.special_tokens.values())
    file = checkpoint.tokenizer_folder / "tokenizer.json" if checkpoint.tokenizer_folder else None
    if file is not None and file.is_file():
        try:
            added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens", [])
            found |= {str(t["content"]) for t in added if t.get("special")}
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return found  # a tokenizer.json that cannot be read is reported by whoever needs it
    return found
