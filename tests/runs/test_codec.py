"""Response <-> line, exactly; what is final."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.errors import UsageError
from forgetbench.runs.codec import decode, encode, is_final, peek
from forgetbench.types import ContinuationScore, Generation, Reading, Response, TopTokens

pytestmark = pytest.mark.unit

floats = st.floats(allow_nan=False)
texts = st.text(st.characters(codec=None))  # lone surrogates included
logprobs = st.none() | st.lists(floats, max_size=4).map(tuple)
tops = st.none() | st.lists(
    st.builds(
        TopTokens,
        st.lists(st.integers(0, 9), max_size=3).map(tuple),
        st.lists(floats, max_size=3).map(tuple),
        floats,
    ),
    max_size=2,
).map(tuple)
generations = st.builds(
    Generation,
    text=texts,
    token_ids=st.lists(st.integers(0, 2**31), max_size=5).map(tuple),
    finish_reason=st.sampled_from(["stop", "length", "error"]),
    logprobs=logprobs,
    entropies=logprobs,
    top=tops,
)
scores = st.builds(ContinuationScore, floats, st.booleans(), st.integers(0, 99), logprobs)
single = st.floats(width=32, allow_nan=False)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    """Of 0 to 4 positions; numbers of float32, as engines compute them, or of any kind."""
    count = draw(st.integers(0, 4))
    number = draw(st.sampled_from([single, floats]))

    def each(entry: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
        return st.lists(entry, min_size=count, max_size=count).map(tuple)

    ids = st.integers(0, 2**31)
    pairs = st.lists(st.tuples(ids, number), max_size=3).map(lambda found: list(zip(*found, strict=True)) or [(), ()])
    top = st.tuples(pairs, floats).map(lambda found: TopTokens(found[0][0], found[0][1], found[1]))
    return Reading(
        logprobs=draw(each(number)),
        entropies=draw(each(number)),
        nucleus_sizes=draw(each(ids)),
        argmax=draw(each(ids)),
        top=draw(st.none() | each(top)),
        at=draw(st.none() | each(st.lists(number, max_size=3).map(tuple))),
    )


responses = st.builds(
    Response,
    request_id=texts,
    generations=st.lists(generations, max_size=3).map(tuple),
    scores=st.lists(scores, max_size=3).map(tuple),
    prompt_tokens=st.integers(0, 10**6),
    prompt_token_hash=texts,
    truncated_left=st.integers(0, 99),
    seconds=st.none() | floats,
    error=st.none() | texts,
    reading=st.none() | readings(),
)


@settings(max_examples=300, deadline=None)
@given(responses)
def test_round_trip_is_exact(response: Response) -> None:
    blob = encode(response)
    assert decode(blob) == response
    assert repr(decode(blob)) == repr(response)  # also -0.0 against 0.0
    assert b"\n" not in blob
    assert peek(blob) == (response.request_id, is_final(response))


def test_nan_and_two_lone_surrogates_survive() -> None:
    response = Response("r", (Generation("\ud83d\ude00|\udc00", (1,), "stop", (math.nan, -math.inf), (math.inf,)),))
    blob = encode(response)
    back = decode(blob).generations[0]
    assert back.text == response.generations[0].text
    assert back.logprobs is not None
    assert math.isnan(back.logprobs[0])
    assert back.logprobs[1] == -math.inf
    assert back.entropies == (math.inf,)

    def refuse(name: str) -> None:
        raise AssertionError(f"not JSON: {name}")

    json.loads(blob.decode("utf-8", "surrogatepass"), parse_constant=refuse)


def test_numbers_of_numpy_are_stored_as_numbers() -> None:
    score = ContinuationScore(np.float64(-1.25), np.bool_(True), np.int64(2), (np.float32(0.1),))  # type: ignore[arg-type]
    back = decode(encode(Response("r", scores=(score,)))).scores[0]
    assert (back.logprob, back.is_greedy, back.n_tokens) == (-1.25, True, 2)
    assert back.token_logprobs == (float(np.float32(0.1)),)


def test_a_line_without_a_reading_is_what_it_always_was() -> None:
    """Written down: stored runs and caches hold such lines, and their checksums."""
    score = ContinuationScore(-1.5, True, 2, (-1.0, -0.5))
    generation = Generation("né", (1, 2), "stop", (-0.1, -0.2), None, (TopTokens((1,), (-0.1,), 0.25),))
    assert encode(Response("r", (generation,), (score,), 7, "h", 1, 5, 0.25, 1.5)).decode() == (
        '{"id":"r","final":true,"v":1,"generations":[{"text":"né","token_ids":[1,2],"finish_reason":"stop",'
        '"logprobs":[-0.1,-0.2],"entropies":null,"top":[[[1],[-0.1],0.25]]}],"scores":[[-1.5,true,2,[-1.0,-0.5]]],'
        '"prompt_tokens":7,"prompt_token_hash":"h","truncated_left":1,"computed_tokens":5,'
        '"first_token_seconds":0.25,"seconds":1.5,"error":null}'
    )


def test_a_reading_takes_the_room_of_its_numbers() -> None:
    """512 positions with 20 likely ids: at most 6 bytes a float32 and 4 digits and a comma an id; nan survives."""
    draw = random.Random(0)

    def some(n: int) -> tuple[float, ...]:
        return tuple(float(np.float32(-draw.random() * 9)) for _ in range(n))

    ids = tuple(range(1000, 1020))
    top = tuple(TopTokens(ids, some(20), draw.random()) for _ in range(512))
    reading = Reading(some(512), some(512), (9,) * 512, (7,) * 512, top, tuple(some(20) for _ in range(512)))
    blob = encode(Response("r", reading=reading))
    assert decode(blob).reading == reading
    assert len(blob) < 512 * (2 * 6 + 2 * 2 + 20 * (5 + 6) + 11 + 20 * 6) + 1000
    back = decode(encode(Response("r", reading=Reading((math.nan, -math.inf), (0.1, 1e300), (1, 1), (1, 1))))).reading
    assert back is not None
    assert math.isnan(back.logprobs[0])
    assert (back.logprobs[1], back.entropies) == (-math.inf, (0.1, 1e300))


@pytest.mark.parametrize(
    ("response", "final"),
    [
        (Response("r", (Generation("a", (1,), "stop"),)), True),
        (Response("r", (Generation("a", (1,), "length"),)), True),
        (Response("r", scores=(ContinuationScore(-1.0, True, 1),)), True),
        (Response("r", (Generation("a", (1,), "stop"),), error="lost the connection"), False),
        (Response("r", (Generation("a", (1,), "stop"), Generation("", (), "error"))), False),
        (Response("r", reading=Reading((-1.0,), (0.5,), (3,), (7,))), True),
        (Response("r", reading=Reading((-1.0,), (0.5,), (3,), (7,)), error="lost"), False),
        (Response("r"), False),
    ],
)
def test_only_whole_answers_are_final(response: Response, final: bool) -> None:
    assert is_final(response) is final
    assert peek(encode(response))[1] is final


def test_a_line_of_a_later_format_is_one_clear_line() -> None:
    blob = encode(Response("r")).replace(b'"v":1', b'"v":2')
    with pytest.raises(UsageError, match="another version of forgetbench"):
        decode(blob)
