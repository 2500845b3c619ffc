"""What a frontier says, in sentences: the same for terminal, page and picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from forgetbench.arms.frontier import Frontier, Stand
from forgetbench.gate.types import State
from forgetbench.report.numbers import interval, points

_WORDS: dict[State, str] = {"PASS": "pass", "FAIL": "blocked", "INCONCLUSIVE": "inconclusive"}


def headline(found: Frontier) -> str:
    """Which arms may ship, or that none may."""
    arms = [s for s in found.stands if not s.noop]
    good = found.acceptable
    if good:
        verb, pass_ = ("reaches", "passes") if len(good) == 1 else ("reach", "pass")
        return f"{_list(good)} {verb} the target score and {pass_} in every seed: {len(good)} of {len(arms)} arms."
    if found.at is None:
        return f"No arm is acceptable. {found.why}"
    reach = [s for s in arms if s.reaches]
    if not reach:
        return f"No arm is acceptable: none of {len(arms)} reaches the target score in every seed."
    return (
        f"No arm is acceptable: {_list([s.arm for s in reach])} "
        f"{'reaches' if len(reach) == 1 else 'reach'} the target score, and the policy does not pass "
        f"{'it' if len(reach) == 1 else 'any of them'} in every seed."
    )


def title(found: Frontier) -> str:
    """The verdict in a few words."""
    n = len(found.acceptable)
    return "No arm is acceptable" if n == 0 else f"{n} arms are acceptable" if n > 1 else "1 arm is acceptable"


def reading(found: Frontier, failed: Mapping[str, str]) -> list[str]:
    """One line each: the matched score, who is not beaten, who falls short, who failed (name -> why)."""
    told = []
    if found.at is not None:
        told.append(f"The matched target score: {found.why}")
        how = "Each seed stands where the line between two checkpoints crosses it." if found.interpolated else (
            "Each seed stands at its first graded checkpoint at or above it."
        )  # fmt: skip
        told.append(how)
    if found.unbeaten:
        told.append(f"Of those that reach it no other arm is shown to beat {_list(found.unbeaten, 'or')}.")
    for s in found.stands:
        if found.at is not None and not s.reaches and not s.noop:
            seeds = len(s.paths)
            if s.reached:
                its = "that seed stands" if s.reached == 1 else "those stand"
                others = "the other stands where its" if seeds - s.reached == 1 else "the others where their"
                whose = f"in {s.reached} of {seeds} seeds"
                told.append(f"{s.arm} reaches it {whose}; {its} there, {others} target score is highest.")
            else:
                told.append(f"{s.arm} reaches it in no seed; it stands where its target score is highest.")
    noop = next((s for s in found.stands if s.noop), None)
    if noop is not None and (noop.general.value or noop.target.value):
        told.append(
            f"{noop.arm} is the base asked again, and shows target {points(noop.target.value)}, general "
            f"{points(noop.general.value)}: that much is noise of the measurement."
        )
    told += [f"{name} is left out: {why}" for name, why in failed.items()]
    return [*told, *found.notes]


def failures(failed: Sequence[tuple[str, int, str]]) -> dict[str, str]:
    """By arm what failed: (arm, seed, error) of each seed that did."""
    found: dict[str, str] = {}
    for arm, seed, error in failed:
        found.setdefault(arm, f"seed {seed} failed: {error}")
    return found


def verdicts(stand: Stand) -> str:
    """`pass`, or how many seeds have which verdict: `2 pass, 1 blocked`."""
    counts = Counter(stand.states)
    if len(counts) == 1:
        return _WORDS[stand.states[0]]
    return ", ".join(f"{counts[state]} {word}" for state, word in _WORDS.items() if counts[state])


def where(stand: Stand) -> str:
    """Checkpoints of the seeds, each label once: `step 40`, `step 40, 60, 40`."""
    if len(set(stand.at)) == 1:
        return stand.at[0]
    kind, rest = stand.at[0].split(" ")[0], [label.split(" ", 1)[-1] for label in stand.at]
    return f"{kind} {', '.join(rest)}"


def described(found: Frontier) -> str:
    """The picture in words, for those who do not see it."""
    told = [in_words(s) for s in found.stands]
    return f"Target gained against general ability lost, {len(told)} arms. {'; '.join(told)}."


def in_words(stand: Stand) -> str:
    """One arm: name, figures, verdict."""
    return (
        f"{stand.arm}: target {points(stand.target.value)}, general {points(stand.general.value)} points "
        f"({interval(stand.general.both)}), {verdicts(stand)}"
    )


def _list(names: Sequence[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
