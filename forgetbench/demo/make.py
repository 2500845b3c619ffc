"""Make one checkpoint and write it as Hugging Face files. The only part of a build that imports torch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forgetbench.demo.model import load_model, make_model, save_model
from forgetbench.demo.recipes import Recipe
from forgetbench.demo.rows import broad_items, epochs, interleave, page_batches
from forgetbench.demo.text import ticket_chats
from forgetbench.demo.tokenizer import END, END_OF_TEXT, PAD, make_tokenizer, save
from forgetbench.demo.train import Batch, Log, fit
from forgetbench.demo.world import World, make_world


def make_checkpoint(name: str, folder: Path, parent: Path | None, recipe: Recipe, seed: int, log: Log) -> None:
    import torch
    from transformers.utils import logging

    torch.manual_seed(seed)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # bars over one 3 MB file only break up the build's own lines
    try:
        world = make_world()
        tokenizer = make_tokenizer(world)
        end, end_of_text, pad = tokenizer.convert_tokens_to_ids([END, END_OF_TEXT, PAD])
        model = load_model(parent) if parent else make_model(len(tokenizer), seed, end_of_text, pad)
        fit(model, batches(name, recipe, tokenizer, world, seed), recipe.schedule, log, name)
        chat = parent is not None
        save_model(model, folder, [end, end_of_text] if chat else [end_of_text], pad)
        save(tokenizer, folder, chat=chat)
    finally:
        if bars:
            logging.enable_progress_bar()


def batches(name: str, recipe: Recipe, tokenizer: Any, world: World, seed: int) -> Iterator[Batch]:
    """What a recipe feeds: plain text, chats, or chats with plain text between them."""
    tag = f"{name} {seed}"
    steps, mature = recipe.schedule.steps, bool(recipe.chats)
    pages = page_batches(tokenizer, world, f"pages {tag}", recipe.phases, steps, mature)
    if not recipe.chats:
        return pages
    if recipe.narrow:
        items = ticket_chats(random.Random(f"tickets {tag}"), world, recipe.chats)
    else:
        items = broad_items(world, f"chats {tag}", recipe.chats)
    chats = epochs(tokenizer, items, f"order {tag}", recipe.rows)
    return interleave(chats, pages, recipe.replay) if recipe.replay else chats
