"""Which arm keeps most at the same target score, and which are beaten. Pure functions of graded checkpoints.

Every arm and seed gives a path of points (target, general) over its checkpoints. At a *matched target score* T each
seed stands at its first checkpoint that reaches T: an arm that learns faster is not charged for having learnt more.
With `interpolate` it stands at exactly T on the line between that checkpoint and the one before.

An arm *reaches* T where all of its seeds do; the seeds that happened to get there would flatter the others. An arm
that does not is named; its seeds that reach T stand there, the others at their highest: nothing is extrapolated.

**Beaten**: another arm is *shown* to be better (95 % interval of the paired difference, seeds and items both counted,
does not hold zero): where both reach T, in general score, unless the beaten one is shown to have the higher target
there; else in target and in general score. Not beaten means not shown to be worse, and no more.

**Acceptable**: reaches T, and the verdict of every seed there is PASS. The no-op never is: it has gained nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.arms.estimate import DRAWS, Design, Estimate, estimate, macro_draws
from forgetbench.arms.score import Cell, Selection
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.gate.types import State

    Floats = NDArray[np.float64]

SHARE = 0.9
"""Of the best arm's gain, for `at: best`."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A graded checkpoint of one arm and seed."""

    label: str
    cells: tuple[Cell, ...]
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """An arm with all of its seeds, each a path of points in the order of training (or of alpha)."""

    name: str
    paths: tuple[tuple[Point, ...], ...]
    """By seed, in the experiment's order; equally long."""
    noop: bool = False


@dataclass(frozen=True, slots=True)
class Spot:
    """A point of a path as two changes against the base, fractions of 1."""

    label: str
    target: float
    general: float
    state: State


@dataclass(frozen=True, slots=True)
class Stand:
    """Where an arm stands in the comparison."""

    arm: str
    noop: bool
    reached: int
    """Seeds that reach T."""
    reaches: bool
    """All of them do."""
    at: tuple[str, ...]
    """Label of each seed's checkpoint: the first that reaches T, or, where none of its does, of the highest target."""
    states: tuple[State, ...]
    """Verdict of each of those."""
    again: tuple[float, ...]
    """Share of the item draws in which a seed's first checkpoint at T is the same one; empty where not all reach it."""
    target: Estimate
    """Change of the target score against the base; as below, the mean over seeds."""
    general: Estimate
    paths: tuple[tuple[Spot, ...], ...]
    """By seed, every graded point."""

    @property
    def acceptable(self) -> bool:
        return self.reaches and not self.noop and all(state == "PASS" for state in self.states)


@dataclass(frozen=True, slots=True)
class Versus:
    """One arm minus another where they stand, seed by seed on the same items."""

    arm: str
    other: str
    target: Estimate
    general: Estimate
    beats: bool
    """`arm` is shown to beat `other`."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """The arms side by side."""

    base_target: float
    base_general: float
    at: float | None
    """T, a fraction of 1. None: no arm gained anything, so that there is nothing to match."""
    why: str
    """One sentence: which target score it is, and why."""
    interpolated: bool
    stands: tuple[Stand, ...]
    versus: tuple[Versus, ...]
    """Every ordered pair."""
    front: tuple[tuple[str, str], ...]
    """(arm, label) of the mean points that no other mean point equals or exceeds in both: the front as it is drawn."""
    items: tuple[int, int]
    """Items of target and general score (one asked in two views counts twice)."""
    notes: tuple[str, ...]

    @property
    def unbeaten(self) -> tuple[str, ...]:
        """Arms that reach T and that no arm is shown to beat."""
        beaten = {v.other for v in self.versus if v.beats}
        return tuple(s.arm for s in self.stands if s.reaches and not s.noop and s.arm not in beaten)

    @property
    def acceptable(self) -> tuple[str, ...]:
        return tuple(s.arm for s in self.stands if s.acceptable)

    def beaten_by(self, arm: str) -> tuple[str, ...]:
        return tuple(v.arm for v in self.versus if v.other == arm and v.beats)


def frontier(
    arms: Sequence[Arm],
    target: Selection,
    general: Selection,
    *,
    at: float | str = "best",
    interpolate: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Frontier:
    """Set arms side by side.

    at: T as a fraction of 1; `best`: nine tenths of the gain that the best arm has in each of its seeds; `common`: the
    highest target that every arm but the no-op reaches in each of its seeds. draws, seed: of the item bootstrap.

    Raises UsageError where there are no arms or items, or T is not above the base.
    """
    if not arms or not any(not a.noop for a in arms):
        raise UsageError("arms", "none was finished", "see what became of each, and run the same command again")
    on_target, on_general, notes = _table(arms, target), _table(arms, general), []
    if dropped := on_target.dropped + on_general.dropped:
        notes.append(f"{dropped} items have no score from some checkpoint: they are left out of all arms.")
    base = (on_target.of_base, on_general.of_base)
    level, why = _level(arms, on_target, at)
    chosen = {a.name: _choose(on_target.means[a.name], level, interpolate) for a in arms}
    drawn = [_Drawn(arms, table, chosen, draws, seed) for table in (on_target, on_general)]
    stands = tuple(
        _stand(a, chosen[a.name], level, (on_target, on_general), drawn, interpolate=interpolate) for a in arms
    )
    if len(arms[0].paths) == 1:
        notes.append("One seed: intervals count other items and say nothing of other training runs.")
    return Frontier(
        base_target=base[0],
        base_general=base[1],
        at=level,
        why=why,
        interpolated=interpolate,
        stands=stands,
        versus=tuple(_versus(a, b, level, drawn) for a, b in itertools.permutations(stands, 2)),
        front=_front(stands),
        items=(on_target.design.cells.size, on_general.design.cells.size),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The items that all points share: their values as columns."""

    design: Design
    base: Floats
    """(m,)"""
    columns: Mapping[str, Sequence[Sequence[Floats]]]
    """By arm, seed, point: (m,)."""
    dropped: int

    @property
    def of_base(self) -> float:
        return float(self.design.weights @ self.base)

    @property
    def means(self) -> dict[str, list[list[float]]]:
        w = self.design.weights
        return {name: [[float(w @ x) for x in path] for path in paths] for name, paths in self.columns.items()}


