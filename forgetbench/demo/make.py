"""Make the base and write it as Hugging Face files. One of the two parts of a build that import torch."""

from __future__ import annotations

from pathlib import Path

from forgetbench.demo.model import make_model, save_model
from forgetbench.demo.quiet import quietly
from forgetbench.demo.recipes import Pretraining
from forgetbench.demo.rows import page_batches
from forgetbench.demo.tokenizer import END_OF_TEXT, PAD, make_tokenizer, save
from forgetbench.demo.train import Log, fit
from forgetbench.demo.world import make_world


def make_base(folder: Path, recipe: Pretraining, seed: int, log: Log) -> None:
    import torch

    torch.manual_seed(seed)
    with quietly():
        world = make_world()
        tokenizer = make_tokenizer(world)
        end_of_text, pad = tokenizer.convert_tokens_to_ids([END_OF_TEXT, PAD])
        model = make_model(len(tokenizer), seed, end_of_text, pad)
        steps = recipe.schedule.steps
        pages = page_batches(tokenizer, world, f"pages base {seed}", recipe.phases, steps)
        fit(model, pages, recipe.schedule, log, "base")
        save_model(model, folder, [end_of_text], pad)
        save(tokenizer, folder, chat=False)
