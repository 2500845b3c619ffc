"""What the transformers engine says it has done, against the tokens that really went into the model."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from forgetbench.checkpoints import Checkpoint
from forgetbench.engines.base import Usage
from forgetbench.engines.encode import Encoder
from forgetbench.engines.hf_model import HFModel
from forgetbench.engines.transformers_engine import TransformersEngine
from forgetbench.planning.order import in_order
from forgetbench.planning.tokens import report
from forgetbench.types import Request, Response
from tests.engines.conftest import generate, score

pytestmark = pytest.mark.unit
HEAD = "The following are multiple choice questions. Question: What is the capital of Arvenia? Answer: Tolmis. "
LETTERS = (" A", " B", " C", " D")
KINDS_OF_ERROR = score("none", HEAD.rstrip(), "")


def requests() -> list[Request]:
    out = [score(f"s{i}", HEAD * 4 + f"If {i} apples are left? Answer:", *LETTERS) for i in range(7)]
    out += [score(f"m{i}", HEAD * 4 + f"Question {i}", " one two three", " the lazy dog") for i in range(3)]
    out += [generate(f"g{i}", HEAD * 4 + f"If {i} apples", 3 + i) for i in range(4)]
    return in_order([*out, generate("k", HEAD, 5, temperature=1.0, seeds=(1, 2, 3))])


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(rows, width) of every forward pass: what went into the model, padding and all."""
    shapes: list[tuple[int, int]] = []
    original = HFModel.logits

    def spy(self: HFModel, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        shapes.append(tuple(inputs["input_ids"].shape))
        return original(self, rows, places, **inputs)

    monkeypatch.setattr(HFModel, "logits", spy)
    return shapes


def served(engine: TransformersEngine, asked: list[Request]) -> dict[str, Response]:
    return {a.request_id: a for a in engine.run(asked)}


def test_usage_adds_up(checkpoint: Checkpoint, fed: list[tuple[int, int]]) -> None:
    engine = TransformersEngine(checkpoint)
    assert engine.usage == Usage()
    answers = served(engine, requests())
    usage = engine.usage
    assert usage.requests == len(answers) == 15
    assert usage.prompt_tokens == sum(a.prompt_tokens for a in answers.values())
    assert usage.new_tokens == sum(len(g.token_ids) for a in answers.values() for g in a.generations)
    assert usage.computed_tokens == sum(a.computed_tokens or 0 for a in answers.values())
    # What was fed and is neither padding nor a generated token.
    assert 0 < usage.computed_tokens <= sum(rows * width for rows, width in fed if width > 1)
    assert usage.busy_seconds > 0
    again = served(engine, requests()[:2])
    assert engine.usage.requests == 15 + len(again)


def test_computed_tokens_are_near_the_trie_and_exact_without_sharing(qwen: Checkpoint) -> None:
    asked = [r for r in requests() if r.request_id[0] == "s"]
    encoder = Encoder(qwen.tokenizer())
    trie = report(asked, encoder).trie_tokens
    shared, alone = TransformersEngine(qwen), TransformersEngine(qwen, share_prefix=False)
    served(shared, asked)
    answers = served(alone, asked)
    assert trie <= shared.usage.computed_tokens <= 1.1 * trie
    assert alone.usage.computed_tokens == sum(a.prompt_tokens for a in answers.values())
    assert alone.usage.computed_tokens > 4 * trie


def test_a_prefix_that_has_to_be_read_again_counts_again(qwen: Checkpoint) -> None:
    asked = [r for r in requests() if r.request_id[0] == "s"]
    engine = TransformersEngine(qwen)
    served(engine, asked)
    first = engine.usage.computed_tokens
    served(engine, asked)
    held = engine.usage.computed_tokens - first
    assert held < first / 2  # the prefix was still there
    assert engine._parts is not None
    engine._parts[0].prefiller.forget()
    served(engine, asked)
    assert engine.usage.computed_tokens - first - held == first


def test_times_begin_when_the_batch_is_taken_up(qwen: Checkpoint) -> None:
    answers = served(TransformersEngine(qwen), requests())
    for name, answer in answers.items():
        assert answer.seconds is not None
        if name[0] in "gk":
            assert answer.first_token_seconds is not None
            assert 0 < answer.first_token_seconds <= answer.seconds
        else:
            assert answer.first_token_seconds is None
            assert answer.seconds > 0
    written = [answers[f"g{i}"] for i in range(4)]  # one batch: the longer answer ends later
    assert len({a.first_token_seconds for a in written}) == 1
    assert [a.seconds for a in written] == sorted(a.seconds or 0 for a in written)


def test_a_request_in_several_batches_is_timed_from_its_first(
    qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(qwen, batch_rows=1)
    engine._load()
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    answers = served(engine, [score("one", HEAD, " one two"), score("two", "A city", " one two", " the lazy dog")])
    one, two = (answers[n].seconds or 0.0 for n in ("one", "two"))
    assert two > one > 0


def test_what_failed_is_answered_and_computes_nothing(qwen: Checkpoint) -> None:
    engine = TransformersEngine(qwen)
    served(engine, [KINDS_OF_ERROR, generate("room", HEAD, 5000)])
    assert engine.usage.requests == 2
    assert (engine.usage.computed_tokens, engine.usage.new_tokens) == (0, 0)


def test_a_prefix_is_kept_from_chunk_to_chunk(qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    from forgetbench.engines import transformers_engine

    asked = [r for r in requests() if r.request_id[0] == "s"]
    whole = TransformersEngine(qwen)
    served(whole, asked)
    monkeypatch.setattr(transformers_engine, "_CHUNK", 4)
    cut = TransformersEngine(qwen)
    served(cut, asked)
    assert cut.usage.computed_tokens <= 1.02 * whole.usage.computed_tokens