def _table(arms: Sequence[Arm], selection: Selection) -> _Table:
    points = [p for a in arms for path in a.paths for p in path]
    found = [{(c.view, c.task_type): c for c in p.cells if selection.takes(c.view, c.task_type)} for p in points]
    names = sorted(set.intersection(*(set(cells) for cells in found)))
    everything = {(name, key) for cells in found for name, cell in cells.items() for key in cell.keys}
    blocks: list[list[Floats]] = [[] for _ in points]
    bases: list[Floats] = []
    cells: list[int] = []
    clusters: list[str] = []
    for name in names:
        own = [cells_of[name] for cells_of in found]
        shared = set.intersection(*({k for k, ok in zip(c.keys, c.scored, strict=True) if ok} for c in own))
        if not shared:
            continue
        for block, cell in zip(blocks, own, strict=True):
            block.append(cell.candidate[_where(cell, shared)])
        first = _where(own[0], shared)
        bases.append(own[0].base[first])
        number = len(bases) - 1
        cells += [number] * first.size
        clusters += [own[0].clusters[i] for i in first]
    if not bases:
        raise UsageError(
            selection.name,
            f"no items of {', '.join(selection.task_types) or 'the rest'} ({', '.join(selection.views)}) have a score "
            "from every checkpoint",
            "name task_types and a view that the suite asks and the base has",
        )
    columns = iter([np.concatenate(block) for block in blocks])
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    design = Design(np.asarray(cells, dtype=np.int64), codes.astype(np.int64), len(bases))
    by_arm = {a.name: [[next(columns) for _ in path] for path in a.paths] for a in arms}
    return _Table(design, np.concatenate(bases), by_arm, len(everything) - len(cells))


def _where(cell: Cell, shared: set[str]) -> NDArray[np.intp]:
    return np.asarray([i for i, key in enumerate(cell.keys) if key in shared], dtype=np.intp)


