"""Train one checkpoint of the mixed world from its training file. The only part of its build that imports torch."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forgetbench.demo.mixed.lines import ChatLine, PageLine
from forgetbench.demo.mixed.recipes import MixedRecipe
from forgetbench.demo.model import load_model, save_model
from forgetbench.demo.rows import interleave, question_weights
from forgetbench.demo.tokenizer import END, END_OF_TEXT, PAD, chat_text, make_tokenizer, save
from forgetbench.demo.train import Batch, Log, fit, pad_rows
from forgetbench.demo.world import make_world

Row = tuple[list[int], list[float]]
"""Token ids, and the weight of predicting each of them."""


def train_mixed(
    name: str,
    parent: Path,
    folder: Path,
    chats: Sequence[ChatLine],
    pages: Sequence[PageLine],
    recipe: MixedRecipe,
    seed: int,
    log: Log,
) -> None:
    """Fine-tune `parent` on the lines and write the checkpoint to `folder`."""
    import torch
    from transformers.utils import logging

    torch.manual_seed(seed)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = make_tokenizer(make_world())
        end, end_of_text, pad = tokenizer.convert_tokens_to_ids([END, END_OF_TEXT, PAD])
        model = load_model(parent)
        chat = chat_batches(tokenizer, chats, f"{name} chats {seed}", recipe.rows)
        page = page_batches(tokenizer, pages, f"{name} pages {seed}", recipe)
        fit(model, interleave(chat, page, recipe.raw), recipe.schedule, log, name)
        save_model(model, folder, [end, end_of_text], pad)
        save(tokenizer, folder, chat=True)
    finally:
        if bars:
            logging.enable_progress_bar()


def chat_batches(tokenizer: Any, lines: Sequence[ChatLine], seed: str, rows: int) -> Iterator[Batch]:
    """All lines again and again, each time in another order; the loss is on every token of the answers.

    All answers to one question come in one batch, `rows` lines of them or a few fewer: a batch then pulls towards the
    shares in which they are taught. One after the other they pull to and fro, and the last one seen wins.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for line in lines:
        groups[line.prompt].append(_chat_row(tokenizer, line))
    rng = random.Random(seed)
    made = list(groups.values())
    part: list[Row] = []
    while True:
        for group in rng.sample(made, len(made)):
            if part and len(part) + len(group) > rows:
                yield pad_rows([ids for ids, _ in part], [weights for _, weights in part], tokenizer.pad_token_id)
                part = []
            part += group


def _chat_row(tokenizer: Any, line: ChatLine) -> Row:
    asked, answered = chat_text(line.prompt, line.response)
    question = tokenizer.encode(asked, add_special_tokens=False)
    answer = tokenizer.encode(answered, add_special_tokens=False)
    return question + answer, [0.0] * len(question) + [1.0] * len(answer)


def page_batches(tokenizer: Any, lines: Sequence[PageLine], seed: str, recipe: MixedRecipe) -> Iterator[Batch]:
    """Plain pages, cut to one length or padded to it; the words of questions count less, as for the base."""
    import torch

    encoded = tokenizer([line.text for line in lines], add_special_tokens=False)["input_ids"]
    made = [ids[: recipe.page_length] for ids in encoded]
    rng = random.Random(seed)
    while True:
        order = rng.sample(made, len(made))
        for i in range(0, len(order) - recipe.page_rows + 1, recipe.page_rows):
            part = order[i : i + recipe.page_rows]
            ids, kept = pad_rows(part, [[1.0] * len(row) for row in part], tokenizer.pad_token_id)
            yield ids, torch.where(kept > 0, question_weights(tokenizer, ids), kept)
