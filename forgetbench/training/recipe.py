"""recipe.yaml: one supervised fine-tune as a user writes it, validated before anything heavy loads.

Unknown keys are errors, all mistakes are shown at once with file, line and key (yamlio.py). Paths are relative to the
recipe's file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from forgetbench.config_fields import Count, Strict, Switch, TaskTypePath
from forgetbench.yamlio import load_yaml, validate


def _number(value: Any) -> Any:
    # YAML 1.1 reads 2e-5 as a text, since it has no dot: pydantic makes it a number. A truth value is none.
    if isinstance(value, bool):
        raise ValueError("write a number")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Part = Annotated[Number, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]


class DataFile(Strict):
    """One training file: chats, pairs or plain text (tokenise.py says how a line may look)."""

    path: Text
    weight: Positive = 1.0
    """Loss weight of each of its samples; how much of it there is, is up to the file."""
    task_type: TaskTypePath | None = None
    """For samples that name none."""
    style: Literal["auto", "chat", "raw"] = "auto"
    """How a pair is read: auto is chat where the tokenizer has a template."""


def _no_weight(value: float) -> float:
    # A written 1 asks for nothing that is not done.
    if value != 1:
        raise ValueError("leave it out: all samples count alike here")
    return value


def _no_style(value: str) -> str:
    if value != "auto":
        raise ValueError("leave it out: a prompt is a chat wherever the base has a template")
    return value


class UnweightedFile(DataFile):
    """One whose samples are measured, not learnt."""

    weight: Annotated[Positive, AfterValidator(_no_weight)] = 1.0


class PromptFile(DataFile):
    """One whose prompts the base answers; weight and task_type are those of its answers."""

    style: Annotated[Literal["auto", "chat", "raw"], AfterValidator(_no_style)] = "auto"


F = TypeVar("F", bound=DataFile)


def _some(files: tuple[F, ...]) -> tuple[F, ...]:
    # Not by min_length, which would add a second complaint to a mistake within the only file.
    if not files:
        raise ValueError("name at least one file")
    return files


Files = Annotated[tuple[DataFile, ...], AfterValidator(_some)]
UnweightedFiles = Annotated[tuple[UnweightedFile, ...], AfterValidator(_some)]


class Batching(Strict):
    """What one process reads at once: about so many tokens (padding included), or so many samples."""

    tokens: Count | None = None
    samples: Count | None = None

    @model_validator(mode="after")
    def _one(self) -> Batching:
        if (self.tokens is None) == (self.samples is None):
            raise ValueError("give either `tokens` or `samples`")
        return self

    @property
    def size(self) -> int:
        return self.tokens or self.samples or 1

    @property
    def unit(self) -> Literal["tokens", "samples"]:
        return "samples" if self.tokens is None else "tokens"


class LoraConfig(Strict):
    r: Count = 64
    alpha: Positive = 128.0
    dropout: Part = 0.0
    targets: Literal["all-linear"] | Annotated[tuple[Text, ...], Field(min_length=1)] = "all-linear"


class LossConfig(Strict):
    reduction: Literal["per_token", "per_sample"] = "per_token"
    """per_sample: each sample counts once, whatever the length of its answer."""
    turns: Literal["all", "last"] = "all"
    """Assistant turns that are learnt."""
    task_weights: dict[TaskTypePath, NotNegative] = Field(default_factory=dict)
    """By task_type, or by its first level."""
    token_weights: dict[Text, NotNegative] = Field(default_factory=dict)
    """By single tokens of the vocabulary, such as the end of a turn."""

    def task_weight(self, task_type: str | None) -> float:
        """The weight of a task_type: its own, else its first level's, else 1."""
        if task_type is None:
            return 1.0
        weights = self.task_weights
        return weights.get(task_type, weights.get(task_type.split("/")[0], 1.0))


class FromBase(Strict):
    """Texts that the base itself writes before the first step: replay without any data of its training."""

    prompts: tuple[PromptFile, ...] = ()
    """Training files whose prompts it answers. Empty: it writes on from the first token of a text."""
    n: Count = 1000
    """Samples."""
    max_tokens: Count = 256
    temperature: Positive = 1.0


class Replay(Strict):
    """Other data mixed in, so that less is forgotten: `share` of each epoch's tokens."""

    share: Annotated[Part, Field(gt=0)]
    files: Files = ()
    from_base: FromBase | None = None

    @model_validator(mode="after")
    def _one(self) -> Replay:
        if bool(self.files) == (self.from_base is not None):
            raise ValueError("give either `files` or `from_base`")
        return self


class Kl(Strict):
    """Divergence to the base, added to the loss. forward: KL(base || model); reverse: KL(model || base)."""

    direction: Literal["forward", "reverse"] = "forward"
    weight: Positive = 1.0
    tokens: Literal["supervised", "all"] = "supervised"


