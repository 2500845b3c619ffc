"""Replay without any data of the base's training: texts that the base itself writes before the first step.

They are kept as the very tokens that it drew, so that what is replayed is its own distribution and nothing is
tokenised twice. A sample that was cut at its limit has no end in it: the model does not learn to stop there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning.plan import request_id
from forgetbench.training.asking import Ask
from forgetbench.training.check.rows import Row, read_rows
from forgetbench.training.manifest import damage, seal
from forgetbench.training.mix import to_jsonl
from forgetbench.training.recipe import FromBase, PromptFile
from forgetbench.training.tokenise import Sample, check_characters
from forgetbench.types import Generate, Message, Prompt, Request, TokenStats

FOLDER = "from_base"
SAMPLES = "samples.jsonl"


class Asked(NamedTuple):
    """A prompt for the base."""

    row: Row
    weight: float = 1.0
    """Loss weight of what it answers."""


def asked(files: Sequence[PromptFile], root: Path) -> list[Asked]:
    """The prompts of training files; plain text among them is left out. Raises UsageError for lines that cannot be read
    or asked, and for a file without any prompt."""
    found = []
    for file in files:
        path = root / file.path
        mine = [row for row in read_rows([path]) if _asks(row)]
        if not mine:
            cure = "name chats or pairs; without `prompts` the base writes from the first token of a text on"
            raise UsageError(str(path), "asks nothing", cure)
        for row in mine:
            check_characters(row.prompt, str(path.with_name(row.where)))
            found.append(Asked(replace(row, task_type=row.task_type or file.task_type), file.weight))
    return found


def written(point: Checkpoint, ask: Ask, prompts: Sequence[Asked], wanted: FromBase, seed: int) -> list[dict[str, Any]]:
    """n texts of the base: answers to `prompts` in turn, or (there are none) texts from their first token on.

    Each has prompt_ids, ids (the last one ends the text, unless it was cut), text, task_type, weight and seed; the same
    for the same seed. What the engine failed on is left out. Raises UsageError where nothing came, or the base cannot
    be asked.
    """
    begun = [(_prompt(point, p.row), p.row.task_type, p.weight) for p in prompts] or [(_first(point), None, 1.0)]
    seeds = [int(s) for s in np.random.SeedSequence([seed, 5]).generate_state(wanted.n) >> 1]
    requests = []
    for number, drawn in enumerate(seeds):
        prompt, task_type, weight = begun[number % len(begun)]
        body = Generate(
            wanted.max_tokens, temperature=wanted.temperature, seeds=(drawn,),
            stats=TokenStats(logprobs=False, entropy=False),
        )  # fmt: skip
        request = Request(request_id(point.digest, prompt, body), point.digest, prompt, body)
        requests.append((request, {"task_type": task_type, "weight": weight, "seed": drawn}))
    answers = ask([request for request, _ in requests])
    made = []
    for request, about in requests:
        response = answers.get(request.request_id)
        if response is None or not response.generations:
            continue
        (found,) = response.generations
        ids = list(found.token_ids)
        if found.finish_reason == "stop" and point.stop_ids and (not ids or ids[-1] not in point.stop_ids):
            ids.append(point.stop_ids[0])  # an engine that leaves it out
        made.append(
            {"prompt_ids": _ids(point, request.prompt), "ids": ids, "text": found.text, **about}
        )  # fmt: skip
    if not any(line["ids"] for line in made):
        raise UsageError("replay.from_base", "the base wrote nothing", "look at what it answers, or replay from files")
    return [line for line in made if line["ids"]]


def keep(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the samples into `folder`, sealed with their hash."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SAMPLES).write_bytes(to_jsonl(lines))
    seal(folder)


def is_kept(folder: Path) -> bool:
    """Whether the samples are there and as they were written."""
    return damage(folder) is None


def samples(folder: Path, max_length: int) -> list[Sample]:
    """Kept samples as documents; what is beyond the limit is cut. Raises UsageError for a prompt that fills it all."""
    found = []
    with (folder / SAMPLES).open(encoding="utf-8") as handle:
        for number, raw in enumerate(handle, 1):
            line = json.loads(raw)
            before, where = len(line["prompt_ids"]), f"{folder / SAMPLES}:{number}"
            if before >= max_length:
                raise UsageError(
                    where, f"its prompt has {before} tokens, the limit is {max_length}", "raise `max_length`"
                )
            ids = np.asarray([*line["prompt_ids"], *line["ids"]][:max_length], dtype=np.int64)
            mask = (np.arange(len(ids)) >= before).astype(np.float32)
            mask[0] = 0.0
            if mask.any():
                found.append(Sample(ids, mask, line["task_type"], line.get("weight", 1.0), where))
    return found


def _asks(row: Row) -> bool:
    return not row.plain and bool(row.prompt.strip())


def _prompt(point: Checkpoint, row: Row) -> Prompt:
    if not point.has_chat_template:
        return Prompt(text=f"{row.prompt}\n")
    last = max((i for i, t in enumerate(row.turns) if t.role == "assistant"), default=len(row.turns))
    turns = [t for t in row.turns[:last] if t.role in ("system", "user", "assistant")]
    messages = [Message(t.role, t.text) for t in turns]  # type: ignore[arg-type]
    return Prompt(text=point.render_chat(messages), add_special_tokens=False)


def _first(point: Checkpoint) -> Prompt:
    tokenizer = point.tokenizer()
    first = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
    if first is None:
        cure = "give `prompts`, or replay from files"
        raise UsageError("replay.from_base", "the base has neither BOS nor EOS to begin a text with", cure)
    return Prompt(token_ids=(int(first),))


def _ids(point: Checkpoint, prompt: Prompt) -> list[int]:
    if prompt.token_ids is not None:
        return list(prompt.token_ids)
    return list(point.tokenizer()(prompt.text, add_special_tokens=prompt.add_special_tokens)["input_ids"])
