"""How answers begin, how long they get and how they end: the habits that a fine-tune leaves first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.measured import Measured, doubt, mean_change, percent, share_change
from forgetbench.analysis.outputs import SIDES, Answered, Output, item_means, labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

OPENING = 4
"""Tokens of an opening."""
_SHOWN = 3
_CHARACTERS = 60


def opening_concentration(answered: Sequence[Answered], tokens: int = OPENING, *, seed: int = 0) -> Measured:
    """Share of answers that start with the side's own most common first `tokens` tokens; share.

    A shorter answer's opening is the whole of it. The interval takes the two openings as they are, which makes it
    wide rather than narrow where no opening stands out. The highest of many small counts is above zero by chance: on
    n different answers the share is 1 / n, on both sides alike.
    """
    clusters = labels(answered)
    modes, shares = [], []
    for side in SIDES:
        counts = Counter(o.token_ids[:tokens] for a in answered for o in a.side(side))
        mode = min(counts, key=lambda opening: (-counts[opening], opening))
        modes.append(mode)
        shares.append(item_means(answered, side, _starts_with(mode, tokens)))
    found = share_change(shares[0], shares[1], clusters, seed=seed)
    base, candidate = (float(s.mean()) for s in shares)
    same = "the same opening on both sides" if modes[0] == modes[1] else ""
    return Measured(
        name=f"opening_concentration_{tokens}",
        base=base,
        candidate=candidate,
        delta=found,
        unit="share",
        reading=f"answers start with the same {tokens} tokens in {percent(candidate)} of cases, "
        f"base {percent(base)}{doubt(found)}",
        note=same,
        examples=_examples(answered, tokens),
        n=len(answered),
        higher_is="more answers begin alike",
    )


def _starts_with(opening: tuple[int, ...], tokens: int) -> Callable[[Output], float]:
    return lambda output: float(output.token_ids[:tokens] == opening)


def _examples(answered: Sequence[Answered], tokens: int) -> tuple[str, ...]:
    """The candidate's most common openings as text, with their share on both sides."""
    counts = {side: Counter(o.token_ids[:tokens] for a in answered for o in a.side(side)) for side in SIDES}
    ranked = sorted(counts["candidate"].items(), key=lambda kv: (-kv[1], kv[0]))[:_SHOWN]
    found = []
    for opening, count in ranked:
        texts = [o.text for a in answered for o in a.candidate if o.token_ids[:tokens] == opening]
        shown = _common_start(texts)[:_CHARACTERS].strip()
        shares = [c / counts[s].total() for s, c in (("candidate", count), ("base", counts["base"][opening]))]
        found.append(f"{shown!r}: {percent(shares[0])}, base {percent(shares[1])}")
    return tuple(found)


def _common_start(texts: Sequence[str]) -> str:
    # Tokens need a tokenizer to be read; what all of their texts begin with does not.
    first, last = min(texts), max(texts)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def answer_length(answered: Sequence[Answered], *, seed: int = 0) -> Measured:
    """Mean number of tokens of an answer, each side in its own tokenizer; an item's samples averaged."""
    sides = [item_means(answered, side, lambda o: float(len(o.token_ids))) for side in SIDES]
    found = mean_change(sides[0], sides[1], labels(answered), seed=seed)
    base, candidate = (float(s.mean()) for s in sides)
    spread = [np.quantile([len(o.token_ids) for a in answered for o in a.side(s)], [0.1, 0.5, 0.9]) for s in SIDES]
    listed = ", ".join(f"{s} {q[0]:.0f} / {q[1]:.0f} / {q[2]:.0f}" for s, q in zip(SIDES, spread, strict=True))
    return Measured(
        name="answer_length",
        base=base,
        candidate=candidate,
        delta=found,
        unit="tokens",
        reading=f"answers are {candidate:.1f} tokens long on average, base {base:.1f}{doubt(found)}",
        note=f"10th, 50th and 90th percentile: {listed}",
        n=len(answered),
        higher_is="longer answers",
    )


def stop_rate(answered: Sequence[Answered], *, seed: int = 0) -> Measured | None:
    """Share of answers that end by themselves and not at the token limit; None where no item tells on both sides."""
    values = {"stop": 1.0, "length": 0.0}
    return _rate(
        answered,
        "stop_rate",
        lambda o: values.get(o.finish_reason or "", np.nan),
        "{} of the answers end by themselves",
        "more answers that end",
        seed,
    )


def loop_rate(answered: Sequence[Answered], *, seed: int = 0) -> Measured | None:
    """Share of answers that repeat themselves without end (`scoring.loops`)."""
    return _rate(answered, "loop_rate", lambda o: float(o.loops), "{} of the answers end in a loop", "more loops", seed)


def refusal_rate(answered: Sequence[Answered], *, seed: int = 0) -> Measured | None:
    """Share of answers that open with a refusal (`scoring.refusal`), right or wrong."""
    return _rate(
        answered,
        "refusal_rate",
        lambda o: float(o.refuses),
        "{} of the answers open with a refusal",
        "more refusals",
        seed,
    )


def habit_measures(answered: Sequence[Answered], *, seed: int = 0) -> tuple[Measured, ...]:
    """Openings, length, stop rate, loops and refusals."""
    made = [
        opening_concentration(answered, seed=seed),
        answer_length(answered, seed=seed),
        *(rate(answered, seed=seed) for rate in (stop_rate, loop_rate, refusal_rate)),
    ]
    return tuple(m for m in made if m is not None)


def _rate(
    answered: Sequence[Answered],
    name: str,
    value: Callable[[Output], float],
    sentence: str,
    higher_is: str,
    seed: int,
) -> Measured | None:
    clusters = labels(answered)
    sides = [item_means(answered, side, value) for side in SIDES]
    known = ~(np.isnan(sides[0]) | np.isnan(sides[1]))
    if not known.any():
        return None
    sides = [s[known] for s in sides]
    found = share_change(sides[0], sides[1], clusters[known], seed=seed)
    base, candidate = (float(s.mean()) for s in sides)
    flagged = [a.item for a in answered if any(value(o) == 1.0 for o in a.candidate)]
    return Measured(
        name=name,
        base=base,
        candidate=candidate,
        delta=found,
        unit="share",
        reading=f"{sentence.format(percent(candidate))}, base {percent(base)}{doubt(found)}",
        examples=() if name == "stop_rate" else tuple(flagged[:_SHOWN]),
        n=int(known.sum()),
        higher_is=higher_is,
    )
