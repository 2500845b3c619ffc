"""`forgetbench sample --best-of N`: a model's best answers, kept as training data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench import flow, imported
from forgetbench.cli.data import not_read, write
from forgetbench.cli.output import print_json, say
from forgetbench.errors import UsageError
from forgetbench.report.text import one_line
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.tasks.base import Task

_LISTED = 10


def sample(
    ws: Workspace,
    model: str,
    *,
    out: Path,
    best_of: int,
    set_file: Path | None = None,
    train_data: Sequence[Path] = (),
    scorer: str | None = None,
    fewshot: Path | None = None,
    num_fewshot: int = 0,
    temperature: float = 0.8,
    top_p: float = 0.95,
    max_tokens: int = 256,
    seed: int = 0,
    suite_items: bool = False,
    use_cache: bool = True,
    as_json: bool = False,
) -> None:
    """Ask `model` (an alias of ws) `best_of` answers to each item of a custom set or of training files, keep the best.

    scorer: for lines that name none, and for training prompts (default exact). fewshot, num_fewshot: worked examples of
    raw prompts, for a base without a template. suite_items: also items that the suite of ws asks. Raises UsageError for
    flags that do not go together, files that cannot be read, and where nothing at all was kept.
    """
    from forgetbench.tasks.base import check_ready
    from forgetbench.training.asking import asking
    from forgetbench.training.best_of import best_of as draw
    from forgetbench.training.best_of import lines, suite_hashes
    from forgetbench.training.mix import to_jsonl
    from forgetbench.types import Decode

    if (set_file is None) == (not train_data):
        raise UsageError("sample", "neither or both of --set and --train-data", "name a set, or training files")
    if imported.is_imported(ws, model):
        raise UsageError(f"model '{model}'", "is imported: there is no checkpoint to ask", "name a model")
    if out.suffix != ".jsonl":
        raise UsageError(str(out), "does not end in .jsonl", "name a .jsonl file")
    not_read(out, [file for file in (set_file, fewshot, *train_data) if file is not None])
    task = _task(set_file, train_data, scorer, fewshot, num_fewshot, max_tokens)
    items = task.load()
    check_ready([task])
    known = frozenset[str]() if suite_items else suite_hashes([t for _, t in ws.tasks()])
    point = flow.checkpoint(ws, model)
    with asking(ws, point, say, use_cache=use_cache) as ask:
        found = draw(task, point, ask, best_of, temperature=temperature, top_p=top_p, seed=seed, suite=known)
    if not found.kept:
        why = found.without[0].why if found.without else "all of them are items of the suite (--suite-items takes them)"
        raise UsageError(
            task.name, f"nothing was kept of {len(items):,} items: {why}", "raise --best-of or --max-tokens"
        )
    made = lines(found, point, Decode(temperature, top_p, best_of).decode_id)
    write(out, to_jsonl(made))
    if as_json:
        print_json(
            {
                "file": str(out), "kept": len(found.kept), "model": model, "digest": point.digest,
                "by_task_type": {k: {"kept": a, "asked": b} for k, (a, b) in found.by_type.items()},
                "without": [{"item": str(w.item.key), "source": w.item.source, "why": w.why} for w in found.without],
                "in_suite": [{"item": str(i.key), "source": i.source} for i in found.in_suite],
            }
        )  # fmt: skip
        return
    for kind, (kept, asked) in found.by_type.items():
        print(f"{kind}: kept {kept:,} of {asked:,} items")
    for w in found.without[:_LISTED]:
        print(one_line(f"left out {w.item.source}: {w.why}", 200))
    if len(found.without) > _LISTED:
        print(f"{len(found.without) - _LISTED:,} more without a right answer (--json lists them)")
    if found.in_suite:
        first = ", ".join(i.source for i in found.in_suite[:3])
        print(f"{len(found.in_suite):,} items are the suite's own and were not asked ({first})")
    say(f"{out}: {len(made):,} lines, best of {best_of}")


def _task(
    set_file: Path | None,
    train_data: Sequence[Path],
    scorer: str | None,
    fewshot: Path | None,
    num_fewshot: int,
    max_tokens: int,
) -> Task:
    from forgetbench.scoring.scorers import TEXT_SCORERS
    from forgetbench.tasks.base import folder_name
    from forgetbench.tasks.custom import RawFormat, SetSpec, load_set
    from forgetbench.training.best_of import TrainingPrompts
    from forgetbench.training.check.rows import read_rows

    if scorer is not None and scorer not in TEXT_SCORERS:
        raise UsageError("--scorer", f"'{scorer}' is unknown", f"use one of {', '.join(TEXT_SCORERS)}")
    if set_file is None:
        if fewshot is not None:
            raise UsageError("--fewshot", "goes with --set", "leave it out")
        rows = read_rows(train_data)
        made = TrainingPrompts(folder_name(train_data[0].stem), rows, scorer or "exact", max_tokens=max_tokens)
        if not made.load():
            raise UsageError(
                str(train_data[0]), "holds no example that asks and answers", "give chats or prompt/response"
            )
        return made
    return load_set(
        SetSpec(
            name=folder_name(set_file.name.removesuffix(".gz").rsplit(".", 1)[0]),
            path=set_file,
            fewshot=fewshot,
            scorer=scorer or "exact",  # type: ignore[arg-type]
            raw=RawFormat(num_fewshot=num_fewshot),
            max_tokens=max_tokens,
        )
    )
