"""The order of a plan: depth-first over the texts, long jobs first, nothing lost, independent of where it began."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.engines.prefix import common_prefix
from forgetbench.planning.order import LEAST_SHARED, in_order
from forgetbench.types import Generate, Message, Prompt, Read, Request, Score

pytestmark = pytest.mark.unit
TEXTS = st.text(alphabet="ab", max_size=8)
BODIES = st.one_of(
    st.integers(1, 5).map(Generate),
    st.integers(1, 3).map(lambda n: Read((7,) * n)),
    st.lists(st.sampled_from(["x", "yy", "zzz"]), min_size=1, max_size=2).map(lambda c: Score(tuple(c))),
)
ASKED = st.lists(st.tuples(TEXTS, BODIES), max_size=25).map(
    lambda many: [Request(f"{i:03}", "c", Prompt(text=text), body) for i, (text, body) in enumerate(many)]
)


def text(request: Request) -> str:
    assert request.prompt.text is not None
    return request.prompt.text


def job(request: Request) -> tuple[int, int]:
    if isinstance(request.body, Generate):
        return 1, request.body.max_tokens
    if isinstance(request.body, Read):
        return 0, len(text(request)) + 4 * len(request.body.token_ids)
    return 0, len(text(request)) + max(len(c) for c in request.body.continuations)


@given(asked=ASKED, least=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_depth_first_and_long_jobs_first(asked: list[Request], least: int, seed: int) -> None:
    ordered = in_order(asked, least)
    assert sorted(r.request_id for r in ordered) == [r.request_id for r in asked]
    shuffled = list(asked)
    random.Random(seed).shuffle(shuffled)
    assert in_order(shuffled, least) == ordered
    beginnings = {text(r)[:n] for r in asked for n in range(least, len(text(r)) + 1)}
    for beginning in beginnings:
        places = [i for i, r in enumerate(ordered) if text(r).startswith(beginning)]
        assert places == list(range(places[0], places[-1] + 1)), beginning
        # Below a beginning the branches come by their longest job, what ends there before all of them.
        inside = [ordered[i] for i in places]
        jobs: dict[str, tuple[int, int]] = {}
        for r in inside:
            branch = text(r)[: len(beginning) + 1]
            jobs[branch] = max(jobs.get(branch, (0, 0)), job(r))
        if beginning in jobs:
            assert next(iter(jobs)) == beginning
            del jobs[beginning]
        if len(beginning) >= max(least, 1):
            assert list(jobs.values()) == sorted(jobs.values(), reverse=True)


@given(asked=ASKED)
@settings(max_examples=100, deadline=None)
def test_each_beginning_is_read_once(asked: list[Request]) -> None:
    """What a request has in common with the one before it is all that it has in common with any before it."""
    ordered = in_order(asked, 0)
    for i, request in enumerate(ordered[1:], 1):
        known = max(common_prefix(text(request), text(r)) for r in ordered[:i])
        assert common_prefix(text(request), text(ordered[i - 1])) == known


def test_no_barrier_between_tasks_and_kinds() -> None:
    """Two subjects ranked, one of them also answered in words, and lone generations of other lengths."""
    head = {s: f"{s} " * LEAST_SHARED for s in ("anatomy", "zoology")}
    ranked = [
        Request(f"{s}{i}", "c", Prompt(text=f"{t}{i}"), Score((" A",))) for s, t in head.items() for i in range(3)
    ]
    written = Request("zoology1w", "c", Prompt(text=f"{head['zoology']}1"), Generate(50))
    alone = [Request(f"g{n}", "c", Prompt(text=f"Question {n}"), Generate(n)) for n in (20, 400)]
    names = [r.request_id for r in in_order([*ranked, written, *alone])]
    assert names == ["g400", "zoology1w", "zoology1", "zoology0", "zoology2", "g20", "anatomy0", "anatomy1", "anatomy2"]


def test_messages_and_token_ids_share_beginnings_too() -> None:
    system = Message("system", "You are an examiner of the old school. " * 3)
    talk = [Request(f"m{i}", "c", Prompt(messages=(system, Message("user", str(i)))), Generate(9)) for i in (1, 2)]
    other = Request("t", "c", Prompt(text="a lone text"), Generate(9))
    ids = Request("i", "c", Prompt(token_ids=(1, 2, 3)), Generate(9))
    names = [r.request_id for r in in_order([talk[0], other, ids, talk[1]])]
    assert abs(names.index("m1") - names.index("m2")) == 1
    assert in_order([]) == []


def test_thousands_of_nested_beginnings() -> None:
    """Deeper than Python's stack: a chain in which each text begins the next."""
    asked = [Request(f"{n:05}", "c", Prompt(text="a" * n), Score((" A",))) for n in range(3000)]
    assert [r.request_id for r in in_order(reversed(asked), 0)] == [r.request_id for r in asked]