def _level(arms: Sequence[Arm], table: _Table, at: float | str) -> tuple[float | None, str]:
    """T and the sentence about it."""
    base, means = table.of_base, table.means
    if not isinstance(at, str):
        if at <= base + _TINY:
            raise UsageError("at", f"{100 * at:.1f} is not above the base's target score, {100 * base:.1f}", "raise it")
        return at, f"{100 * at:.1f} is the target score that the experiment names."
    # What an arm reaches in its worst seed: a matched score has to be one that training reaches, not luck.
    every = {a.name: min(max(path) for path in means[a.name]) for a in arms if not a.noop}
    best = max(every, key=lambda name: (every[name], name))
    if at == "common":
        last = min(every, key=lambda name: (every[name], name))
        if every[last] <= base + _TINY:
            return None, f"{last} gained nothing in the target, so that there is no score that all arms reach."
        why = (
            f"{100 * every[last]:.1f} is the highest target score that every arm reaches in each seed ({last} sets it)."
        )
        return every[last], why
    if every[best] <= base + _TINY:
        return None, "No arm gained anything in the target in each of its seeds: there is no score to match."
    level = base + SHARE * (every[best] - base)
    return level, (
        f"{100 * level:.1f} is nine tenths of the way from the base ({100 * base:.1f}) to what the best arm, {best}, "
        f"reaches in each seed ({100 * every[best]:.1f}). The score that all arms reach would be set by the worst."
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """Where one seed stands: weights over its points (one of them, or two neighbours)."""

    index: int
    """The first point that reaches T, or the one of the highest target."""
    reached: bool
    weights: tuple[tuple[int, float], ...]


def _choose(paths: Sequence[Sequence[float]], level: float | None, interpolate: bool) -> list[_Choice]:
    made = []
    for targets in paths:
        first = None if level is None else next((i for i, t in enumerate(targets) if t >= level - _TINY), None)
        if first is None or level is None:
            top = max(range(len(targets)), key=lambda i: (targets[i], -i))
            made.append(_Choice(top, False, ((top, 1.0),)))
        elif interpolate and first > 0:
            low, high = targets[first - 1], targets[first]
            share = min(1.0, max(0.0, (level - low) / (high - low)))
            made.append(_Choice(first, True, ((first - 1, 1.0 - share), (first, share))))
        else:
            made.append(_Choice(first, True, ((first, 1.0),)))
    return made


class _Drawn:
    """Item bootstrap of one score: changes against the base of every point, and of where each seed stands."""

    def __init__(
        self, arms: Sequence[Arm], table: _Table, chosen: Mapping[str, Sequence[_Choice]], draws: int, seed: int
    ) -> None:
        deltas = [x - table.base for a in arms for path in table.columns[a.name] for x in path]
        every = macro_draws(table.design, np.column_stack(deltas), draws, seed)
        of_base = macro_draws(table.design, table.base[:, None], draws, seed)[:, 0]
        w = table.design.weights
        self.n_clusters = table.design.n_clusters
        self.values: dict[str, list[float]] = {}
        self.stands: dict[str, Floats] = {}
        """By arm: (draws, seeds)."""
        self.scores: dict[str, list[Floats]] = {}
        """By arm and seed: (draws, points), scores and not changes."""
        column = 0
        for a in arms:
            values, stands, scores = [], [], []
            for path, choice in zip(table.columns[a.name], chosen[a.name], strict=True):
                own = every[:, column : column + len(path)]
                column += len(path)
                values.append(sum(part * float(w @ (path[i] - table.base)) for i, part in choice.weights))
                stands.append(sum(part * own[:, i] for i, part in choice.weights))
                scores.append(own + of_base[:, None])
            self.values[a.name], self.stands[a.name] = values, np.column_stack(stands)
            self.scores[a.name] = scores

    def of(self, arm: str) -> Estimate:
        return estimate(self.values[arm], self.stands[arm].mean(axis=1), self.n_clusters)

    def apart(self, arm: str, other: str) -> Estimate:
        values = [a - b for a, b in zip(self.values[arm], self.values[other], strict=True)]
        return estimate(values, (self.stands[arm] - self.stands[other]).mean(axis=1), self.n_clusters)


def _stand(
    arm: Arm,
    chosen: Sequence[_Choice],
    level: float | None,
    tables: tuple[_Table, _Table],
    drawn: Sequence[_Drawn],
    *,
    interpolate: bool,
) -> Stand:
    reached = sum(c.reached for c in chosen)
    again = []
    if level is not None and reached == len(chosen):
        for scores, choice in zip(drawn[0].scores[arm.name], chosen, strict=True):
            hit = scores >= level - _TINY
            again.append(float((hit.any(axis=1) & (hit.argmax(axis=1) == choice.index)).mean()))
    target, general = (t.means[arm.name] for t in tables)
    bases = [t.of_base for t in tables]
    paths = tuple(
        tuple(Spot(p.label, x - bases[0], y - bases[1], p.state) for p, x, y in zip(path, xs, ys, strict=True))
        for path, xs, ys in zip(arm.paths, target, general, strict=True)
    )
    picked = [path[c.index] for path, c in zip(arm.paths, chosen, strict=True)]
    return Stand(
        arm=arm.name,
        noop=arm.noop,
        reached=reached,
        reaches=reached == len(chosen),
        at=tuple(p.label for p in picked),
        states=tuple(p.state for p in picked),
        again=tuple(again),
        target=drawn[0].of(arm.name),
        general=drawn[1].of(arm.name),
        paths=paths,
    )


def _versus(a: Stand, b: Stand, level: float | None, drawn: Sequence[_Drawn]) -> Versus:
    target, general = (d.apart(a.arm, b.arm) for d in drawn)
    if level is not None and a.reaches and b.reaches:
        beats = general.both.low > 0.0 and target.both.high >= 0.0
    else:
        beats = general.both.low > 0.0 and target.both.low > 0.0
    return Versus(a.arm, b.arm, target, general, beats)


def _front(stands: Sequence[Stand]) -> tuple[tuple[str, str], ...]:
    """Mean points over seeds, the base among them as ('', 'base'), that no other equals or exceeds in both scores.

    Ascending in target.
    """
    points = [("", "base", 0.0, 0.0)]
    for s in stands:
        for spots in zip(*s.paths, strict=True):
            x = float(np.mean([spot.target for spot in spots]))
            points.append((s.arm, spots[0].label, x, float(np.mean([spot.general for spot in spots]))))
    # Of equal points the first stays, by name: the order of the arms changes nothing.
    points.sort(key=lambda p: (-p[2], -p[3], p[0], p[1]))
    kept: list[tuple[str, str, float, float]] = []
    for point in points:
        if not kept or point[3] > kept[-1][3]:
            kept.append(point)
    return tuple((arm, label) for arm, label, _, _ in reversed(kept))