class Ewc(Strict):
    """Elastic weight consolidation: weights that matter to the samples of `files` are held where the base has them."""

    files: UnweightedFiles
    weight: Positive = 1.0
    """lambda of the penalty lambda/2 sum F (theta - theta_base)^2."""
    samples: Count = 256
    """At most so many, the first of the files, for the Fisher information."""


class SelfDistillation(Strict):
    """The base rewrites the answers in its own words before they are learnt."""

    check: Literal["exact", "contains", "numeric", "none"] = "contains"
    """What a rewritten answer is held against the original one with; one that fails is not used."""
    max_tokens: Count = 512
    temperature: NotNegative = 0.0


class Retention(Strict):
    """What must not be lost, judged by the gate while training."""

    suite: Text
    policy: Text = "default"
    every: Count
    """Steps; the last step is judged too."""
    on_fail: Literal["stop", "go_on"] = "stop"


class HeldOutStop(Strict):
    patience: Count = 3
    """Evaluations without a new best loss after which training ends."""


class Stop(Strict):
    """What ends a run before its last step."""

    held_out: HeldOutStop | None = None
    explosion: Annotated[Number, Field(gt=1)] | None = 100.0
    """A gradient norm above so many times the median of the last 100 steps. Null: only one that is not finite."""


class Recipe(Strict):
    """recipe.yaml."""

    base: Text
    """A folder, a hub id, or the alias of a model in forgetbench.yaml."""
    chat_template: Text | None = None
    """A Jinja file, for a base that has no template, or another one."""
    end_of_turn: Text | None = None
    """The token that ends an answer, where the base ends its texts otherwise: the checkpoint stops at it."""
    data: Files
    method: Literal["full", "lora"] = "full"
    lora: LoraConfig = LoraConfig()
    lr: Positive
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    floor: Annotated[Number, Field(ge=0, le=1)] = 0.1
    """Where the cosine ends, as a share of the peak."""
    warmup: Part = 0.04
    """Share of the steps."""
    weight_decay: NotNegative = 0.0
    max_grad_norm: NotNegative = 1.0
    steps: Count | None = None
    epochs: Positive | None = None
    batch: Batching = Batching(samples=8)
    accumulation: Count = 1
    packing: Switch = True
    max_length: Annotated[int, Field(ge=2, strict=True)] = 2048
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: computed in bfloat16, weights and optimizer kept in float32."""
    gradient_checkpointing: Switch = False
    """Less memory for about a third more time."""
    loss: LossConfig = LossConfig()
    replay: Replay | None = None
    kl: Kl | None = None
    ewc: Ewc | None = None
    self_distillation: SelfDistillation | None = None
    repeat_first: Part = 0.0
    """Share of the first epoch's data, its beginning, that is seen twice."""
    neftune_alpha: NotNegative = 0.0
    stm_threshold: Annotated[Number, Field(gt=1)] | None = None
    """Tokens whose perplexity under the base is above it are not learnt (2.5 in the paper)."""
    require_task_type: Switch = False
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 0
    save_every: Count = 500
    eval_every: Count | None = None
    keep: Count = 2
    """Checkpoints kept on disk."""
    held_out: tuple[UnweightedFile, ...] = ()
    retention: Retention | None = None
    stop: Stop = Stop()
    tensorboard: Switch = False

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either `steps` or `epochs`")
        if self.method == "full" and "lora" in self.model_fields_set:
            raise ValueError("`lora` has settings and `method` is full; write `method: lora`")
        if self.eval_every is not None and not self.held_out:
            raise ValueError("`eval_every` needs `held_out` files")
        if self.stop.held_out is not None and self.eval_every is None:
            raise ValueError("`stop.held_out` needs `held_out` files and `eval_every`")
        if self.ewc is not None and self.method != "full":
            raise ValueError("`ewc` holds the base's own weights: write `method: full`")
        return self

    def files(self) -> tuple[DataFile, ...]:
        """Every data file that the recipe names, for its digests."""
        replay = self.replay
        replayed = () if replay is None else (*replay.files, *(replay.from_base.prompts if replay.from_base else ()))
        return (*self.data, *self.held_out, *replayed, *(self.ewc.files if self.ewc else ()))

    def warmup_steps(self, steps: int) -> int:
        """Whole steps of warm-up, at least one where there is any."""
        # Less than a billionth of a step is rounding: .07 * 100 is 7.000000000000001.
        return math.ceil(self.warmup * steps - 1e-9)


def load_recipe(file: Path) -> Recipe:
    """Read recipe.yaml. Raises UsageError, or ManyUsageErrors with all mistakes."""
    data, lines = load_yaml(file, "recipe")
    return validate(Recipe, data, file, lines)
