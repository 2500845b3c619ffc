"""What a sweep found, as lines, a table and one JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from forgetbench.sweeping.run import Result, Trial

if TYPE_CHECKING:
    from rich.table import Table


def sentences(result: Result) -> list[str]:
    """The finding first, then what weakens it."""
    key, found = result.key, result.bracket
    best = result.best
    lines = []
    if best is None:
        verdict = "undecided" if result.state == "INCONCLUSIVE" else "beyond the margin"
        lines.append(f"no acceptable value: {key} = {result.axis.ends[0]:g}, the safe end, is {verdict} already")
        lines.append(f"there: {result.trials[0].reason}")
    elif found.beyond is None:
        lines.append(f"{key} = {best.value:g} is within the margin, and so is all before it: widen the bounds")
    else:
        lines.append(f"{key} = {best.value:g} is the farthest value found within the margin; {found.beyond:g} is not")
        stop = next(t for t in result.trials if t.value == found.beyond)
        if stop.state == "INCONCLUSIVE":
            lines.append(
                f"{found.beyond:g} is undecided, not proven bad: more items may move the limit ({stop.reason})"
            )
    if result.open:
        lines.append("the budget of points ended before the search: the limit lies between these two")
    for c in result.contradictions:
        what = "failed where the farther one passed" if c.rule is None else f"lost more of {c.rule}, intervals apart"
        lines.append(
            f"not monotone: {key} = {c.nearer:g}, nearer to the safe end than {c.farther:g}, {what}: bisection may "
            "have looked on the wrong side"
        )
    passes = len(result.trials)
    lines.append(
        f"one training a value, judged at alpha each: with {passes} values the chance that the one found is beyond the "
        f"margin is up to {passes} alpha. Confirm it with other seeds and items."
    )
    return lines


def table(result: Result) -> Table:
    """All trials in the order of their values, the bounds first."""
    from rich.table import Table

    made = Table(box=None, header_style="bold", pad_edge=False)
    left = ("verdict", "worst rule")
    for column in (result.key, "verdict", "target", "gained", "worst rule", "lost", "95 %"):
        made.add_column(column, justify="left" if column in left else "right")
    bounds = [("almost no learning", result.kept), ("target alone", result.gained)]
    for name, bound in bounds:
        if bound is not None:
            made.add_row(name, *_cells(bound))
    for trial in sorted(result.trials, key=lambda t: result.axis.place(t.point.value)):
        mark = " <" if trial is result.best else ""
        made.add_row(f"{trial.value:g}{mark}", *_cells(trial))
    return made


def _cells(trial: Trial) -> tuple[str, ...]:
    loss = None if trial.worst is None else trial.losses[trial.worst]
    gained = None
    if trial.target is not None and trial.target_base is not None:
        gained = 100 * (trial.target - trial.target_base)
    return (
        trial.state,
        "" if trial.target is None else f"{100 * trial.target:.1f}",
        "" if gained is None else f"{gained:+.1f}",
        trial.worst or "",
        "" if loss is None else f"{loss.value:.1f}",
        "" if loss is None else f"{loss.low:.1f} to {loss.high:.1f}",
    )


def document(result: Result, exit_code: int) -> dict[str, Any]:
    """The object of --json and of sweep.json: losses in points, scores as fractions."""
    best = result.best
    return {
        "state": result.state,
        "exit_code": exit_code,
        "key": result.key,
        "value": None if best is None else best.value,
        "folder": None if best is None else str(best.folder),
        "axis": asdict(result.axis),
        "within": result.bracket.within,
        "beyond": result.bracket.beyond,
        "open": result.open,
        "contradictions": [asdict(c) for c in result.contradictions],
        "trials": [_trial(t) for t in result.trials],
        "bounds": {
            name: None if t is None else _trial(t) for name, t in (("kept", result.kept), ("gained", result.gained))
        },
        "sentences": sentences(result),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "value": trial.value,
        "folder": str(trial.folder),
        "state": trial.state,
        "reason": trial.reason,
        "losses": {rule: loss._asdict() for rule, loss in trial.losses.items()},
        "worst": trial.worst,
        "target": trial.target,
        "target_base": trial.target_base,
    }
