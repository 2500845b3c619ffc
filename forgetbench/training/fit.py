"""From a recipe to a trained folder: reads the data, builds the trainer, resumes, finishes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments

from forgetbench.errors import UsageError
from forgetbench.runs.lock import locked
from forgetbench.training import ewc, from_base, manifest
from forgetbench.training.base import RESIZE, digest_of, embedding_rows, load_model, loading
from forgetbench.training.collate import Document
from forgetbench.training.dress import dressed, stops_at
from forgetbench.training.objective import Corpus, Objective
from forgetbench.training.packing import Layout, batches_of, lay_out
from forgetbench.training.prepare import Where, data_files, judge_of, prepare
from forgetbench.training.recipe import DataFile, LoraConfig, Recipe
from forgetbench.training.retention import Judge
from forgetbench.training.stopping import NoAcceptable, Rules, Trained, read_result
from forgetbench.training.tokenise import Reading, Sample, Source, read_samples, weigh
from forgetbench.training.trainer import FineTune, Log


def arguments(recipe: Recipe, output: Path, steps: int) -> TrainingArguments:
    """The parent's arguments for a recipe of so many steps. What it would log or shuffle, we do ourselves."""
    schedulers = {"cosine": "cosine_with_min_lr", "linear": "linear", "constant": "constant_with_warmup"}
    made = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=1,  # one laid-out batch
        gradient_accumulation_steps=recipe.accumulation,
        max_steps=steps,
        learning_rate=recipe.lr,
        lr_scheduler_type=schedulers[recipe.scheduler],
        lr_scheduler_kwargs={"min_lr_rate": recipe.floor} if recipe.scheduler == "cosine" else None,
        # Of one step alone the whole would be warm-up, at a rate of 0.
        warmup_steps=min(recipe.warmup_steps(steps), steps - 1),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        use_cpu=not torch.accelerator.is_available(),  # without it two processes on a CPU do not know of each other
        bf16=recipe.precision == "bfloat16",
        gradient_checkpointing=recipe.gradient_checkpointing,
        ddp_find_unused_parameters=False,  # compute_loss uses all of them even where nothing counts
        seed=recipe.seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="steps",
        save_steps=recipe.save_every,
        eval_strategy="no" if recipe.eval_every is None else "steps",
        eval_steps=recipe.eval_every,
        logging_strategy="no",
        logging_nan_inf_filter=False,  # a loss that is no number is told as it is
        report_to="none",
        disable_tqdm=True,
    )
    # A process has one device: where it sees several, the parent would split its batch over them (DataParallel), and a
    # batch of ours is laid out whole. `device` is what counts them.
    if made.device.type == "cuda":
        made._n_gpu = min(made._n_gpu, 1)
    return made


def with_adapter(model: Any, lora: LoraConfig, seed: int) -> Any:
    """The model with a fresh LoRA adapter (peft); its random half depends on the seed alone."""
    import peft

    torch.manual_seed(seed)
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(
            "lora.targets", " ".join(str(error).split())[:200], "name modules that the model has"
        ) from None


def rules_of(recipe: Recipe) -> Rules:
    """What a recipe is stopped by, and chooses its checkpoint by."""
    retention, stop = recipe.retention, recipe.stop
    return Rules(
        judged_every=retention.every if retention else None,
        on_fail=retention.on_fail if retention else "stop",
        patience=stop.held_out.patience if stop.held_out else None,
        measure=recipe.loss.reduction,
        explosion=stop.explosion,
    )


