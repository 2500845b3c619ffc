"""Rounds asked and added up: what came back, what it took, and what there is to say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from forgetbench.errors import UsageError
from forgetbench.types import Request, Response

if TYPE_CHECKING:
    from forgetbench.rounds import Asker


class Cost(NamedTuple):
    """What was answered, and the tokens of it."""

    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass
class Ledger:
    """Asks rounds. Answers stay and are found under their request's id, and none is asked for twice."""

    asker: Asker
    answers: dict[str, Response] = field(default_factory=dict)
    notes: dict[str, Counter[str]] = field(default_factory=dict)
    """What there is to say: of how many items, by where (a task and view, or nothing)."""
    by_round: dict[str, Cost] = field(default_factory=dict)

    def ask(self, name: str, requests: Iterable[Request], *, optional: str = "") -> bool:
        """Whether the round could be asked. `optional`: what is missing without it, noted where an engine cannot;
        without it the asker's UsageError is raised."""
        new = {r.request_id: r for r in requests if r.request_id not in self.answers}
        if not new:
            return True
        try:
            found = self.asker(name, list(new.values()))
        except UsageError as error:
            if not optional:
                raise
            self.note(f"{optional}: {error}", len(new))
            return False
        self.answers.update(found)
        self.by_round[name] = _sum((self.by_round.get(name, Cost()), _cost(found.values())))
        return True

    def note(self, why: str, items: int = 1, *, where: str = "") -> None:
        self.notes.setdefault(why, Counter())[where] += items

    @property
    def cost(self) -> Cost:
        """Of all rounds together."""
        return _sum(self.by_round.values())

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each reason: where it holds stands behind it."""
        return tuple(_line(why, found) for why, found in sorted(self.notes.items()))


def _line(why: str, found: Mapping[str, int]) -> str:
    (name, n), *others = sorted(found.items())
    counted = f"{n:,} {'item' if n == 1 else 'items'}"
    if not name and not others:
        return f"{why} ({counted})"
    first = f"{counted} of {name}" if name else counted
    return f"{why}: {', '.join([first, *(f'{m:,} of {other}' for other, m in others)])}"


def _cost(answers: Iterable[Response]) -> Cost:
    return _sum(Cost(1, r.prompt_tokens, sum(len(g.token_ids) for g in r.generations)) for r in answers)


def _sum(costs: Iterable[Cost]) -> Cost:
    each = [Cost(), *costs]
    return Cost(*(sum(column) for column in zip(*each, strict=True)))
