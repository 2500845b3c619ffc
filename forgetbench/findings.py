"""What a comparison gets to know from the suite and the user beside the two runs.

Sampled tasks get an estimate for the whole set, sets without a scorer a note, canaries a line that says how far the
candidate memorised; with --train-data the items that overlap with the training data are marked, and everything is
shown once more without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from forgetbench.analysis.types import Comparison
    from forgetbench.flow import Judgement, Loaded
    from forgetbench.training.data import TrainingText
    from forgetbench.workspace import Workspace


def scored_metrics(ws: Workspace, loaded: Loaded) -> dict[str, str]:
    """By task the metric that it is decided on; tasks without a scorer have none."""
    metrics = {task.name: task.metrics[0] for _, task in loaded if task.metrics}
    if not metrics:
        raise UsageError(
            f"suite '{ws.suite.name}'",
            "has no task with a scorer, so there is nothing to compare",
            "use `forgetbench run`, which keeps the answers, or add a scored task",
        )
    return metrics


def about_the_suite(ws: Workspace, loaded: Loaded, comparison: Comparison, *, whole: bool = True) -> Comparison:
    """The comparison with what the suite's samples and unscored sets mean for it.

    whole: all of a sample was asked; of a part of it nothing is said about the whole set.
    """
    from forgetbench.analysis.subset import Design, full_set_change
    from forgetbench.flow import sample_size
    from forgetbench.tasks.select import sample

    notes: list[str] = []
    estimates = []
    for entry, task in loaded:
        if not task.metrics:
            notes.append(f"{task.name} has no scorer: its answers are kept in the runs, and decide nothing")
        elif whole and (size := sample_size(ws, entry)) is not None:
            drawn = sample(task.load(), size, entry.seed or 0)
            design = Design(drawn.stratum_of, drawn.sizes)
            mine = [s for s in comparison.scores if s.task == task.name and s.primary]
            found = [e for e in (full_set_change(s, design) for s in mine) if e is not None]
            estimates += found
            for e in found:
                low, high = 100.0 * e.interval.low, 100.0 * e.interval.high
                notes.append(
                    f"{e.task} ({e.view}): {e.n:,} of {e.total:,} items, drawn in proportion (strata: {e.n_strata}); "
                    f"all of them would show {100.0 * e.delta:+.1f} points (95 % {low:+.1f} to {high:+.1f})"
                )
    if whole:
        notes += _canaries(comparison)
    if not notes and not estimates:
        return comparison
    return replace(comparison, notes=(*comparison.notes, *notes), full_set=tuple(estimates))


def _canaries(comparison: Comparison) -> tuple[str, ...]:
    """Where the suite asks canaries (`forgetbench data canary`): what was memorised."""
    if not any(str(t).startswith("canary/") for s in comparison.scores for t in s.task_types):
        return ()
    from forgetbench.training.canary import memorised_pairs, told

    return told(*memorised_pairs(comparison.scores))


def with_training_data(
    ws: Workspace, loaded: Loaded, judged: Sequence[Judgement], texts: Sequence[TrainingText], where: str
) -> list[Judgement]:
    """The judgements with the items found in the training data, and what each verdict would be without them.

    The verdict itself stands on all items. texts: `training.data.read_training`, read before anything runs, so
    that a broken file does not surface after an hour; where: the files' names, for the note.
    """
    from forgetbench.analysis.leaks import Question, Text, find_leaks, mark_leaks, without
    from forgetbench.gate.verdict import decide
    from forgetbench.tasks.questions import question_of

    questions = [
        Question(item.key, *question_of(task, item))
        for _, task in loaded
        if task.metrics
        for item in task.load()  # not only the selected ones: what many questions share is no leak
    ]
    leaks = find_leaks(questions, (Text(*text) for text in texts))
    leaked = {leak.key for leak in leaks}
    made = []
    for one in judged:
        against = {name: mark_leaks(c, leaks, looked_at=where) for name, c in one.against.items()}
        verdict = one.verdict
        if any(c.leaks for c in against.values()):
            rest = {name: replace(c, scores=without(c.scores, leaked)) for name, c in against.items()}
            other = decide(rest, verdict.policy, waivers=[use.waiver for use in verdict.waivers])
            same = "the same" if other.state == verdict.state else f"another, {other.state}"
            note = f"without the items found in the training data the verdict would be {same}: {other.reason}"
            verdict = replace(verdict, notes=(*verdict.notes, note))
        made.append(replace(one, against=against, verdict=verdict))
    return made
