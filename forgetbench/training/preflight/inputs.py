"""A recipe read as training would read it: data, tokenizer, model, and the layout of the whole run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetbench.errors import ForgetbenchError, ManyUsageErrors, UsageError, combined
from forgetbench.training.base import embedding_rows, load_model, loading
from forgetbench.training.check.rows import row_of
from forgetbench.training.data import examples
from forgetbench.training.preflight.types import Inputs, Line, Part, Retention
from forgetbench.training.recipe import DataFile, Recipe


def gather(
    recipe: Recipe,
    root: Path,
    base: str,
    config: Path | None = None,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
) -> Inputs:
    """Read everything that the recipe names. `root`: where its paths begin; `base`: folder with the weights; `config`:
    forgetbench.yaml, `data_dir`: for the retention suite's data.

    What training only makes while it runs is left out: the reference of KL, the base's own samples for replay and the
    answers that it rewrites. Raises UsageError, ManyUsageErrors with every bad line of data.
    """
    from forgetbench.training.dress import dressed, stops_at

    template = None if recipe.chat_template is None else root / recipe.chat_template
    with loading(base):
        from transformers import AutoTokenizer

        plain = AutoTokenizer.from_pretrained(base)
    tokenizer, _ = dressed(plain, template, recipe.end_of_turn, "recipe")
    # Data first: its mistakes are told before gigabytes are loaded.
    replayed = recipe.replay.files if recipe.replay is not None else ()
    target, replay, held_out = _parts((recipe.data, replayed, recipe.held_out), recipe, root, tokenizer)
    model = load_model(base)
    stops_at(model, tokenizer, recipe.end_of_turn)
    rows = embedding_rows(model)
    samples = [s for part in (target, replay, held_out) for s in part.samples]
    rowless = any(int(s.ids.max(initial=0)) >= rows for s in samples)
    types = {s.task_type for s in samples}
    documents, batches, pad_id = _laid_out(recipe, root, model, tokenizer, types, rowless=rowless)
    return Inputs(
        recipe=recipe,
        tokenizer=tokenizer,
        model=model,
        target=target,
        replay=replay,
        held_out=held_out,
        documents=documents,
        batches=batches,
        pad_id=pad_id,
        retention=_retention(recipe, root, config, data_dir, offline=offline),
    )


def _parts(groups: Sequence[Sequence[DataFile]], recipe: Recipe, root: Path, tokenizer: Any) -> list[Part]:
    """The samples of each group of files. Raises the mistakes of all of them at once."""
    parts: list[Part] = []
    errors: list[UsageError] = []
    for files in groups:
        try:
            parts.append(_part(files, recipe, root, tokenizer))
        except ManyUsageErrors as many:
            errors += many.errors
        except UsageError as error:
            errors.append(error)
    if errors:
        raise combined(errors)
    return parts


def _part(files: Sequence[DataFile], recipe: Recipe, root: Path, tokenizer: Any) -> Part:
    from forgetbench.training.tokenise import Reading, Source, read_samples

    if not files:
        return Part()
    reading = Reading(recipe.max_length, recipe.loss.turns, recipe.require_task_type)
    sources = [Source(root / f.path, f.weight, f.task_type, f.style) for f in files]
    samples = read_samples(sources, tokenizer, reading)
    has_template = bool(tokenizer.chat_template)
    lines = {}
    for source in sources:
        for number, example in examples(source.file):
            where = f"{source.file}:{number}"
            row = row_of(example, where)
            keys = ("messages", "conversations")
            chat = isinstance(example, Mapping) and any(example.get(k) is not None for k in keys)
            pair = not row.plain and not chat
            lines[where] = Line(row, chat or (pair and has_template and source.style != "raw"))
    return Part(samples, lines)


def _laid_out(
    recipe: Recipe, root: Path, model: Any, tokenizer: Any, types: set[str | None], *, rowless: bool
) -> tuple[Any, Any, int]:
    """Documents, batches and padding as the trainer itself makes them.

    types: task_types of the files. rowless: there are tokens without a row of the embedding, a finding of its own.
    """
    from forgetbench.training import fit

    # A copy of the weights for KL, an adapter and an opened suite change no layout.
    off: dict[str, Any] = {"kl": None, "ewc": None, "self_distillation": None, "retention": None, "tensorboard": False}
    replay = recipe.replay if recipe.replay is not None and recipe.replay.files else None
    if recipe.replay is not None and recipe.replay.from_base is not None:
        # What the base will write may have task_types that no file has, and weighing refuses unknown ones.
        weights = {k: w for k, w in recipe.loss.task_weights.items() if any(f"{t}/".startswith(f"{k}/") for t in types)}
        off["loss"] = recipe.loss.model_copy(update={"task_weights": weights})
    if rowless:  # it reads the base's likelihoods
        off["stm_threshold"] = None
    laid = recipe.model_copy(update={**off, "method": "full", "replay": replay})
    with tempfile.TemporaryDirectory() as folder:
        corpus = fit.build(laid, root, Path(folder), model, tokenizer, rowless=rowless).corpus
    return corpus.documents, corpus.batches, corpus.pad_id


def _retention(
    recipe: Recipe, root: Path, config: Path | None, data_dir: Path | None, *, offline: bool
) -> Retention | None:
    if recipe.retention is None:
        return None
    from forgetbench.analysis.leaks import Question
    from forgetbench.tasks.questions import question_of
    from forgetbench.workspace import open_workspace

    name = recipe.retention.suite

    def named(value: str) -> str:
        return str((root / value).resolve()) if (root / value).is_file() else value

    try:
        # importing: suite and policy are read, and no model of a config is needed for that.
        ws = open_workspace(
            config,
            suite=named(name),
            policy=named(recipe.retention.policy),
            importing=True,
            data_dir=data_dir,
            offline=offline,
        )
        questions = [Question(i.key, *question_of(task, i)) for _, task in ws.tasks() for i in task.load()]
    except ForgetbenchError as error:
        problem = " ".join(str(error).split())
        return Retention(name, error=f"{name} cannot be used: {problem}", cure="mend suite and policy of `retention`")
    return Retention(name, tuple(questions))
