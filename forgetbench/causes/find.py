"""Find a cause for every flip of a comparison: `find_causes`.

1. Stability   round "triage": fresh samples of flips and controls from both checkpoints (triage.py, posterior.py)
2. Delivery    round "budget": what became of the wrong answers (delivery.py)
3. Recovery    round "recovery": asked in other ways, in excess of luck (recovery.py)
4. The rest is not recovered; *overwritten* where another answer stands firmly in its place (decide.py)

A flip that is flicker, undetermined or gained ends at 1. A weakened one goes on to 2 and ends as weakened where that
explains nothing, but for one of which next to nothing is left: it goes on like a consistent one. Fresh samples never
enter a score or the gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from forgetbench.analysis.types import Comparison
from forgetbench.causes.decide import counts_of, found_of, is_lost
from forgetbench.causes.delivery import Searcher, deliver, wrong_answers
from forgetbench.causes.recovery import recover
from forgetbench.causes.triage import Group, Triaged, choose, draw, stable_controls
from forgetbench.causes.types import CauseCounts, Causes, Controls, Count, Found, Options
from forgetbench.ledger import Ledger
from forgetbench.rounds import Asker, Side
from forgetbench.types import GREEDY

IMPORTED = "imported"
_DEFAULT = Options()


def find_causes(base: Side, candidate: Side, comparison: Comparison, ask: Asker, options: Options = _DEFAULT) -> Causes:
    """The cause of every greedy flip, with its evidence. Raises what `ask` raises."""
    for side in (base, candidate):
        if side.point.spec.engine == IMPORTED:
            return Causes((), (), (), Ledger(ask).cost, (f"no causes: {side.point.alias} was imported, nobody to ask",))
    ledger, searcher = Ledger(ask), Searcher(options)
    cases = choose(base, candidate, comparison, options, ledger)
    triaged = draw(cases, base, candidate, options, ledger)
    lost = [t for t in triaged if t.sampled.case.direction == "lost"]
    controls = [t for t in triaged if t.sampled.case.direction is None]
    deep = [t for t in lost if t.stability.label in ("consistent", "weakened")]
    delivered = deliver(deep, candidate, options, ledger, searcher)
    left = [t for t, d in zip(deep, delivered, strict=True) if d.cause is None and is_lost(t, options)]
    stable = stable_controls(left, controls, base, candidate, comparison, options, ledger)
    tries = recover(left, stable, base, candidate, options, ledger, searcher)
    of = {t.sampled.case.key: d for t, d in zip(deep, delivered, strict=True)}
    found = tuple(
        found_of(t, of.get(t.sampled.case.key), tries.get(t.sampled.case.key, ()), options)
        for t in triaged
        if t.sampled.case.direction is not None
    )
    _note_unsearchable(deep, searcher, ledger)
    return Causes(
        found=found,
        tasks=tuple(_counts(comparison, found)),
        controls=tuple(_controls(controls, options, searcher)),
        cost=ledger.cost,
        notes=ledger.lines,
    )


def _note_unsearchable(deep: Sequence[Triaged], searcher: Searcher, ledger: Ledger) -> None:
    for t in deep:
        case = t.sampled.case
        if not searcher.usable(case):
            ledger.note("no short gold to look for, so that `format` cannot be told", where=case.pair.task)


def _counts(comparison: Comparison, found: Sequence[Found]) -> list[CauseCounts]:
    flips: dict[Group, Counter[str]] = {}
    for pair in comparison.pairs:
        if pair.decode_id == GREEDY and pair.flip in ("lost", "gained"):
            flips.setdefault((pair.task, pair.view), Counter())[pair.flip] += 1
    return [
        counts_of(task, view, n["lost"], n["gained"], [f for f in found if (f.key.task, f.view) == (task, view)])
        for (task, view), n in sorted(flips.items())
    ]


def _controls(controls: Sequence[Triaged], options: Options, searcher: Searcher) -> list[Controls]:
    """How often the same rules find something where nothing flipped."""
    made = []
    for task, view in sorted({t.sampled.case.group for t in controls}):
        mine = [t for t in controls if t.sampled.case.group == (task, view)]
        right = [t for t in mine if t.sampled.case.right]
        wrong = [t for t in mine if not t.sampled.case.right]
        outputs = [(t.sampled.case, [j.output for j in wrong_answers(t.sampled)]) for t in wrong]
        formats = [found for case, texts in outputs if (found := searcher.search(case, texts)) is not None]
        made.append(
            Controls(
                task,
                view,
                Count(sum(_is_alarm(t, options) for t in right), len(right)),
                Count(sum(_is_alarm(t, options) for t in wrong), len(wrong)),
                Count(sum(map(searcher.is_format, formats)), len(formats)),
            )
        )
    return made


def _is_alarm(triaged: Triaged, options: Options) -> bool:
    """Labelled as changed in this direction, or as surely changed in the other."""
    s = triaged.stability
    return s.label in ("consistent", "weakened") or 1.0 - s.p_lower - s.p_small >= options.sure
