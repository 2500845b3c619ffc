"""All checks of training data, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from forgetbench.analysis.leaks import Question
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.training.asking import Ask
from forgetbench.training.check.duplicates import Embed, duplicates
from forgetbench.training.check.leaks import leaks
from forgetbench.training.check.lengths import Count, count_words, lengths, structure
from forgetbench.training.check.monotony import monotony
from forgetbench.training.check.perplexity import PER_TYPE, perplexity
from forgetbench.training.check.report import DataCheck
from forgetbench.training.check.rows import read_rows
from forgetbench.training.check.shares import shares
from forgetbench.training.data import read_training


class Base(NamedTuple):
    """The checkpoint that will be trained, and how it is asked."""

    point: Checkpoint
    ask: Ask


def check_data(
    files: Sequence[Path],
    *,
    questions: Sequence[Question] | None = None,
    tested: Collection[str] = (),
    base: Base | None = None,
    embed: Embed | None = None,
    count: Count = count_words,
    unit: str = "words",
    longest: int | None = None,
    per_type: int = PER_TYPE,
    seed: int = 0,
) -> DataCheck:
    """Everything that is wrong with some training files. Raises UsageError for files that cannot be read.

    questions: all test items of the suite (None: no suite, leaks are not looked for); tested: its task_types. base:
    for perplexity (None: not measured). embed: for duplicates by meaning. count, unit: how lengths are counted.
    longest: examples of more units fail.
    """
    rows = read_rows(files)
    notes = []
    findings = [
        *structure(rows),
        *lengths(rows, count=count, unit=unit, limit=longest),
        *shares(rows, tested, count=count, unit=unit),
        *duplicates(rows, embed),
        *monotony(rows),
    ]
    if questions is None:
        notes.append("leaks of test items were not looked for: name a suite with --suite")
    else:
        findings.append(leaks(questions, read_training(files)))
    if base is None:
        notes.append("perplexity was not measured: name the model to be trained with --base")
    else:
        findings += perplexity(rows, base.point, base.ask, per_type=per_type, seed=seed)
    return DataCheck(tuple(str(f) for f in files), len(rows), tuple(findings), tuple(notes))
