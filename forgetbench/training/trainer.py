"""The trainer: transformers.Trainer with our own batches, loss, watching and checkpoints.

transformers and accelerate keep what they do well (devices, DDP, FSDP, DeepSpeed, optimizers, mixed precision, the
state of optimizer, scheduler and random numbers). What is ours: batches laid out before the first step (packing.py),
the loss with one denominator for all ranks and accumulation steps (losses.py), losses by task_type, and checkpoints
that count only when they are whole (manifest.py).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainingArguments

from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.training import curves, losses, manifest, noise, reference, stopping
from forgetbench.training.collate import Collator
from forgetbench.training.objective import Corpus, Objective
from forgetbench.training.retention import Judge

Log = Callable[[str], None]


class NotWritten(ForgetbenchError):
    """A checkpoint could not be written; the ones before it are whole."""


class FineTune(Trainer):  # type: ignore[misc]
    """One fine-tune. `train()` runs it; `train(resume_from_checkpoint=...)` goes on from a complete checkpoint.

    Reference of KL: for full fine-tunes a frozen copy of the weights as they are when this is built; for a peft model
    the same model with its adapter off. Build it before a checkpoint is loaded. `judge` gives the gate's verdict on a
    checkpoint; it is asked by the main process alone, when `rules` say so.
    """

    # compute_loss divides by the denominator of the whole update itself.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        corpus: Corpus,
        objective: Objective,
        *,
        tokenizer: Any = None,
        keep: int = 2,
        log_line: Log | None = None,
        rules: stopping.Rules | None = None,
        judge: Judge | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.corpus, self.objective, self.keep, self.log_line = corpus, objective, keep, log_line
        self.rules, self.judge, self.tensorboard = rules or stopping.Rules(), judge, tensorboard
        # Not handed to the parent, which would write the tokenizer's special tokens over the model's own.
        self.tokenizer = tokenizer
        self._keeps = reference.keeps_columns(model)
        self._copy = None
        if objective.kl is not None and not reference.is_lora(model):
            self._copy = reference.frozen(model)
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(corpus.documents, corpus.pad_id),
            train_dataset=list(corpus.batches),
            eval_dataset=list(corpus.held_out) or None,
        )
        self.remove_callback(PrinterCallback)
        if self._copy is not None:
            self._copy = self.accelerator.prepare_model(self._copy, evaluation_mode=True)
        self._anchor = None if objective.anchor is None else objective.anchor.to(self.args.device)
        if self._anchor is not None and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise UsageError("ewc", "needs every weight in one piece on each device", "leave FSDP and DeepSpeed out")
        self._tally = self._empty_tally()
        self._kl_sum = self._ewc_sum = 0.0
        self.lines: list[Mapping[str, Any]] = []
        """Of metrics.jsonl up to now."""
        self._norms: list[float] = []
        self._board: Any = None
        self._written = 0
        self._micro = (-1, 0)
        self._clock: tuple[float, int] | None = None

    # ---- loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """Denominators of one update over all ranks and accumulation steps: of the loss and of KL, float32 [2]."""
        totals = torch.zeros(2, dtype=torch.float64)
        for batch in batch_samples:
            weights = batch["weights"][:, 1:]
            totals[0] += weights.double().sum().cpu()
            totals[1] += self._kl_weights(batch).double().sum().cpu()
        moved = totals.to(device=device, dtype=torch.float32)
        if self.args.world_size > 1:
            moved = self.accelerator.reduce(moved, reduction="sum")
        return moved

    def _kl_weights(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weight of the divergence where each token but the first is predicted, [rows, length - 1]."""
        if self.objective.kl is None:
            return torch.zeros_like(batch["weights"][:, 1:])
        if self.objective.kl_tokens == "supervised":
            return batch["weights"][:, 1:]
        documents = batch["documents"]
        return ((documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)).float()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The share of this batch in the loss of the update, times the number of ranks (DDP averages gradients)."""
        if num_items_in_batch is None:
            num_items_in_batch = self._get_num_items_in_batch([inputs], inputs["weights"].device)
        weights, kl_weights = inputs["weights"][:, 1:], self._kl_weights(inputs)
        wanted = (weights > 0) | (kl_weights > 0)
        columns = wanted.any(0).nonzero()[:, 0]
        if not len(columns):  # all masked: every rank still has to take part in the backward pass
            columns = torch.zeros(1, dtype=torch.long, device=weights.device)
        chosen = wanted[:, columns]
        with self._noise(inputs):
            logits = reference.logits_at(model, inputs, columns, keeps=self._keeps)
        picked = logits[chosen]
        targets = inputs["input_ids"][:, 1:][:, columns][chosen]
        w = weights[:, columns][chosen]
        values = losses.nll(picked, targets)
        loss = losses.weighted(values, w, num_items_in_batch[0])
        if self.objective.kl is not None:
            base = self.accelerator.unwrap_model(model)
            theirs = reference.reference_logits(base, self._copy, inputs, columns, keeps=self._keeps)[chosen]
            apart = losses.divergence(picked, theirs, self.objective.kl)
            kl = losses.weighted(apart, kl_weights[:, columns][chosen], num_items_in_batch[1])
            self._kl_sum += float(kl.detach())
            loss = loss + self.objective.kl_weight * kl
        if self._anchor is not None and model.training:
            # Once an update: each rank and accumulation step carries its part.
            penalty = self._anchor.penalty(self.accelerator.unwrap_model(model)) / self._per_step()
            self._ewc_sum += float(penalty.detach())
            loss = loss + penalty
        if model.training:
            self._tally += self._tallied(inputs, columns, chosen, values, w)
        if not chosen.any():
            loss = loss + 0.0 * logits.sum()
        whole: torch.Tensor = loss * self.accelerator.num_processes
        return whole

    def _noise(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        if self.objective.neftune_alpha <= 0 or not self.model.training:
            return nullcontext()
        step, number = self._micro
        number = number + 1 if step == self.state.global_step else 0
        self._micro = (self.state.global_step, number)
        documents = inputs["documents"]
        key = (self.args.seed, 3, self.state.global_step, number, self.args.process_index)
        embeddings_of = self.accelerator.unwrap_model(self.model)
        return noise.neftune(
            embeddings_of, documents, self.objective.neftune_alpha, noise.generator(documents.device, *key)
        )

    # ---- watching

    def _empty_tally(self) -> torch.Tensor:
        return losses.empty_tally(len(self.corpus.channels))

    def _tallied(
        self,
        inputs: Mapping[str, torch.Tensor],
        columns: torch.Tensor,
        chosen: torch.Tensor,
        values: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """Of the supervised ones among the predictions at the `chosen` places of the `columns`."""
        counted = weights > 0

        def of(name: str) -> torch.Tensor:
            return inputs[name][:, 1:][:, columns][chosen][counted].cpu()

        return losses.tally(
            values.detach()[counted].cpu(),
            of("channels"),
            of("documents"),
            torch.isin(of("input_ids"), torch.tensor(self.objective.special_ids, dtype=torch.long)),
            n_channels=len(self.corpus.channels),
            n_tokens=int((inputs["documents"] >= 0).sum()),
        )

    def _summary(self, tally: torch.Tensor) -> dict[str, Any]:
        if self.args.world_size > 1:
            tally = self.accelerator.reduce(tally.float().to(self.args.device), reduction="sum").cpu()
        return losses.summary(tally, self.corpus.channels)

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, epoch: Any, *rest: Any, **named: Any
    ) -> None:
        # Called once more at the end of the epoch, with nothing new to tell.
        if self.state.global_step > self._written:
            self._tell(tr_loss, grad_norm, named.get("learning_rate"))
            if self.rules.judges(self.state.global_step, self.state.max_steps):
                self.control.should_save = True
                self.control.should_evaluate = self.control.should_evaluate or self.rules.patience is not None
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, epoch, *rest, **named)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        # Called before the optimizer's step, which an explosion must not reach.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        wrong = None if norm is None else stopping.explosion(float(norm), self._norms, self.rules.explosion)
        if wrong is not None:
            made = manifest.checkpoints(Path(self.args.output_dir))
            kept = f"{made[-1].name} is as it was" if made else "there is no checkpoint yet"
            raise stopping.Exploded(
                f"step {self.state.global_step + 1}: {wrong}; the step was not made, {kept}; lower `lr`, lengthen "
                "`warmup`, or look at the data of this step, and train into another output folder"
            )
        return norm

    def _tell(self, loss: torch.Tensor, grad_norm: Any, learning_rate: float | None) -> None:
        """One line of metrics.jsonl for the step just made."""
        step = self.state.global_step
        summary = self._summary(self._tally)
        parts = [float(loss) / self.accelerator.num_processes, self._kl_sum, self._ewc_sum]
        objective = torch.tensor(parts, dtype=torch.float64)
        if self.args.world_size > 1:
            objective = self.accelerator.reduce(objective.float().to(self.args.device), reduction="sum").cpu()
        now = time.monotonic()
        seconds, since = (now - self._clock[0], step - self._clock[1]) if self._clock else (0.0, 0)
        self._clock = self._clock or (now, step)
        per_step = seconds / since if since else None
        batch = self.corpus.batches[min(step * self._per_step(), len(self.corpus.batches)) - 1]
        line = {
            "kind": "train",
            "step": step,
            "epoch": batch.epoch,
            "loss": float(objective[0]),
            "kl": float(objective[1]) if self.objective.kl is not None else None,
            "ewc": float(objective[2]) if self._anchor is not None else None,
            "grad_norm": None if grad_norm is None else float(grad_norm),
            "learning_rate": learning_rate,
            **summary,
            "tokens_per_second": summary["tokens"] / per_step if per_step else None,
            "seconds_left": per_step * (self.state.max_steps - step) if per_step else None,
        }
        loss -= loss
        self._tally, self._kl_sum, self._ewc_sum, self._written = self._empty_tally(), 0.0, 0.0, step
        self._norms += stopping.norms([line])
        self._append(line)

    def _per_step(self) -> int:
        return int(self.args.gradient_accumulation_steps * self.args.world_size)

    def _append(self, line: Mapping[str, Any]) -> None:
        self.lines.append(line)
        if not self.is_world_process_zero():
            return
        curves.append(self._metrics, line)
        for name, value in curves.scalars(line).items() if self._board is not None else ():
            self._board.add_scalar(name, value, line["step"])
        self.say(curves.told(line))

    @property
    def _metrics(self) -> Path:
        return Path(self.args.output_dir) / manifest.METRICS

    def say(self, line: str) -> None:
        """Show a line to the user, once however many processes there are."""
        if self.log_line is not None and self.is_world_process_zero():
            self.log_line(line)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Losses of the held-out batches, by task_type too; also a line of metrics.jsonl."""
        batches = self.corpus.held_out
        world, rank = self.args.world_size, self.args.process_index
        tally = self._empty_tally()
        was_training = self.model.training
        self.model.eval()
        for turn in range(-(-len(batches) // world)):
            at = turn * world + rank
            # Every rank reads equally often: sharded models gather their weights together.
            inputs = self._prepare_inputs(self.data_collator([batches[min(at, len(batches) - 1)]]))
            weights = inputs["weights"][:, 1:]
            chosen = weights > 0
            columns = torch.arange(weights.shape[1], device=weights.device)
            targets = inputs["input_ids"][:, 1:][chosen]
            with torch.no_grad():
                logits = reference.logits_at(self.model_wrapped, inputs, columns, keeps=self._keeps)
                values = losses.nll(logits[chosen], targets)
            if at < len(batches):
                tally += self._tallied(inputs, columns, chosen, values, weights[chosen])
        self.model.train(was_training)
        summary = self._summary(tally)
        self._append({"kind": "held_out", "step": self.state.global_step, **summary})
        metrics = {"eval_loss": summary["per_token"], "eval_loss_per_sample": summary["per_sample"]}
        metrics |= {f"eval_loss/{name}": value for name, value in summary["channels"].items()}
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.rules.patience is not None:
            if stopping.best(stopping.held_out(self.lines, self.rules.measure)) == self.state.global_step:
                self.control.should_save = True
            self._stop_where_due()
        return metrics

    def _stop_where_due(self) -> None:
        if stopping.stops(self.lines, self.rules) is not None:
            self.control.should_training_stop = True

    # ---- checkpoints

    def train(self, resume_from_checkpoint: Any = None, **named: Any) -> Any:
        """As the parent's; lines of metrics.jsonl after the checkpoint are dropped, since those steps come again."""
        step = self._written = int(str(resume_from_checkpoint).split("-")[-1]) if resume_from_checkpoint else 0
        if self.is_world_process_zero():
            curves.cut(self._metrics, step)
            self._board = curves.board(self._metrics.parent, step) if self.tensorboard else None
        self.accelerator.wait_for_everyone()
        self.lines = [*curves.read(self._metrics)]
        self._norms = stopping.norms(self.lines)
        # Killed between the checkpoint and its verdict, or between the end and the result.
        if step and self.rules.judges(step, self.args.max_steps) and step not in stopping.verdicts(self.lines):
            self._judge(step)
        if stopping.stops(self.lines, self.rules) is not None:
            self.state.global_step = step
            return None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **named)

    def _judge(self, step: int) -> None:
        found: list[Any] = [None]
        if self.is_world_process_zero():
            if self.judge is None:
                raise ValueError("rules that judge checkpoints need a judge")
            judged = self.judge(step, Path(self.args.output_dir) / f"checkpoint-{step}")
            found = [{"kind": "retention", "step": step, **asdict(judged)}]
        if self.args.world_size > 1:
            broadcast_object_list(found)
        self._append(found[0])
        self._stop_where_due()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        output = Path(self.args.output_dir)
        folder = output / f"checkpoint-{self.state.global_step}"
        main = self.is_world_process_zero()
        if main and folder.exists():  # half written by a run that was killed
            shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if main:
                if self.tokenizer is not None:
                    self.tokenizer.save_pretrained(folder)
                manifest.seal(folder)
        except (ForgetbenchError, OSError, RuntimeError, SafetensorError) as error:  # each library has its own
            free = shutil.disk_usage(output).free
            raise NotWritten(
                f"{folder}: could not be written ({error}; {free / 1e9:.1f} GB free); free space and train again: it "
                "goes on from the checkpoint before"
            ) from error
        if self.rules.judges(self.state.global_step, self.state.max_steps):
            self._judge(self.state.global_step)
        if main:
            best = stopping.chosen(self.lines, self.rules)
            manifest.keep_newest(output, self.keep, [output / f"checkpoint-{best}"])
        self.accelerator.wait_for_everyone()

    def finish(self, final: Path, identity: Mapping[str, Any]) -> stopping.Trained:
        """Write the result to `final` where there is one, the run's manifest beside it, and result.json last.

        Raises UsageError where the checkpoint that is the result has been damaged or is sharded.
        """
        output, main, step = Path(self.args.output_dir), self.is_world_process_zero(), self.state.global_step
        trained = stopping.outcome(self.lines, self.rules, step, final)
        if main and final.exists():
            shutil.rmtree(final)
        self.accelerator.wait_for_everyone()
        if not self.rules.chooses:
            self.save_model(str(final))
        if main:
            if self.rules.chooses and trained.step is not None:
                manifest.copy_weights(output / f"checkpoint-{trained.step}", final)
            if self.tokenizer is not None and trained.final is not None:
                self.tokenizer.save_pretrained(final)
            result = {"step": trained.step, "why": trained.why}
            read = self.corpus.read((step if trained.step is None else trained.step) * self._per_step())
            manifest.write_training(output, identity, manifest.counts(read), step, result)
            if trained.final is not None:
                manifest.seal(final)
            stopping.write_result(output, trained)
            if self._board is not None:
                self._board.close()
        self.accelerator.wait_for_everyone()
        return trained
