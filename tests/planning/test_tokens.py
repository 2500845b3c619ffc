"""Token counts against the tries that they describe, built node by node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.engines.encode import Encoder
from forgetbench.planning.tokens import count_tokens, report
from forgetbench.types import Generate, Prompt, Read, Request, Score
from tests.engines import tiny

pytestmark = pytest.mark.unit
SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=9).map(tuple), max_size=20)


@given(SEQUENCES)
def test_trie_is_the_set_of_prefixes(sequences: list[tuple[int, ...]]) -> None:
    got = count_tokens(0, 0, sequences)
    assert got.trie_tokens == len({s[:n] for s in sequences for n in range(1, len(s) + 1)})
    filled = [s for s in sequences if s]
    assert got.duplicates == len(filled) - len(set(filled))
    assert got.block_tokens(1) == got.trie_tokens + sum(
        any(other[: len(s)] == s for other in sorted(set(filled))[:i]) for i, s in enumerate(sorted(set(filled)))
    )


@given(SEQUENCES, st.integers(1, 4))
def test_blocks_are_those_that_a_cache_would_hold(sequences: list[tuple[int, ...]], block: int) -> None:
    """A cache of whole blocks, never evicted, asked in sorted order."""
    cache: set[tuple[int, ...]] = set()
    computed = 0
    for s in sorted({s for s in sequences if s}):
        hit = 0
        while hit + block < len(s) and s[: hit + block] in cache:
            hit += block
        computed += len(s) - hit
        cache |= {s[:n] for n in range(block, len(s) + 1, block)}
    assert count_tokens(0, 0, sequences).block_tokens(block) == computed


def test_what_a_request_makes_an_engine_read() -> None:
    tokenizer: Any = tiny.make_tokenizer(bos=True)
    text = "Question: What is the capital of Arvenia? Answer:"
    ids = tokenizer.encode(text)
    asked = [
        Request("letters", "c", Prompt(text=text), Score((" A", " B", " C"))),
        Request("long", "c", Prompt(text=text), Score((" Tolmis is a city",))),
        Request("words", "c", Prompt(text=text), Generate(5)),
        Request("given", "c", Prompt(token_ids=tuple(ids[:4])), Generate(5)),
        Request("nothing", "c", Prompt(text=text), Score(("",))),
    ]
    got = report(asked, Encoder(tokenizer))
    tail = len(tokenizer.encode(text + " Tolmis is a city")) - len(ids) - 1
    assert tail > 1
    assert (got.requests, got.duplicates) == (5, 3)  # the three letters and the words read the same
    assert got.prompt_tokens == 3 * len(ids) + 4
    assert got.trie_tokens == len(ids) + tail
    reads = [
        Request("read", "c", Prompt(text=text), Read((7, 8, 9))),
        Request("start", "c", Prompt(text=""), Read((7, 8))),
    ]
    more = report([*asked, *reads], Encoder(tokenizer))
    assert more.prompt_tokens == got.prompt_tokens + len(ids) + 1
    assert more.trie_tokens == got.trie_tokens + 2 + 1  # the last is only predicted, and BOS is there already
    with pytest.raises(ValueError):
        got.block_tokens(0)
