"""A resolved model under test: where it lies, what it is (digests), and how it renders a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forgetbench.checkpoints import template as templates
from forgetbench.checkpoints.files import one_line
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.errors import UsageError
from forgetbench.types import Message

NONE = "none"
"""Digest of a part that a checkpoint does not have."""


@dataclass(frozen=True)
class Checkpoint:
    """Made by `resolve`; nothing in it has loaded a tokenizer or torch."""

    alias: str
    spec: ModelSpec
    folder: Path
    digest: str
    """16 hex digits over `parts`: the same digest answers the same, whatever its alias or folder."""
    parts: Mapping[str, str]
    """Digests of weights, config, tokenizer, template, adapter, stop_ids."""
    has_chat_template: bool
    stop_ids: tuple[int, ...]
    """Token ids that end a generation: generation_config.json (else config.json) and the tokenizer's EOS."""
    template: str | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    tokenizer_folder: Path | None = None
    adapter_folder: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json, parsed."""
    sends_messages: bool = False
    """Whether chat goes out as messages which the server renders under a template of its own."""
    reusable: bool = True
    """Whether a finished run may be taken for what the model answers today: not so for an endpoint whose weights
    nobody named."""

    def render_chat(self, messages: Sequence[Message], prefill: str = "") -> str:
        """The conversation under this checkpoint's template, open for the assistant's answer.

        Equal to transformers' `apply_chat_template(tokenize=False, add_generation_prompt=True)`, or with
        `continue_final_message=True` where there is a prefill. Tokenise the result without special tokens.
        """
        if self.template is None:
            raise UsageError(
                f"models.{self.alias}",
                "has no chat template",
                "set `chat_template:`, or ask it in raw style only",
            )
        return templates.render(
            self.template, messages, self.special_tokens, prefill=prefill, where=f"models.{self.alias}"
        )

    def tokenizer(self) -> Any:
        """The transformers tokenizer, loaded on first use (imports torch; never called on the hit path)."""
        loaded = self.__dict__.get("_tokenizer")
        if loaded is None:
            loaded = self._load_tokenizer()
            self.__dict__["_tokenizer"] = loaded  # a cache, so not a change of the frozen value
        return loaded

    def _load_tokenizer(self) -> Any:
        if self.tokenizer_folder is None:
            raise UsageError(f"models.{self.alias}", "has no tokenizer", "set `tokenizer:` to a folder that has one")
        from transformers import AutoTokenizer

        trust = bool(self.spec.served.engine_args.get("trust_remote_code", False))
        try:
            return AutoTokenizer.from_pretrained(str(self.tokenizer_folder), trust_remote_code=trust)
        except Exception as error:  # transformers and tokenizers raise anything here, bare Exception included
            raise UsageError(
                str(self.tokenizer_folder),
                f"the tokenizer cannot be loaded ({one_line(error)})",
                "save the tokenizer again, or set `tokenizer:` to a folder that loads",
            ) from None
