"""`forgetbench data check`, `data mix` and `data canary`: training data looked at and made before any training."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench import flow, imported
from forgetbench.cli.output import console, print_json, say
from forgetbench.errors import UsageError
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.analysis.leaks import Question
    from forgetbench.training.check.lengths import Count


def check(
    files: Sequence[Path],
    ws: Workspace | None = None,
    *,
    base: str | None = None,
    with_suite: bool = False,
    longest: int | None = None,
    per_type: int = 50,
    seed: int = 0,
    embedder: str | None = None,
    use_cache: bool = True,
    as_json: bool = False,
) -> None:
    """Leaves with 0 where all passed or warned, with 10 where a check failed. Raises UsageError (exit 2).

    ws: needed for `base` (an alias of it) and `with_suite` (look for leaks of the suite's items). Lengths are counted
    in the base's tokens where it has a tokenizer of its own here, else in words. embedder: folder or hub id, for
    duplicates by meaning.
    """
    from forgetbench.behaviour.embedder import find_embedder
    from forgetbench.training.asking import asking
    from forgetbench.training.check.lengths import count_words
    from forgetbench.training.check.report import print_check
    from forgetbench.training.check.run import Base, check_data
    from forgetbench.training.data import read_training

    if not files:
        raise UsageError("data check", "no file is named", "name the training data")
    read_training(files)  # before a model is looked at
    questions: list[Question] | None = None
    tested: set[str] = set()
    asked: Base | None = None
    count: Count = count_words
    unit = "words"
    embed = None if embedder is None else find_embedder(embedder, embedder, "--embedder", None)
    with ExitStack() as stack:
        if ws is not None and with_suite:
            questions, tested = _questions(ws)
        if ws is not None and base is not None:
            if imported.is_imported(ws, base):
                raise UsageError(f"model '{base}'", "is imported: there is no checkpoint to ask", "name a model")
            point = flow.checkpoint(ws, base)
            asked = Base(point, stack.enter_context(asking(ws, point, say, use_cache=use_cache)))
            if point.tokenizer_folder is not None:
                count, unit = _tokens(point.tokenizer()), "tokens"
        found = check_data(
            files,
            questions=questions,
            tested=tested,
            base=asked,
            embed=embed,
            count=count,
            unit=unit,
            longest=longest,
            per_type=per_type,
            seed=seed,
        )
    if as_json:
        print_json({"state": found.state, "exit_code": int(found.exit_code), **asdict(found)})
    else:
        print_check(console(), found)
    if found.exit_code:
        sys.exit(int(found.exit_code))


def mix(config: Path, out: Path, *, as_json: bool = False) -> None:
    """Write the mixed lines and say of each part what was over- or undersampled."""
    from forgetbench.training.mix import mix as mixed
    from forgetbench.training.mix import read_mix, to_jsonl

    wanted, folder = read_mix(config), config.resolve().parent
    not_read(out, [config, *(folder / name for name in wanted.files)])
    made = mixed(wanted, folder, str(config))
    write(out, to_jsonl(made.lines))
    if as_json:
        parts = [{**asdict(part), "uses": part.uses} for part in made.parts]
        print_json(
            {
                "file": str(out),
                "lines": len(made.lines),
                "seed": made.seed,
                "duplicates": made.duplicates,
                "parts": parts,
            }
        )
        return
    for line in made.told:
        print(line)
    say(f"{out}: {len(made.lines):,} lines (seed {made.seed})")


def canary(
    file: Path, out: Path, *, n: int = 20, set_file: Path | None = None, seed: int = 0, as_json: bool = False
) -> None:
    """Write the training data with canaries in it, the custom set that asks them, and the manifest that exposure needs.

    set_file: default `OUT`'s name with `.canaries.jsonl`; the manifest lies beside it as `.json`.
    """
    from forgetbench.training.canary import plant, set_lines
    from forgetbench.training.mix import to_jsonl

    asks = set_file or out.with_name(f"{out.name.removesuffix('.gz').removesuffix('.jsonl')}.canaries.jsonl")
    manifest = asks.with_suffix(".json")
    places = {p.resolve() for p in (file, out, asks, manifest)}
    if len(places) != 4:
        raise UsageError(str(out), "would overwrite another of the files", "choose other names with --out and --set")
    if out.suffix != ".jsonl" or asks.suffix != ".jsonl":
        raise UsageError(str(out if out.suffix != ".jsonl" else asks), "does not end in .jsonl", "name a .jsonl file")
    lines, made = plant(file, n, seed=seed)
    write(out, to_jsonl(lines))
    write(asks, to_jsonl(set_lines(made)))
    write(manifest, (json.dumps(made.manifest, indent=1, ensure_ascii=False) + "\n").encode())
    added = sum(c.repetitions for c in made.canaries)
    trained = sum(c.repetitions > 0 for c in made.canaries)
    if as_json:
        print_json(
            {
                "file": str(out), "lines": len(lines), "added": added, "canaries": trained, "token": made.token,
                "set": str(asks), "manifest": str(manifest), "seed": seed,
            }
        )  # fmt: skip
        return
    share = 100 * added / len(lines)
    print(f"{trained} canaries, {added:,} lines ({share:.1f} % of {len(lines):,}); twins never trained: {trained}")
    if share > 5:
        print("canaries are over 5 % of the lines: what is trained beside them may suffer; lower --n or add data")
    print(f"special token: {made.token} (add it to the tokenizer, or leave it as text)")
    say(f"{out}, {asks} (add it to the suite as a set), {manifest}")


def not_read(out: Path, inputs: Iterable[Path]) -> None:
    """Raises UsageError where the file to be written is one of those that it is made of."""
    if out.resolve() in {file.resolve() for file in inputs}:
        raise UsageError(str(out), "is one of the files that are read, and would be overwritten", "name another --out")


def write(out: Path, content: bytes) -> None:
    """Whole or not at all. Raises UsageError where it cannot be written."""
    from forgetbench.runs.files import atomic_write

    try:
        atomic_write(out, content)
    except OSError as e:
        raise UsageError(str(out), f"cannot be written ({e.strerror})", "choose another path") from None


def _questions(ws: Workspace) -> tuple[list[Question], set[str]]:
    """All questions of the suite, and the task_types that it selects."""
    from forgetbench.analysis.leaks import Question
    from forgetbench.tasks.questions import question_of

    loaded = ws.tasks()
    # Not only the selected ones: what many questions share is no leak.
    questions = [Question(item.key, *question_of(task, item)) for _, task in loaded for item in task.load()]
    tested = {item.task_type for entry, task in loaded for item in flow.selected(ws, entry, task)}
    return questions, tested


def _tokens(tokenizer: object) -> Count:
    def count(text: str) -> int:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[operator]
        return len(ids)

    return count
