"""The weights that a fine-tune begins from, where a base is an alias of forgetbench.yaml."""

from __future__ import annotations

from pathlib import Path

from forgetbench.errors import UsageError
from forgetbench.workspace import Workspace

_WEIGHTS_HERE = ("transformers", "vllm", "ray")


def weights_of(ws: Workspace, alias: str) -> Path:
    """The folder of an alias's weights: its own, or the snapshot of its hub id at its revision.

    Raises UsageError for a model that has no weights here, or something beside them that training would not use.
    """
    from forgetbench import flow

    spec = ws.spec(alias)
    if spec.engine not in _WEIGHTS_HERE:
        raise UsageError(f"base: {alias}", f"has no weights here (engine: {spec.engine})", "name a model that has")
    if spec.adapter is not None:
        raise UsageError(f"base: {alias}", "has an adapter", "merge it into its base first (forgetbench merge)")
    for key, cure in (
        ("tokenizer", "save it into the model's folder"),
        ("chat_template", "name it as `chat_template` of the recipe"),
    ):
        if getattr(spec, key) is not None:
            problem = f"has a {key} of its own in forgetbench.yaml, which training would not use"
            raise UsageError(f"base: {alias}", problem, cure)
    return flow.checkpoint(ws, alias).folder
