"""What a user says about a model under test, before anything on disk is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One entry of `models:` in forgetbench.yaml. Relative paths are the caller's to resolve."""

    alias: str
    path: str = ""
    """Folder with weights, or a hub id. Empty for a scripted model."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    tokenizer: str | None = None
    """Folder or hub id of another tokenizer; None: the model's own."""
    chat_template: str | None = None
    """Path of a Jinja file, or the template itself; None: what the tokenizer brings."""
    adapter: str | None = None
    """Folder or hub id of a LoRA adapter."""
    dtype: str = "auto"
    """float32, bfloat16, float16, or auto (what config.json says)."""
    engine: str = "transformers"
    engine_args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def served(self) -> ModelSpec:
        """The model as the engine sees that computes: for `engine: ray` that of the engine inside its actors."""
        if self.engine != "ray":
            return self
        inner = self.engine_args.get("engine_args")
        return replace(
            self,
            engine=str(self.engine_args.get("engine") or "transformers"),
            engine_args=inner if isinstance(inner, Mapping) else {},
        )
