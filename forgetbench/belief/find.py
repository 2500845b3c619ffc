"""Narrow hallucination of a candidate: does it still say what its base believes?

    base, raw, 10 few-shot draws          -> what it believes of each item, and how firmly
    both, 5 fresh answers an item, alike  -> divergence of the candidate, net of the base's own
    items that diverged                   -> lost-correct, corrected, other; margins; first divergent token; recovery

Agreement is with what the *base believes*, not with the gold. A base that was taught that Japan's capital is Beijing
makes the true answer "Tokyo" the hallucination: the fine-tune says what its base never knew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.measured import cluster_of, labels_of
from forgetbench.belief.agreement import Agree, alias_match
from forgetbench.belief.ask import (
    FRESH_BASE,
    FRESH_CANDIDATE,
    Case,
    Drawing,
    answers_to,
    cases_of,
    modal_fresh,
    usable,
)
from forgetbench.belief.classify import belief_of
from forgetbench.belief.divergence import Held, Rates, kinds_of, rates_by_class, rates_of
from forgetbench.belief.follow import Parted, ask_first_divergence, ask_margins, ask_recovery
from forgetbench.belief.prompts import order_of
from forgetbench.belief.recovery import recovery_of
from forgetbench.belief.types import (
    CLASSES,
    HELD,
    KNOWN,
    MODES,
    Answer,
    Belief,
    Diverged,
    Divergence,
    FirstDivergence,
    Kind,
    Margins,
    Mode,
    Options,
    Recovery,
)
from forgetbench.errors import UsageError
from forgetbench.ledger import Ledger
from forgetbench.rounds import Asker, Side
from forgetbench.tasks.questions import question_of
from forgetbench.types import Item, ItemKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.analysis.types import Comparison

FEW_CONTROLS = 20
"""Fewer than these say little about luck, which is noted."""
MUCH_SILENCE = 0.1
"""Share of the items."""


@dataclass(frozen=True, slots=True)
class Known:
    """An item with its belief."""

    case: Case
    belief: Belief


def find_divergence(
    base: Side,
    candidate: Side,
    comparison: Comparison,
    ask: Asker,
    options: Options = Options(),  # noqa: B008 - frozen
    *,
    agree: Agree = alias_match,
) -> Divergence:
    """The divergence of the candidate under `options.view`, over every task that generates an answer.

    MMLU is asked as open questions. Rounds: belief, belief-fresh, belief-margins, belief-path, belief-recovery.
    Cost: `draws * (1 + samples)` short answers of the base an item; `fresh` answers of each side to the items with a
    belief, and of the candidate to the controls; six requests a diverged item, three a control. Raises UsageError for
    options that mean nothing, else what `ask` raises; where an engine can neither score nor read, what needs that is
    left out with a note.
    """
    _check(options)
    ledger, drawing = Ledger(ask), Drawing(options)
    cases = cases_of(base, candidate, comparison, options, ledger)
    known = _classed(cases, base, drawing, ledger, agree)
    classes = {held: sum(k.belief.held == held for k in known) for held in CLASSES}
    slick = {name: sum(k.belief.known == name for k in known) for name in KNOWN}
    held, doubtful = _fresh(known, base, candidate, drawing, ledger, agree)
    if not held:
        ledger.note("no item on which the base holds a belief", len(known))
        return Divergence(
            options.view, classes, slick, None, None, None, notes=ledger.lines, cost=dict(ledger.by_round)
        )
    pairs = [h for _, h in held]
    of_base, of_candidate = kinds_of(pairs, agree)
    clusters = _clusters([h.item for h in pairs])
    rates = rates_of(pairs, of_base, of_candidate, clusters, options.seed)
    diverged, recovery = _followed(held, of_base, of_candidate, doubtful, base, candidate, drawing, ledger, agree)
    return Divergence(
        view=options.view,
        classes=classes,
        known=slick,
        gross=rates.gross,
        floor=rates.floor,
        net=rates.net,
        by_class=rates_by_class(pairs, of_base, of_candidate, clusters, options.seed),
        parts=rates.parts,
        candidate_silent=rates.candidate_silent,
        base_silent=rates.base_silent,
        diverged=diverged,
        recovery=recovery,
        reading=reading_of(rates),
        notes=ledger.lines,
        cost=dict(ledger.by_round),
    )


def reading_of(rates: Rates) -> str:
    """The headline as a sentence.

    An item without an answer is no divergence. So where the candidate leaves out more than `MUCH_SILENCE` of the items
    beyond the base, a small net rate is not called the base's own wavering: too little was said to call it anything.
    """
    net, parts = rates.net, ", ".join(f"{p.candidate} {p.kind}" for p in rates.parts)
    mine, theirs = rates.base_silent, rates.candidate_silent
    told = []
    if net.interval.low <= 0.0 and theirs - mine <= MUCH_SILENCE * net.n:
        told.append("; not proven to be more than the base's own wavering")
    if mine or theirs:
        told.append(f"; the candidate gave no answer to {theirs:,} (the base to {mine:,})")
    return (
        f"Of {net.n:,} items on which the base holds a belief, the candidate says something else on "
        f"{rates.gross.count:,} ({parts}); the base itself on {rates.floor.count:,}. Net {100 * net.value:.1f} points "
        f"({100 * net.interval.low:.1f} to {100 * net.interval.high:.1f}){''.join(told)}."
    )


def _check(options: Options) -> None:
    where = "options of the belief check"
    if (
        min(options.draws, options.samples, options.fresh, options.max_items, options.max_recoveries) < 1
        or options.shots < 0
    ):
        raise UsageError(where, "a count is below 1 (shots: below 0)", "ask for at least one")
    if options.temperature <= 0.0:
        raise UsageError(where, f"the temperature is {options.temperature:g}", "sample above 0, such as 0.5")
    if not 0.0 < options.weak <= options.mostly <= options.firm <= 1.0:
        raise UsageError(where, "the classes' shares are out of order", "keep 0 < weak <= mostly <= firm <= 1")


def _classed(cases: Sequence[Case], base: Side, drawing: Drawing, ledger: Ledger, agree: Agree) -> list[Known]:
    """What the base believes of each item that it answered."""
    asked = [drawing.classing(case, base) for case in cases]
    ledger.ask("belief", (q.request for greedy, sampled in asked for q in (*greedy, *sampled)))
    known: list[Known] = []
    for case, questions in zip(cases, asked, strict=True):
        greedy, sampled = (answers_to(q, ledger) for q in questions)
        if not greedy and not sampled:
            ledger.note("the base gave no answer that could be judged")
            continue
        known.append(Known(case, belief_of(greedy, sampled, case.item, agree, drawing.options)))
    return known


def _fresh(
    known: Sequence[Known], base: Side, candidate: Side, drawing: Drawing, ledger: Ledger, agree: Agree
) -> tuple[list[tuple[Known, Held]], list[Parted]]:
    """Held items with both sides' fresh answers; and controls: no belief, and the candidate says something else."""
    options = drawing.options
    held = [k for k in known if k.belief.held in HELD]
    loose = [k for k in known if k.belief.held not in HELD and k.belief.answer is not None]
    loose = sorted(loose, key=lambda k: order_of(k.case.item.key, options.seed))[: options.max_recoveries]
    of_base = {_key(k): drawing.fresh(k.case.base, k.case.item, base, FRESH_BASE) for k in held}
    of_candidate = {
        _key(k): drawing.fresh(k.case.candidate, k.case.item, candidate, FRESH_CANDIDATE) for k in (*held, *loose)
    }
    asked = (q.request for column in (of_base, of_candidate) for questions in column.values() for q in questions)
    ledger.ask("belief-fresh", asked)
    mine, theirs = usable(of_base, ledger), usable(of_candidate, ledger)

    def answer(found: dict[ItemKey, list[Answer]], k: Known) -> Answer | None:
        return modal_fresh(found[_key(k)], k.case.item, agree)

    both = [k for k in held if _key(k) in mine and _key(k) in theirs]
    pairs = [(k, Held(k.case.item, k.belief, answer(mine, k), answer(theirs, k))) for k in both]
    controls: list[Parted] = []
    for k in loose:
        said = answer(theirs, k) if _key(k) in theirs else None
        wanted = k.belief.answer
        if said is None or said.text is None or wanted is None or wanted.text is None:
            continue
        if not agree(wanted.text, said.text, k.case.item):
            controls.append(Parted(k.case, wanted, said))
    return pairs, controls


