"""A config opened: suite, policy and folders found, every name checked before anything heavy loads."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from forgetbench.config import (
    Config,
    ModelConfig,
    Paths,
    SamplingConfig,
    StudyConfig,
    SuiteConfig,
    SuiteTask,
    find_config,
    load_config,
    load_policy,
    load_suite,
)
from forgetbench.config_policy import PolicyConfig
from forgetbench.errors import ManyUsageErrors, UsageError, combined
from forgetbench.runs.importers import IMPORTED

PairBy = Literal["content", "key"]
"""How the items of two runs are matched."""

if TYPE_CHECKING:
    from forgetbench.checkpoints.spec import ModelSpec
    from forgetbench.gate.baseline import Baseline
    from forgetbench.gate.types import Waiver
    from forgetbench.tasks.base import Task


@dataclass(frozen=True, slots=True)
class More:
    """What is asked of a task beyond what the suite says."""

    items: int | None = None
    """In place of the suite's `limit` or `sample`. None, as below: as the suite says."""
    samples: int | None = None
    """In place of the suite's `sampling: n`."""


@dataclass(frozen=True)
class Workspace:
    """Everything a command needs to know before it touches a model."""

    root: Path
    """Folder that relative paths start from: that of forgetbench.yaml, or the working directory."""
    config: Config
    suite: SuiteConfig
    suite_file: Path
    policy: PolicyConfig
    data_dir: Path | None
    offline: bool
    limit: int | None = None
    unsafe_exec: bool = False
    """Generated programs run without a sandbox."""
    waivers: tuple[Waiver, ...] = ()
    baseline: Baseline | None = None
    """The run that the base has to be."""
    pair_by: PairBy = "content"
    """`key`: items of imported runs are paired by their names, with the doubt shown."""
    shared_only: bool = False
    """What only one side has is left out, with a note, instead of refused."""
    told: tuple[str, ...] = ()
    """Lines for every comparison: what of an imported run is not compared."""
    more: Mapping[str, More] = field(default_factory=dict)
    """By task what `--resolve` asks beyond the suite."""
    chosen: tuple[str, ...] = ()
    """Aliases of the models named on the command line, in order; a folder gets its name as alias."""

    @property
    def runs(self) -> Path:
        return self.root / self.config.paths.runs

    @property
    def reports(self) -> Path:
        return self.root / self.config.paths.reports

    @property
    def cache(self) -> Path:
        return self.root / self.config.paths.cache

    def spec(self, alias: str) -> ModelSpec:
        """The checkpoint an alias names; its relative paths made absolute, hub ids left alone."""
        from forgetbench.checkpoints.spec import ModelSpec

        model = self.config.models[alias]

        def local(value: str | None) -> str | None:
            if not value:
                return value
            candidate = self.root / Path(value).expanduser()
            is_path = value.startswith((".", "/", "~")) or candidate.exists()
            return str(candidate) if is_path else value

        arguments = dict(model.engine_args)
        if model.engine == "scripted" and "script" in arguments:
            arguments["script"] = local(str(arguments["script"]))
        inner = arguments.get("engine_args")
        if model.engine == "ray" and isinstance(inner, dict) and "script" in inner:
            arguments["engine_args"] = {**inner, "script": local(str(inner["script"]))}
        return ModelSpec(
            alias=alias,
            path=local(model.path) or model.path,
            revision=model.revision,
            tokenizer=local(model.tokenizer),
            chat_template=local(model.chat_template),
            adapter=local(model.adapter),
            dtype=model.dtype,
            engine=model.engine,
            engine_args=arguments,
        )

    def file(self, value: str) -> Path:
        """A file that the suite names: relative to the suite's, or in the data folder: `{data}/cmmlu/...`."""
        if not value.startswith("{data}/"):
            return self.suite_file.parent / value
        if self.data_dir is None:
            raise UsageError(
                f"{self.suite_file}: {value}",
                "no data folder was given",
                "pass --data-dir, or set FORGETBENCH_DATA or paths.data",
            )
        return self.data_dir / value.removeprefix("{data}/")

    def task(self, entry: SuiteTask) -> Task:
        """The task an entry of the suite names, its files not yet read."""
        from forgetbench.tasks.registry import CODE_TASKS, get_task
        from forgetbench.tasks.source import DataSource

        if entry.task is not None:
            options: dict[str, Any] = {} if entry.version is None else {"version": entry.version}
            if entry.bridged is not None:
                include = None if entry.include is None else self.file(entry.include).resolve()
                options |= {"name": entry.key, "include": include, "task_type": entry.task_type}
            if self.unsafe_exec and entry.task in CODE_TASKS:
                options["unsafe_exec"] = True
            return get_task(entry.task, source=DataSource(data_dir=self.data_dir, offline=self.offline), **options)
        from forgetbench.scoring.scorers import Normalise
        from forgetbench.tasks.custom import SetSpec, load_set

        raw, chat = entry.raw, entry.chat
        defaults = SetSpec(name=entry.key, path=self.file(entry.set or ""))
        return load_set(
            SetSpec(
                name=entry.key,
                path=defaults.path,
                fewshot=self.file(entry.fewshot) if entry.fewshot else None,
                scorer=entry.scorer or defaults.scorer,
                fields=None if entry.fields is None else {str(k): v for k, v in entry.fields.items()},
                raw=defaults.raw if raw is None else type(defaults.raw)(**raw.model_dump()),
                chat=defaults.chat if chat is None else type(defaults.chat)(**chat.model_dump()),
                stop=defaults.stop if entry.stop is None else entry.stop,
                max_tokens=entry.max_tokens or defaults.max_tokens,
                extract=entry.extract,
                normalise=Normalise(**entry.normalise.model_dump()) if entry.normalise else defaults.normalise,
            )
        )

    def tasks(self) -> list[tuple[SuiteTask, Task]]:
        """All tasks of the suite with their items read; all mistakes in all files are raised at once."""
        found: list[tuple[SuiteTask, Task]] = []
        errors: list[UsageError] = []
        for entry in self.suite.tasks:
            try:
                task = self.task(entry)
                task.load()
                if self.suite.preset == "deployment":
                    from forgetbench.tasks.deployment import deploy

                    task = deploy(task)
                found.append((entry, task))
            except ManyUsageErrors as e:
                errors.extend(e.errors)
            except UsageError as e:
                errors.append(e)
        if errors:
            raise combined(errors)
        return found


