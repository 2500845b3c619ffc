"""Response <-> line, exactly; what is final."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.errors import UsageError
from forgetbench.runs.codec import decode, encode, is_final, peek
from forgetbench.types import ContinuationScore, Generation, Response, TopTokens

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
    import numpy as np

    score = ContinuationScore(np.float64(-1.25), np.bool_(True), np.int64(2), (np.float32(0.1),))  # type: ignore[arg-type]
    back = decode(encode(Response("r", scores=(score,)))).scores[0]
    assert (back.logprob, back.is_greedy, back.n_tokens) == (-1.25, True, 2)
    assert back.token_logprobs == (float(np.float32(0.1)),)


@pytest.mark.parametrize(
    ("response", "final"),
    [
        (Response("r", (Generation("a", (1,), "stop"),)), True),
        (Response("r", (Generation("a", (1,), "length"),)), True),
        (Response("r", scores=(ContinuationScore(-1.0, True, 1),)), True),
        (Response("r", (Generation("a", (1,), "stop"),), error="lost the connection"), False),
        (Response("r", (Generation("a", (1,), "stop"), Generation("", (), "error"))), False),
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
