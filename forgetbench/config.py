"""forgetbench.yaml, suites and policies: what a user writes, validated before anything heavy loads.

Unknown keys are errors: a misspelt `margn` that silently fell back to a default would pass a broken checkpoint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from forgetbench import resources
from forgetbench.config_fields import Name, Strict, TaskTypePath, ViewName, check_name
from forgetbench.config_policy import PolicyConfig
from forgetbench.errors import UsageError
from forgetbench.tasks.base import BRIDGE, folder_name
from forgetbench.yamlio import _Lines, load_yaml, validate

CONFIG_NAME = "forgetbench.yaml"
BUILT_IN = (
    "mmlu", "mmlu_open", "gsm8k", "truthfulqa", "truthfulqa_gen", "ifeval",
    "humaneval", "humaneval_plus", "mbpp", "mbpp_plus",
)  # fmt: skip
SCORER_NAMES = ("exact", "contains", "regex", "numeric", "choice", "none")


def _task(value: str) -> str:
    bridged = value.removeprefix(BRIDGE)
    if value not in BUILT_IN and (bridged == value or not bridged.strip() or not bridged.isprintable()):
        raise ValueError(f"use one of {', '.join(BUILT_IN)}, or {BRIDGE}<a task or group of lm-eval's>")
    return value


FieldName = Literal[
    "task_type", "prompt", "chat_prompt", "messages", "references", "scorer", "choices", "answer", "tolerance", "id",
    "cluster",
]  # fmt: skip
FieldSource = Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)]


class ModelConfig(Strict):
    """A checkpoint under test."""

    path: str = ""
    """Folder, or hub id such as Qwen/Qwen3-0.6B. An endpoint needs none; there it names a local tokenizer."""
    revision: str | None = None
    tokenizer: str | None = None
    chat_template: str | None = None
    adapter: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: Literal["transformers", "vllm", "openai", "ray", "scripted", "imported"] = "transformers"
    """`imported`: nothing but results from elsewhere (`forgetbench import`)."""
    engine_args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_path(self) -> ModelConfig:
        if not self.path and self.engine not in ("openai", "imported"):
            raise ValueError("`path` is missing: name a folder with weights, or a hub id")
        return self


class Paths(Strict):
    """Relative paths start at the folder of forgetbench.yaml."""

    runs: str = ".forgetbench/runs"
    reports: str = ".forgetbench/reports"
    cache: str = ".forgetbench/cache"
    data: str | None = None


class RawStyle(Strict):
    question: str = "Q: {prompt}\nA:"
    """Template of one question; must hold {prompt}."""
    delimiter: str = " "
    separator: str = "\n\n"
    num_fewshot: Annotated[int, Field(ge=0, le=100)] = 0

    @model_validator(mode="after")
    def _has_prompt(self) -> RawStyle:
        if "{prompt}" not in self.question:
            raise ValueError("the question template must hold {prompt}")
        return self


class ChatStyle(Strict):
    question: str = "{prompt}"
    num_fewshot: Annotated[int, Field(ge=0, le=100)] = 0

    @model_validator(mode="after")
    def _has_prompt(self) -> ChatStyle:
        if "{prompt}" not in self.question:
            raise ValueError("the question template must hold {prompt}")
        return self


class NormaliseConfig(Strict):
    """What is ignored when an answer and a reference are compared (scoring/scorers.py)."""

    ignore_case: bool = False
    ignore_punctuation: bool = False
    collapse_whitespace: bool = True
    final_period: bool = True
    first_line: bool = False


class SuiteTask(Strict):
    """One task of a suite: a built-in benchmark or one of lm-eval's (`task`), or a file of the user's own (`set`)."""

    task: Annotated[str, AfterValidator(_task)] | None = None
    set: str | None = None
    name: Name | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    """First n items (MMLU: of each subject; a group of lm-eval's: of each task)."""
    sample: Annotated[int, Field(ge=1)] | None = None
    """n items drawn with `seed`, in proportion from every subject or task_type (tasks/select.py)."""
    seed: Annotated[int, Field(ge=0)] | None = None
    num_fewshot: Annotated[int, Field(ge=0, le=100)] | None = None
    chat_num_fewshot: Annotated[int, Field(ge=0, le=100)] | None = None
    views: tuple[ViewName, ...] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    stop: tuple[str, ...] | None = None
    version: Literal["current", "v2", "v1"] | None = None
    """Which of IFEval's three releases (tasks/ifeval.py)."""
    include: Annotated[str, Field(min_length=1)] | None = None
    """A folder of lm-eval's YAML files to find a task of lm-eval's in, relative to the suite, or {data}/..."""
    task_type: TaskTypePath | None = None
    """Of a task of lm-eval's; one level is followed by the name of each task. Default: group/task."""
    # The rest is for `set` only.
    fewshot: str | None = None
    scorer: Literal["exact", "contains", "regex", "numeric", "choice", "none"] | None = None
    """`none`: outputs only, for later judging; such a set decides nothing."""
    fields: dict[FieldName, FieldSource] | None = None
    """Our field -> the file's column, a template of columns such as "knowledge/{subject}", or a list of
    columns (tasks/custom_fields.py)."""
    raw: RawStyle | None = None
    chat: ChatStyle | None = None
    extract: str | None = None
    """A pattern: only its first match is scored; no match means unparsed."""
    normalise: NormaliseConfig | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SuiteTask:
        if (self.task is None) == (self.set is None):
            raise ValueError("give exactly one of `task` (a built-in benchmark) and `set` (a file of your own)")
        if self.task is not None:
            for key in ("fewshot", "scorer", "fields", "raw", "chat", "extract", "normalise"):
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` belongs to a `set`, not to a built-in task")
        elif self.num_fewshot is not None or self.chat_num_fewshot is not None:
            raise ValueError("a `set` gives its shots under `raw: {num_fewshot: ...}` and `chat: {num_fewshot: ...}`")
        if self.version is not None and self.task != "ifeval":
            raise ValueError("`version` belongs to the task ifeval")
        for key in ("include", "task_type"):
            if getattr(self, key) is not None and self.bridged is None:
                raise ValueError(f"`{key}` belongs to a task of lm-eval's, such as {BRIDGE}arc_easy")
        if self.stop is not None and any(not s for s in self.stop):
            raise ValueError("a stop string is empty")
        if self.sample is not None and self.limit is not None:
            raise ValueError("give `limit` (the first n) or `sample` (n drawn at random), not both")
        if self.seed is not None and self.sample is None:
            raise ValueError("`seed` belongs to `sample`")
        return self

    @property
    def bridged(self) -> str | None:
        """lm-eval's name of a task or group of its own."""
        task = self.task or ""
        return task.removeprefix(BRIDGE) if task.startswith(BRIDGE) else None

    @property
    def key(self) -> str:
        """The task's name in records: given, built-in, lm-eval's, or the set file's stem."""
        if self.bridged is not None:
            return self.name or folder_name(self.bridged)
        return self.name or self.task or Path(self.set or "").stem


def _several(value: object) -> object:
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Temperature = Annotated[float, Field(gt=0.0, le=10.0)]


class SamplingConfig(Strict):
    """K answers to each item at a temperature, beside the greedy one. Items that rank options have none."""

    n: Annotated[int, Field(ge=2, le=1_000)]
    temperature: Annotated[tuple[Temperature, ...], Field(min_length=1), BeforeValidator(_several)] = (0.7,)
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0

    @model_validator(mode="after")
    def _distinct(self) -> SamplingConfig:
        if len(set(self.temperature)) < len(self.temperature):
            raise ValueError("a temperature is named twice")
        return self


class StudyConfig(Strict):
    """What `compare` finds out beyond right and wrong (behaviour/study.py)."""

    parts: tuple[Literal["distribution", "causes", "belief", "drift"], ...] = ("distribution",)
    most: Annotated[int, Field(ge=10)] = 300
    """Flips of a task and view that causes are looked for, and items of a task whose belief is asked; of more a random
    part."""
    further: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000)], ...], Field(max_length=5)] = (40,)
    """Samples of each side for flips whose cause is undetermined after 20 of them, one number a look."""
    texts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Files, or folders of .txt and .md files, that both checkpoints read; relative to the suite, or {data}/...; or
    rows of a dataset, hub:OWNER/NAME[@REVISION][:CONFIG][:SPLIT][:FIELD] (behaviour/fixed.py)."""
    embedder: Annotated[str, Field(min_length=1)] | None = None
    """Folder (relative to the suite, or {data}/...) or hub id of the model whose vectors the Vendi score is taken
    from, where several samples of each item are asked."""


class SuiteConfig(Strict):
    name: Name
    description: str = ""
    banner: str = ""
    views: Annotated[tuple[ViewName, ...], Field(min_length=1)] = ("ability", "chat")
    preset: Literal["parity", "deployment"] = "parity"
    """parity: lm-eval's limits and stops; deployment: long equal budgets, thinking taken off before scoring
    (tasks/deployment.py)."""
    sampling: SamplingConfig | None = None
    study: StudyConfig = StudyConfig()
    tasks: Annotated[tuple[SuiteTask, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> SuiteConfig:
        keys = [t.key for t in self.tasks]
        for key in keys:
            check_name(key)
            if keys.count(key) > 1:
                raise ValueError(f"two tasks are called '{key}'; give one a `name`")
        return self


class Config(Strict):
    """forgetbench.yaml."""

    models: Annotated[dict[Name, ModelConfig], Field(min_length=1)]
    suite: str = "standard"
    policy: str = "default"
    locked: Name | None = None
    """Alias of the release that chat is decided against where the base has no template."""
    waivers: str | None = None
    """File of waivers (gate/waivers.py)."""
    paths: Paths = Paths()

    @model_validator(mode="after")
    def _locked_known(self) -> Config:
        if self.locked is not None and self.locked not in self.models:
            raise ValueError(f"locked: there is no model '{self.locked}'; known: {', '.join(self.models)}")
        return self


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Deep merge of mappings; anything else in `over` replaces."""
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _load_extended(file: Path, seen: tuple[Path, ...] = ()) -> tuple[dict[str, Any], _Lines]:
    data, lines = load_yaml(file, "config")
    parent = data.pop("extends", None)
    if parent is None:
        return data, lines
    where = f"{file}:{lines.nearest(('extends',))}"
    if not isinstance(parent, str):
        raise UsageError(where, f"`extends` is {parent!r}", "name one YAML file")
    target = (file.parent / parent).resolve()
    if target in (*seen, file.resolve()):
        raise UsageError(where, f"`extends` runs in a circle through {parent}", "break the circle")
    under, _ = _load_extended(target, (*seen, file.resolve()))
    return _merge(under, data), lines


def load_config(file: Path) -> Config:
    """Read forgetbench.yaml with what it extends."""
    data, lines = _load_extended(file)
    return validate(Config, data, file, lines)


def find_config(explicit: Path | None, start: Path | None = None) -> Path:
    """The config named by --config, or forgetbench.yaml in the working directory or a folder above it."""
    if explicit is not None:
        return explicit
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    raise UsageError(CONFIG_NAME, f"not found in {here} or above", "write one with `forgetbench init`, or use --config")


def _named_or_path(value: str, folder: Literal["suites", "configs"], root: Path, sub: str = "") -> Path:
    """A shipped file by its bare name, else a path relative to the config."""
    looks_like_path = value.endswith((".yaml", ".yml")) or os.sep in value
    if not looks_like_path:
        shipped = resources.path(folder, *([sub] if sub else []), f"{value}.yaml")
        if "\0" not in value and shipped.is_file():
            return shipped
        known = sorted(p.stem for p in shipped.parent.glob("*.yaml")) if "\0" not in value else []
        what = "suite" if folder == "suites" else "policy"
        raise UsageError(what, f"there is no {what} '{value}'", f"known: {', '.join(known)}; or give a path to a .yaml")
    return root / value


def load_suite(value: str, root: Path) -> tuple[SuiteConfig, Path]:
    """A suite by shipped name or path, and the file it came from (its sets are relative to that file)."""
    file = _named_or_path(value, "suites", root)
    data, lines = load_yaml(file, "suite")
    return validate(SuiteConfig, data, file, lines), file


def load_policy(value: str, root: Path) -> PolicyConfig:
    """A policy by shipped name (default, strict, smoke) or path."""
    file = _named_or_path(value, "configs", root, "policies")
    data, lines = load_yaml(file, "policy")
    return validate(PolicyConfig, data, file, lines)
