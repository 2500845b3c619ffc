"""What the base is asked before the first step of its fine-tune: answers rewritten, texts to replay, its retention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.training import distil, from_base
from forgetbench.training.recipe import DataFile, Recipe

if TYPE_CHECKING:
    from forgetbench.training.grading import Grader
    from forgetbench.training.retention import Judge

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Where:
    """How the base is asked: as a model of a config, with its engine, or (by default) as a folder."""

    alias: str | None = None
    """Of the base in forgetbench.yaml."""
    config: Path | None = None
    data_dir: Path | None = None
    offline: bool = False


def data_files(recipe: Recipe, output: Path) -> tuple[DataFile, ...]:
    """What is learnt: the recipe's data, or the rewritten files in `output`."""
    if recipe.self_distillation is None:
        return recipe.data
    folder = (output / distil.FOLDER).resolve()
    return tuple(f.model_copy(update={"path": str(folder / f"{i}.jsonl")}) for i, f in enumerate(recipe.data))


def prepare(
    recipe: Recipe, root: Path, base: str, output: Path, log_line: Log | None = None, where: Where | None = None
) -> None:
    """Have the base write what the recipe wants of it, unless it lies in `output` already, whole. Answers go into the
    response cache, so that an interrupted call finds them again. Raises UsageError, EngineError."""
    from forgetbench.training.manifest import damage

    wanted = recipe.self_distillation, recipe.replay.from_base if recipe.replay else None
    written = output / distil.FOLDER, output / from_base.FOLDER
    if not any(w is not None and damage(f) is not None for w, f in zip(wanted, written, strict=True)):
        return
    if recipe.self_distillation is not None:
        distil.check([root / f.path for f in recipe.data])
    prompts = [] if wanted[1] is None else from_base.asked(wanted[1].prompts, root)
    from forgetbench import flow
    from forgetbench.training.asking import asking
    from forgetbench.workspace import open_workspace

    say = log_line or _silent
    where = where or Where()
    ws = open_workspace(where.config, models=[_named(base, where)], data_dir=where.data_dir, offline=where.offline)
    point = flow.checkpoint(ws, ws.chosen[0])
    with asking(ws, point, say) as ask:
        if recipe.self_distillation is not None and damage(written[0]) is not None:
            made = [distil.rewritten(root / f.path, point, ask, recipe.self_distillation) for f in recipe.data]
            distil.keep(written[0], made)
            new, asked = sum(m.new for m in made), sum(m.asked for m in made)
            say(f"self-distillation: {new:,} of {asked:,} answers in the base's own words, the others as they were")
        if recipe.replay is not None and recipe.replay.from_base is not None and damage(written[1]) is not None:
            settings = recipe.replay.from_base
            lines = from_base.written(point, ask, prompts, settings, recipe.seed)
            from_base.keep(written[1], lines)
            say(f"replay: {len(lines):,} texts written by the base")


def judge_of(
    recipe: Recipe, root: Path, base: str, output: Path, log_line: Log | None = None, where: Where | None = None
) -> Judge | None:
    """The gate on the recipe's retention set, the base run on it; None: the recipe has none. Raises UsageError where
    suite or policy cannot be used."""
    if recipe.retention is None:
        return None
    from forgetbench.training.grading import open_grader
    from forgetbench.training.manifest import RETENTION, claim
    from forgetbench.training.retention import judge_with

    say = log_line or _silent
    where = where or Where()
    grader: Grader = open_grader(
        _named(base, where),
        config=where.config,
        suite=_file(recipe.retention.suite, root),
        policy=_file(recipe.retention.policy, root),
        data_dir=where.data_dir,
        offline=where.offline,
    )
    claim(output, {"retention": grader.context}, RETENTION)
    grader.prepare(say)
    return judge_with(grader, output.name, say)


def _named(base: str, where: Where) -> str:
    if where.alias is not None:
        return where.alias
    from forgetbench.checkpoints.hub import locate

    return str(locate(base, None, "base"))


def _file(value: str, root: Path) -> str:
    """A preset's name as it is; a file relative to the recipe's folder."""
    is_file = value.endswith((".yaml", ".yml")) or "/" in value
    return str((root / value).resolve()) if is_file else value


def _silent(*_: Any) -> None:
    return None
