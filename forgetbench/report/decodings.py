"""Which decodings a comparison has, and which rules are decided on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forgetbench.analysis.types import Change
from forgetbench.gate.policy_match import is_estimand
from forgetbench.gate.types import Rule
from forgetbench.types import GREEDY, View


def decodings_of(changes: Iterable[Change], view: View) -> list[str]:
    """Greedy first."""
    return sorted({c.decode_id for c in changes if c.view == view}, key=lambda d: (d != GREEDY, d))


def deciding_here(rules: Iterable[Rule], decode_id: str, decodings: Sequence[str]) -> list[Rule]:
    """The rules that are decided on these answers: `auto` takes greedy ones where there are any."""
    chosen = [r for r in rules if is_estimand(r, decode_id)]
    if decode_id == GREEDY or GREEDY not in decodings:
        return chosen
    return [r for r in chosen if r.estimand == "sampled"]
