"""A base that never chatted gets its chat template, and the token that ends an answer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError


def dressed(tokenizer: Any, template: Path | None, end_of_turn: str | None, where: str) -> tuple[Any, Any]:
    """The tokenizer that training data is read with, and the one that is written beside the weights.

    template: a Jinja file; None: the tokenizer's own. end_of_turn: a token of the vocabulary, the written tokenizer's
    end of sequence; plain text still ends in the base's. Raises UsageError for a file or token that is not there.
    """
    reads = copy.deepcopy(tokenizer)
    if template is not None:
        try:
            reads.chat_template = template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{where}: chat_template", f"{template} cannot be read ({error})", "check the path"
            ) from None
    writes = copy.deepcopy(reads)
    if end_of_turn is not None:
        if end_of_turn not in tokenizer.get_vocab():
            raise UsageError(
                f"{where}: end_of_turn",
                f"'{end_of_turn}' is no token of the tokenizer",
                "name one of its special tokens",
            )
        writes.eos_token = end_of_turn
    return reads, writes


def stops_at(model: Any, tokenizer: Any, end_of_turn: str | None) -> None:
    """Generation of `model` ends at the end of a turn, and still where the base's did. Changes its config in place."""
    if end_of_turn is None:
        return
    had = model.config.eos_token_id
    before = [] if had is None else list(had) if isinstance(had, list) else [had]
    ends = list(dict.fromkeys([tokenizer.convert_tokens_to_ids(end_of_turn), *before]))
    model.config.eos_token_id = ends
    if model.generation_config is not None:
        model.generation_config.eos_token_id = ends