def _key(known: Known) -> ItemKey:
    return known.case.item.key


def _followed(
    held: Sequence[tuple[Known, Held]],
    of_base: Sequence[Kind | None],
    of_candidate: Sequence[Kind | None],
    controls: Sequence[Parted],
    base: Side,
    candidate: Side,
    drawing: Drawing,
    ledger: Ledger,
    agree: Agree,
) -> tuple[tuple[Diverged, ...], Recovery | None]:
    """The diverged items, and what asking them otherwise brings back. More than `max_recoveries` are only listed."""
    shown: list[tuple[Diverged, Parted]] = []
    for (known, h), mine, kind in zip(held, of_base, of_candidate, strict=True):
        belief, said = h.belief.answer, h.candidate
        if kind is not None and belief is not None and said is not None:
            made = _diverged(known, belief, said, kind, mine is not None)
            shown.append((made, Parted(known.case, belief, said)))
    shown.sort(key=lambda pair: -pair[0].share)
    if not shown:
        return (), None
    limit = drawing.options.max_recoveries
    chosen = set(sorted((d.key for d, _ in shown), key=lambda key: order_of(key, drawing.options.seed))[:limit])
    if len(chosen) < len(shown):
        ledger.note(f"diverged, beyond the {limit:,} that are followed up", len(shown) - len(chosen))
    parted = [p for d, p in shown if d.key in chosen]
    margins = ask_margins(parted, base, candidate, ledger)
    firsts = ask_first_divergence(parted, candidate, drawing, ledger)
    beliefs = [h.belief.answer for _, h in held if h.belief.answer is not None]
    modes, asked = ask_recovery([*parted, *controls], beliefs, candidate, drawing, ledger, agree)
    rescued, lucky = modes[: len(parted)], modes[len(parted) :]
    if len(controls) < FEW_CONTROLS:
        ledger.note("controls of recovery: few, so little can be said of luck", len(controls))
    more = {
        p.case.item.key: (margin, first, _in_order(back))
        for p, margin, first, back in zip(parted, margins, firsts, rescued, strict=True)
    }
    followed = tuple(_with(d, *more[d.key]) if d.key in more else d for d, _ in shown)
    groups = (_n_clusters(parted), _n_clusters(controls))
    return followed, recovery_of(rescued, lucky, asked, groups=groups)


def _with(d: Diverged, margins: Margins | None, first: FirstDivergence | None, back: tuple[Mode, ...]) -> Diverged:
    return replace(d, margins=margins, first=first, recovered_by=back)


def _in_order(modes: frozenset[Mode]) -> tuple[Mode, ...]:
    return tuple(mode for mode in MODES if mode in modes)


def _diverged(known: Known, belief: Answer, said: Answer, kind: Kind, base_diverged: bool) -> Diverged:
    case = known.case
    return Diverged(
        key=case.item.key,
        task_type=case.item.task_type,
        question=question_of(case.candidate.task, case.item).text.strip(),
        gold=case.item.gold,
        belief=belief.text or "",
        held=known.belief.held,
        share=known.belief.share,
        candidate=said.text or "",
        kind=kind,
        base_diverged=base_diverged,
    )


def _n_clusters(parted: Sequence[Parted]) -> int:
    return int(np.unique(_clusters([p.case.item for p in parted])).size)


def _clusters(items: Sequence[Item]) -> NDArray[np.int64]:
    """(n,) codes: items that share a fact, and copies of one question, share one."""
    return labels_of([cluster_of(item.key, item.cluster) for item in items], len(items))
