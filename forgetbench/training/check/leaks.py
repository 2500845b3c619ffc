"""Test items of a suite that stand in the training data (`forgetbench.analysis.leaks` finds them)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from forgetbench.analysis.leaks import Question, Text, find_leaks
from forgetbench.training.check.report import Finding, passed, shown
from forgetbench.training.data import TrainingText


def leaks(questions: Sequence[Question], texts: Sequence[TrainingText]) -> Finding:
    """questions: *all* of each benchmark, also those that are not asked: what many share is no leak.

    Word for word or by 13 words in a row fails; near copies alone warn.
    """
    found = find_leaks(questions, (Text(*t) for t in texts))
    if not found:
        return passed("leaks", f"none of {len(questions):,} test items stands in the data", len(questions))
    how = Counter(leak.how for leak in found)
    sure = how["exact"] + how["ngram"]
    message = (
        f"{len(found):,} of {len(questions):,} test items stand in the data "
        f"({how['exact']:,} word for word, {how['ngram']:,} by 13 words in a row, {how['near']:,} nearly)"
    )
    lines = [(leak.where, f"{leak.key} ({leak.how}, {leak.overlap:.2f}): {leak.excerpt}") for leak in found]
    by_task = dict(Counter(leak.key.task for leak in found))
    cure = "take these lines out: with them the score tells memory, not ability"
    return Finding(
        "leaks", "fail" if sure else "warn", message, len(found), len(questions), shown(lines), cure, {"tasks": by_task}
    )