def _alias_of(folder: Path, taken: Container[str]) -> str:
    """A name for a checkpoint given as a folder: the folder's own, with its parents' where that is taken."""
    parts = [re.sub(r"[^\w.-]", "_", part) for part in folder.resolve().parts]
    for depth in range(1, len(parts) + 1):
        alias = "-".join(parts[-depth:]).strip("._-")[:100] or "model"
        if alias not in taken:
            return alias
    return f"{alias}-2"


def model_of(folder: Path, base: ModelConfig | None) -> ModelConfig:
    """The model in a folder. A LoRA adapter without weights of its own is put on `base`, the first model named."""
    alone = (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
    if base is None or not alone:
        return ModelConfig(path=str(folder))
    # A run may have brought a template of its own: it lies beside the adapter.
    own = {"tokenizer": str(folder)} if (folder / "tokenizer_config.json").is_file() else {}
    return base.model_copy(update={"adapter": str(folder), **own})


def _is_folder(name: str) -> bool:
    return "\0" not in name and Path(name).expanduser().is_dir()


def _is_imported(runs: Path, name: str) -> bool:
    """Whether there are imported results of that name."""
    from forgetbench.runs.importers.store import open_imported

    return "\0" not in name and open_imported(runs, name) is not None


def _imported_aliases(runs: Path) -> list[str]:
    from forgetbench.runs.importers.store import aliases

    return aliases(runs)


def open_workspace(
    config: Path | None = None,
    *,
    models: Sequence[str] = (),
    suite: str | None = None,
    policy: str | None = None,
    data_dir: Path | None = None,
    offline: bool = False,
    limit: int | None = None,
    engine: str | None = None,
    unsafe_exec: bool = False,
    waivers: Path | None = None,
    baseline: Path | None = None,
    pair_by: str = "content",
    shared_only: bool = False,
    importing: bool = False,
    samples: int | None = None,
    temperatures: Sequence[float] = (),
    study: str | None = None,
) -> Workspace:
    """Read config, suite, policy, waivers and baseline; check that every model named exists. Raises UsageError.

    importing: for a command that makes an imported run, which needs no config.
    """
    if pair_by not in get_args(PairBy):
        raise UsageError("--pair-by", f"there is no '{pair_by}'", f"use one of {', '.join(get_args(PairBy))}")
    try:
        file = find_config(config)
    except UsageError:
        here = Path.cwd() / Paths().runs
        found = importing or (models and (all(_is_folder(m) for m in models) or _imported_aliases(here)))
        if not found:
            raise
        root, known = Path.cwd(), {}
        loaded = None
    else:
        loaded = load_config(file)
        root, known = file.resolve().parent, dict(loaded.models)
    runs = root / (Paths() if loaded is None else loaded.paths).runs
    chosen: list[str] = []
    for name in models:
        if loaded is not None and name in loaded.models:
            if loaded.models[name].engine != IMPORTED and _is_imported(runs, name):
                cure = "import the results again under another alias, and remove the imported run's folder"
                raise UsageError(f"model '{name}'", "is a model of the config and an imported run too", cure)
            chosen.append(name)
        elif _is_imported(runs, name):
            known[name] = ModelConfig(engine=IMPORTED)
            chosen.append(name)
        elif _is_folder(name):
            path = str(Path(name).expanduser().resolve())
            model = model_of(Path(path), known[chosen[0]] if chosen else None)
            same = [alias for alias, had in known.items() if had == model]
            alias = same[0] if same else _alias_of(Path(path), known)
            known[alias] = model
            chosen.append(alias)
        else:
            cure = f"known aliases: {', '.join([*known, *_imported_aliases(runs)])}"
            raise UsageError(f"model '{name}'", "is neither an alias of the config nor a folder", cure)
    if engine:
        engines = [e for e in get_args(ModelConfig.model_fields["engine"].annotation) if e != IMPORTED]
        if engine not in engines:
            raise UsageError("--engine", f"'{engine}' is unknown", f"use one of {', '.join(engines)}")
        known = {
            k: v if v.engine == IMPORTED else ModelConfig(**{**v.model_dump(), "engine": engine})
            for k, v in known.items()
        }
    if importing and not known:
        known = {IMPORTED: ModelConfig(engine=IMPORTED)}  # a config has a model; what is imported is none of its
    loaded = Config(models=known) if loaded is None else loaded.model_copy(update={"models": known})
    cwd_or_root = Path.cwd() if suite is not None else root
    suite_config, suite_file = load_suite(suite or loaded.suite, cwd_or_root)
    suite_config = _with_study(_with_samples(suite_config, samples, temperatures), study)
    policy_config = load_policy(policy or loaded.policy, Path.cwd() if policy is not None else root)
    if waivers is None and loaded.waivers is not None:
        waivers = root / loaded.waivers
    environment = os.environ.get("FORGETBENCH_DATA")
    folder, named_by = data_dir, "--data-dir"
    if folder is None and environment:
        folder, named_by = Path(environment), "FORGETBENCH_DATA"
    if folder is None and loaded.paths.data is not None:
        folder, named_by = root / loaded.paths.data, "paths.data in forgetbench.yaml"
    if folder is not None and not folder.is_dir():
        raise UsageError(named_by, f"there is no folder {folder}", "name the folder that holds mmlu/, gsm8k/, ...")
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    if offline:
        from forgetbench.checkpoints.hub import go_offline

        go_offline()
    return Workspace(
        root=root,
        config=loaded,
        suite=suite_config,
        suite_file=suite_file,
        policy=policy_config,
        data_dir=folder,
        offline=offline,
        limit=limit,
        unsafe_exec=unsafe_exec,
        waivers=_waivers(waivers),
        baseline=_baseline(baseline),
        pair_by=cast("PairBy", pair_by),
        shared_only=shared_only,
        chosen=tuple(chosen),
    )


def _with_samples(suite: SuiteConfig, samples: int | None, temperatures: Sequence[float]) -> SuiteConfig:
    """The suite with `--samples` and `--temperature` in place of its own `sampling:`. `--samples 0`: none."""
    given: dict[str, object] = {} if suite.sampling is None else suite.sampling.model_dump()
    if temperatures:
        if samples == 0 or (samples is None and not given):
            raise UsageError("--temperature", "goes with --samples", "say how many samples, such as --samples 8")
        given["temperature"] = tuple(temperatures)
    if samples is None and not temperatures:
        return suite
    if samples == 0:
        return suite.model_copy(update={"sampling": None})
    if samples is not None:
        given["n"] = samples
    try:
        return suite.model_copy(update={"sampling": SamplingConfig.model_validate(given)})
    except ValueError as e:
        problem = "; ".join(str(error["msg"]) for error in getattr(e, "errors", list)()) or str(e)
        raise UsageError("--samples, --temperature", problem, "2 to 1,000 samples, temperatures above 0") from None


def _with_study(suite: SuiteConfig, study: str | None) -> SuiteConfig:
    """The suite with `--study` in place of its own `study: parts:`."""
    if study is None:
        return suite
    known = get_args(get_args(StudyConfig.model_fields["parts"].annotation)[0])
    parts = {"all": known, "none": ()}.get(study, tuple(p.strip() for p in study.split(",")))
    for part in parts:
        if part not in known:
            raise UsageError("--study", f"there is no '{part}'", f"use all, none, or some of {','.join(known)}")
    return suite.model_copy(update={"study": suite.study.model_copy(update={"parts": parts})})


def _waivers(file: Path | None) -> tuple[Waiver, ...]:
    if file is None:
        return ()
    from forgetbench.gate.waivers import load_waivers

    return load_waivers(file)


def _baseline(file: Path | None) -> Baseline | None:
    if file is None:
        return None
    from forgetbench.gate.baseline import load_baseline

    return load_baseline(file)
