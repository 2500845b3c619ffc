"""What is asked of an engine: only what it can, and reads keep their place beside one another."""

from __future__ import annotations

import pytest

from forgetbench.engines.base import Capabilities
from forgetbench.errors import EngineError, UsageError
from forgetbench.runs.asking import _check_answer, check_capabilities, merge
from forgetbench.types import Generate, Generation, Prompt, Read, Reading, Request, Response, Score

pytestmark = pytest.mark.unit
EMPTY = Prompt(text="")
READ = Request("r", "x", EMPTY, Read((1, 2)))


def test_a_read_needs_an_engine_that_reads() -> None:
    both = Capabilities(score=True, generate=True, token_stats=True)
    with pytest.raises(UsageError, match="cannot read given tokens, which the suite asks for"):
        check_capabilities(both, [READ])
    check_capabilities(both, [Request("s", "x", EMPTY, Score(("a",))), Request("g", "x", EMPTY, Generate(3))])
    check_capabilities(Capabilities(score=False, generate=False, token_stats=False, read=True), [READ])


def test_half_a_reading_is_the_engines_fault() -> None:
    half = Reading((-1.0,), (0.5,), (3,), (7,))
    whole = Reading((-1.0,) * 2, (0.5,) * 2, (3,) * 2, (7,) * 2)
    _check_answer(READ, Response("r", reading=whole))
    _check_answer(READ, Response("r", error="out of memory"))
    for said in (Response("r", reading=half), Response("r", (Generation("", (), "stop"),))):
        with pytest.raises(EngineError, match="answers to request r, 2 were asked"):
            _check_answer(READ, said)


def test_the_same_text_read_by_two_checkpoints_stands_side_by_side() -> None:
    """Although all texts are read after the same empty prompt, and each checkpoint is asked at other ids."""

    def order(checkpoint: str, texts: list[tuple[int, ...]]) -> list[Request]:
        at = 1 if checkpoint == "x" else 2
        return [Request(f"{checkpoint}{t[0]}", checkpoint, EMPTY, Read(t, at=((at,),) * len(t))) for t in texts]

    texts = [(1, 2), (3, 4), (5, 6)]
    merged = merge([order("x", texts), order("y", texts[::-1])])
    assert [r.request_id for r in merged] == ["x1", "y1", "x3", "y3", "x5", "y5"]