def build(
    recipe: Recipe,
    root: Path,
    output: Path,
    model: Any,
    tokenizer: Any,
    log_line: Log | None = None,
    judge: Judge | None = None,
    *,
    rowless: bool = False,
) -> FineTune:
    """Read the data and lay out the run; nothing is trained yet. `root`: where the recipe's paths start. What the base
    has to write first (`prepare`) lies in `output` already. `judge`: of a recipe with `retention`.
    `rowless`: lay out tokens too that the embedding has no row for (the model would fail on them).

    Raises UsageError or ManyUsageErrors for data, tokens and module names that do not fit.
    """
    reading = Reading(recipe.max_length, recipe.loss.turns, recipe.require_task_type)

    def read(files: Sequence[DataFile]) -> list[Sample]:
        return read_samples([Source(root / f.path, f.weight, f.task_type, f.style) for f in files], tokenizer, reading)

    target, held_out = read(data_files(recipe, output)), read(recipe.held_out) if recipe.held_out else []
    replay = []
    if recipe.replay is not None:
        made = from_base.samples(output / from_base.FOLDER, recipe.max_length) if recipe.replay.from_base else []
        replay = made or read(recipe.replay.files)
    samples = [*target, *replay, *held_out]
    if not rowless:
        _have_rows(samples, model)
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    if recipe.stm_threshold is not None:
        model.to(arguments(recipe, output, 1).device)
    documents, channels = weigh(samples, recipe, tokenizer, model, pad, stm=range(len(target)))
    lengths = [len(d.ids) for d in documents]
    layout = Layout(recipe.batch.size, recipe.batch.unit, recipe.packing, recipe.max_length, recipe.seed)
    per_step = recipe.accumulation * arguments(recipe, output, 1).world_size
    after = len(target) + len(replay)
    batches = lay_out(
        lengths,
        range(len(target)),
        layout,
        per_step=per_step,
        steps=recipe.steps,
        epochs=recipe.epochs,
        replay=range(len(target), after),
        share=recipe.replay.share if recipe.replay else 0.0,
        repeat_first=recipe.repeat_first,
    )
    if recipe.stop.held_out is not None and not any(d.weights.any() for d in documents[after:]):
        cure = "mend held_out or loss.task_weights"
        raise UsageError("stop.held_out", "no token of the held-out data has a weight", cure)
    corpus = Corpus(documents, channels, batches, list(batches_of(lengths, range(after, len(samples)), layout)), pad)
    anchor = None
    if recipe.ewc is not None:
        model.to(arguments(recipe, output, 1).device)
        known = [Document(s.ids, s.mask) for s in read(recipe.ewc.files)[: recipe.ewc.samples]]
        output.mkdir(parents=True, exist_ok=True)
        with PartialState().main_process_first():
            anchor = ewc.anchored(model, ewc.kept_fisher(output, model, known, recipe.seed), recipe.ewc.weight)
    kl = recipe.kl
    objective = Objective(
        kl.direction if kl else None,
        kl.weight if kl else 0.0,
        kl.tokens if kl else "supervised",
        recipe.neftune_alpha,
        anchor,
        tuple(sorted(tokenizer.all_special_ids)),
    )
    if recipe.method == "lora":
        model = with_adapter(model, recipe.lora, recipe.seed)
    args = arguments(recipe, output, len(batches) // per_step)
    return FineTune(
        model,
        args,
        corpus,
        objective,
        tokenizer=tokenizer,
        keep=recipe.keep,
        log_line=log_line,
        rules=rules_of(recipe),
        judge=judge,
        tensorboard=recipe.tensorboard,
    )


def _have_rows(samples: Sequence[Sample], model: Any) -> None:
    """Raises UsageError for a token that the embedding has no row for: the model would end in an index error."""
    rows = embedding_rows(model)
    for sample in samples:
        most = int(sample.ids.max(initial=0))
        if most >= rows:
            raise UsageError(sample.where, f"has token {most}, the base's embedding has {rows:,} rows", RESIZE)


def train(
    recipe: Recipe, root: Path, base: str, output: Path, log_line: Log | None = None, where: Where | None = None
) -> Trained:
    """Train `recipe` from the weights at `base` (folder or hub id) into `output`, or go on where it stopped.

    `Trained.final` is `output/final`: weights (LoRA: the adapter) and tokenizer, with their list of files; None where
    no checkpoint is acceptable. The same call on the same folder resumes; a run that is over is returned as it is. Two
    at once on one folder: the second waits, and finds what the first has made.
    `where`: of the base in forgetbench.yaml, for what it is asked before and while training. Raises UsageError,
    ManyUsageErrors, NotWritten, Exploded, and what grading raises.
    """
    templates = [] if recipe.chat_template is None else [DataFile(path=recipe.chat_template)]
    digests = manifest.digests(root, [*recipe.files(), *templates])
    identity = {"base": base, "weights": digest_of(base), "recipe": recipe.model_dump(mode="json"), "data": digests}
    # Not PartialState: before the trainer's arguments are made two processes on a CPU do not know of each other there,
    # and the second would wait for the first for ever.
    with _alone(output, log_line) if os.environ.get("RANK", "0") == "0" else nullcontext():
        return _train(recipe, root, base, output, identity, log_line, where)


def _alone(output: Path, log_line: Log | None) -> AbstractContextManager[None]:
    """No other process trains into the folder; one that does is waited for."""
    say = log_line or print
    return locked(output / manifest.LOCK, on_wait=lambda who: say(f"{output} is in use by {who}: waiting"))


def _train(
    recipe: Recipe,
    root: Path,
    base: str,
    output: Path,
    identity: Mapping[str, Any],
    log_line: Log | None,
    where: Where | None,
) -> Trained:
    from transformers import AutoTokenizer

    state = PartialState()
    if state.is_main_process:
        manifest.claim(output, identity)
    state.wait_for_everyone()
    done = read_result(output)
    if done is not None and (done.final is None or manifest.damage(done.final) is None):
        return done
    template = None if recipe.chat_template is None else root / recipe.chat_template
    with loading(base):
        plain = AutoTokenizer.from_pretrained(base)
    reads, writes = dressed(plain, template, recipe.end_of_turn, "recipe")
    judge = None
    if state.is_main_process:
        prepare(recipe, root, base, output, log_line, where)
        judge = judge_of(recipe, root, base, output, log_line, where)
    state.wait_for_everyone()
    model = load_model(base)
    stops_at(model, reads, recipe.end_of_turn)
    trainer = build(recipe, root, output, model, reads, log_line, judge)
    trainer.tokenizer = writes
    checkpoint, notes = manifest.newest_complete(output)
    if checkpoint is not None:
        notes.append(f"goes on from {checkpoint.name}")
    for note in notes:
        trainer.say(note)
    if state.is_main_process:
        manifest.set_aside(output, 0 if checkpoint is None else manifest.step_of(checkpoint) or 0)
    state.wait_for_everyone()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    trained = trainer.finish(output / "final", identity)
    if trainer.rules.chooses:
        trainer.say(trained.why)
    return trained


def run(
    recipe: Recipe, root: Path, base: str, output: Path, log_line: Log | None = None, where: Where | None = None
) -> Path:
    """As `train`, for callers that need a result: its folder. Raises NoAcceptable where there is none."""
    trained = train(recipe, root, base, output, log_line, where)
    if trained.final is None:
        raise NoAcceptable(output, trained)
    return trained.final
