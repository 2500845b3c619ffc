"""The ledger of rounds: nothing is asked twice, what cannot be asked is noted, sums are those of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.errors import UsageError
from forgetbench.ledger import Cost, Ledger
from forgetbench.types import Generate, Generation, Prompt, Request, Response, Score

pytestmark = pytest.mark.unit


def request(n: int, *, score: bool = False) -> Request:
    return Request(f"r{n}", "base", Prompt(text=f"{n}"), Score(("a", "b")) if score else Generate(4))


class Fake:
    """Answers n with n prompt tokens and n % 3 generated ones; leaves out those that it does not know."""

    def __init__(self, unknown: frozenset[str] = frozenset()) -> None:
        self.asked: list[tuple[str, str]] = []
        self._unknown = unknown

    def __call__(self, name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        if any(isinstance(r.body, Score) for r in requests):
            raise UsageError("engine", "cannot score", "choose another engine")
        self.asked += [(name, r.request_id) for r in requests]
        return {r.request_id: self.answer(r) for r in requests if r.request_id not in self._unknown}

    @staticmethod
    def answer(request: Request) -> Response:
        n = int(request.request_id[1:])
        return Response(request.request_id, (Generation("x", (7,) * (n % 3), "stop"),), prompt_tokens=n)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), max_size=6)), max_size=6))
def test_each_request_is_asked_once_and_the_sums_are_those_of_the_answers(rounds: list[tuple[str, list[int]]]) -> None:
    fake = Fake()
    ledger = Ledger(fake)
    for name, numbers in rounds:
        assert ledger.ask(name, [request(n) for n in numbers])
    asked = [key for _, key in fake.asked]
    assert sorted(asked) == sorted(ledger.answers) == sorted({f"r{n}" for _, numbers in rounds for n in numbers})
    for name in {name for name, _ in fake.asked}:
        mine = [int(key[1:]) for round_, key in fake.asked if round_ == name]
        assert ledger.by_round[name] == (len(mine), sum(mine), sum(n % 3 for n in mine))
    assert ledger.cost == tuple(sum(column) for column in zip(Cost(), *ledger.by_round.values(), strict=True))


def test_what_has_no_answer_costs_nothing_and_may_be_asked_again() -> None:
    fake = Fake(frozenset({"r2"}))
    ledger = Ledger(fake)
    for _ in range(2):
        ledger.ask("a", [request(1), request(2)])
    assert fake.asked == [("a", "r1"), ("a", "r2"), ("a", "r2")]
    assert ledger.cost == Cost(1, 1, 1)


def test_an_optional_round_that_cannot_be_asked_is_noted() -> None:
    ledger = Ledger(Fake())
    scores = [request(1, score=True), request(2, score=True)]
    assert not ledger.ask("a", scores, optional="no margins")
    assert ledger.lines == ("no margins: engine: cannot score; choose another engine (2 items)",)
    assert ledger.cost == Cost()
    with pytest.raises(UsageError):
        ledger.ask("a", scores)


def test_lines_count_items() -> None:
    ledger = Ledger(Fake())
    ledger.note("b")
    ledger.note("a", 1_000)
    ledger.note("a", 200)
    ledger.note("c", 1, where="code (chat)")
    ledger.note("d", 3, where="y")
    ledger.note("d", 2, where="x")
    ledger.note("d", 1_000, where="x")
    assert ledger.lines == ("a (1,200 items)", "b (1 item)", "c: 1 item of code (chat)", "d: 1,002 items of x, 3 of y")
    ledger.note("d", 4)  # of no task
    assert ledger.lines[-1] == "d: 4 items, 1,002 of x, 3 of y"
