"""Readings of given tokens against a plain forward pass, one sequence at a time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines import positions
from forgetbench.engines.hf_model import HFModel
from forgetbench.engines.reading import Wanted
from forgetbench.engines.transformers_engine import TransformersEngine
from forgetbench.types import Message, Prompt, Read, Reading, Request, Response, Score, TokenStats
from tests.engines import tiny
from tests.engines.conftest import break_weights, generate, plain_model, read, score, serve

pytestmark = pytest.mark.parity

HEAD = "The following are multiple choice questions. Question: What is the capital of Arvenia? Answer: Tolmis. "


def some_tokens(count: int, seed: int = 0) -> tuple[int, ...]:
    draw = random.Random(seed)
    return tuple(draw.randrange(10, 390) for _ in range(count))


def distributions(model: Any, context: list[int], body: Read) -> list[torch.Tensor]:
    """Log-probabilities [vocab] in float64 at each position, by one plain forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *body.token_ids]])).logits[0].double()
    return [torch.log_softmax(row, -1) for row in logits[len(context) - 1 : -1]]


def direct(model: Any, context: list[int], body: Read) -> Reading:
    """The same reading from whole distributions."""
    rows = distributions(model, context, body)
    sizes = []
    for row in rows:
        mass, size = 0.0, 0
        for p in sorted(row.exp().tolist(), reverse=True):
            if mass >= body.nucleus:
                break
            mass, size = mass + p, size + 1
        sizes.append(size)
    return Reading(
        logprobs=tuple(row[t].item() for row, t in zip(rows, body.token_ids, strict=True)),
        entropies=tuple(-(row.exp() * row).sum().item() for row in rows),
        nucleus_sizes=tuple(sizes),
        argmax=tuple(int(row.argmax()) for row in rows),
        at=tuple(tuple(row[i].item() for i in ids) for row, ids in zip(rows, body.at, strict=True))
        if body.at
        else None,
    )


def same(got: Response, expected: Reading, tolerance: float = 1e-5) -> Reading:
    assert got.error is None
    assert got.reading is not None
    found = got.reading
    assert found.logprobs == pytest.approx(expected.logprobs, abs=tolerance)
    assert found.entropies == pytest.approx(expected.entropies, abs=tolerance)
    # Where the mass meets the nucleus, float32 may need a token more or less; test_nuclei_of_every_width is exact.
    assert len(found.nucleus_sizes) == len(expected.nucleus_sizes)
    assert all(abs(a - b) <= 1 for a, b in zip(found.nucleus_sizes, expected.nucleus_sizes, strict=True))
    assert found.argmax == expected.argmax
    assert (found.at is None) == (expected.at is None)
    for a, b in zip(found.at or (), expected.at or (), strict=True):
        assert a == pytest.approx(b, abs=tolerance)
    return found


def requests(tokenizer: Any) -> list[Request]:
    """Prompts with common beginnings, short and long reads, several reads of one prompt, prompts of ids."""
    at = tuple(some_tokens(n % 4, seed=n) for n in range(12))
    ids = tuple(tokenizer.encode(HEAD * 2))
    out = [read(f"s{i}", HEAD * 2 + f"If {i} apples", some_tokens(3 + i, i), top_m=i % 3) for i in range(6)]
    return [
        *out,
        read("one token", HEAD, (17,), nucleus=0.5),
        read("wanted ids", HEAD, some_tokens(12), at=at, top_m=4),
        read("same place, asked otherwise", HEAD, some_tokens(12), nucleus=0.3),
        read("its beginning", HEAD, some_tokens(5), top_m=9),
        read("ids", ids[:1], ids[1:], nucleus=0.9),
        read("long", ids[:9], some_tokens(70), nucleus=0.99, top_m=1000),
    ]


@pytest.mark.parametrize("args", [{}, {"share_prefix": False, "batch_rows": 3}], ids=["shared", "apart"])
def test_equal_to_plain_forward(checkpoint: Checkpoint, args: dict[str, Any]) -> None:
    model, tokenizer = plain_model(checkpoint), checkpoint.tokenizer()
    asked = requests(tokenizer)
    answers = serve(checkpoint, asked, **args)
    for request in asked:
        body = request.body
        assert isinstance(body, Read)
        prompt = request.prompt
        context = list(prompt.token_ids) if prompt.token_ids is not None else tokenizer.encode(prompt.text)
        same(answers[request.request_id], direct(model, context, body))
        assert answers[request.request_id].prompt_tokens == len(context)


def test_the_top_is_the_top_of_the_distribution(qwen: Checkpoint) -> None:
    model, tokens = plain_model(qwen), some_tokens(9)
    context = qwen.tokenizer().encode(HEAD)
    vocabulary = plain_model(qwen).config.vocab_size
    everything = tuple(tuple(range(vocabulary)) for _ in tokens)
    answers = serve(qwen, [read("top", HEAD, tokens, top_m=5), read("all", HEAD, tokens, top_m=10**6, at=everything)])
    top, whole = answers["top"].reading, answers["all"].reading
    assert top is not None
    assert whole is not None
    assert top.top is not None
    assert whole.top is not None
    assert whole.at is not None
    expected = direct(model, context, Read(tokens, at=everything))
    same(answers["all"], expected)
    for i, five in enumerate(top.top):
        assert five.ids == tuple(sorted(range(vocabulary), key=lambda t: -whole.at[i][t])[:5])  # type: ignore[index]
        assert five.ids[0] == top.argmax[i]
        assert five.logprobs == pytest.approx([whole.at[i][t] for t in five.ids], abs=1e-5)
        assert five.tail_mass == pytest.approx(1 - sum(map(math.exp, five.logprobs)), abs=1e-6)
        assert sorted(whole.top[i].ids) == list(range(vocabulary))
        assert whole.top[i].tail_mass == pytest.approx(0.0, abs=1e-5)


def test_alone_or_in_a_batch(checkpoint: Checkpoint) -> None:
    asked = requests(checkpoint.tokenizer())
    together = serve(checkpoint, asked)
    for request in asked[::2]:
        alone = serve(checkpoint, [request])[request.request_id].reading
        assert alone is not None
        same(together[request.request_id], alone)


def test_it_is_the_score_of_the_same_tokens(qwen: Checkpoint) -> None:
    """Two ways to one number: continuations go through another file."""
    tokenizer = qwen.tokenizer()
    text = " one two three"
    tokens = tuple(tokenizer.encode(HEAD.rstrip() + text))[len(tokenizer.encode(HEAD.rstrip())) :]
    scored = Request("score", "x", Prompt(text=HEAD.rstrip()), Score((text,), TokenStats(logprobs=True)))
    answers = serve(qwen, [scored, read("read", HEAD.rstrip(), tokens), generate("g", "The quick", 4)])
    found = answers["read"].reading
    assert found is not None
    assert found.logprobs == pytest.approx(answers["score"].scores[0].token_logprobs, abs=1e-5)
    assert answers["read"].prompt_token_hash == answers["score"].prompt_token_hash
    assert answers["g"].reading is None


def test_pieces_of_a_long_read_are_the_whole(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of 7 positions at a time, worked on in blocks of 3; and no more than those are ever there."""
    ids = some_tokens(120)
    asked = [
        read("long", ids[:30], ids[30:], top_m=3),
        read("its beginning", ids[:30], ids[30:60], nucleus=0.5),
        read("short", HEAD, ids[:5]),
        score("beside it", HEAD, " A", " B"),
    ]
    expected = serve(checkpoint, asked)
    engine = TransformersEngine(checkpoint)
    _, reader, _ = engine._load()
    reader.budget = replace(reader.budget, positions=7)
    monkeypatch.setattr(positions, "_BLOCK", 3 * reader.model.vocab_size)
    sizes: list[int] = []
    original = HFModel.logits

    def spy(self: HFModel, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        sizes.append(len(rows))
        return original(self, rows, places, **inputs)

    monkeypatch.setattr(HFModel, "logits", spy)
    answers = {a.request_id: a for a in engine.run(asked)}
    for request in asked[:3]:
        found = expected[request.request_id].reading
        assert found is not None
        same(answers[request.request_id], found)
    assert len(sizes) > 12
    assert max(sizes) == 7
    if reader.model.shares_prefix:
        whole = sum(len(r.prompt.token_ids or ()) for r in asked[:1]) + 89
        assert answers["its beginning"].computed_tokens in (0, whole)
        together = (answers["long"].computed_tokens or 0) + (answers["its beginning"].computed_tokens or 0)
        assert together == whole, "each token goes through the model once"


def test_an_empty_prompt_begins_with_bos_or_eos(checkpoint: Checkpoint) -> None:
    model, tokenizer, tokens = plain_model(checkpoint), checkpoint.tokenizer(), some_tokens(6)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    answers = serve(checkpoint, [read("text", "", tokens), read("ids", (), tokens)])
    for answer in answers.values():
        same(answer, direct(model, [first], Read(tokens)))
        assert answer.prompt_tokens == 1


def test_without_bos_and_eos_the_first_token_is_the_prompt(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    tiny.edit_json(folder / "tokenizer_config.json", eos_token=None)
    checkpoint = resolve(ModelSpec("m", str(folder)), cache_dir=tmp_path)
    assert checkpoint.tokenizer().eos_token_id is None
    answers = serve(checkpoint, [read("none", (), (5, 6)), read("one", (5,), (6,))])
    assert "give the first token as the prompt" in (answers["none"].error or "")
    assert answers["one"].error is None


def test_messages_are_rendered_here(qwen: Checkpoint) -> None:
    messages = (Message("user", "Hi"),)
    text = qwen.render_chat(messages, "")
    answers = serve(
        qwen,
        [
            Request("messages", "x", Prompt(messages=messages), Read((40, 41))),
            Request("text", "x", Prompt(text=text, add_special_tokens=False), Read((40, 41))),
        ],
    )
    assert answers["messages"].reading == answers["text"].reading


def test_too_long_a_prompt_loses_its_left_end_and_says_so(qwen: Checkpoint) -> None:
    context, tokens = list(some_tokens(60)), some_tokens(30, 1)
    asked = [
        read("cut", tuple(context), tokens),
        read("full", (7,), some_tokens(40)),
        read("over", (7,), some_tokens(41)),
    ]
    answers = serve(qwen, asked, max_length=40)
    model = plain_model(qwen)
    same(answers["cut"], direct(model, [*context, *tokens][-41:-30], Read(tokens)))
    assert answers["cut"].truncated_left == 90 - 41
    assert answers["cut"].prompt_tokens == 60
    same(answers["full"], direct(model, [7], Read(some_tokens(40))))
    assert "41 tokens to read exceed the 40" in (answers["over"].error or "")


@pytest.mark.parametrize("body", [Read((5, 400_000)), Read((5,), at=((3, 400_000),))])
def test_ids_beyond_the_vocabulary_are_that_requests_error(qwen: Checkpoint, body: Read) -> None:
    answers = serve(qwen, [Request("bad", "x", Prompt(text="a"), body), read("good", "a", (5,))])
    assert "beyond the model's vocabulary" in (answers["bad"].error or "")
    assert answers["good"].error is None


def test_nan_is_an_error_not_a_reading(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "broken")
    break_weights(folder)
    broken = resolve(ModelSpec("broken", str(folder)), cache_dir=tmp_path)
    answer = serve(broken, [read("a", HEAD, some_tokens(4))])["a"]
    assert "not finite" in (answer.error or "")
    assert answer.reading is None


def test_out_of_memory_halves_the_batch_and_goes_on(
    qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(qwen.tokenizer())
    expected = serve(qwen, asked, share_prefix=False)
    original = HFModel.logits

    def cramped(self: HFModel, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        if inputs["input_ids"].numel() > 90:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, rows, places, **inputs)

    monkeypatch.setattr(HFModel, "logits", cramped)
    answers = serve(qwen, asked, share_prefix=False)
    assert "out of memory" in caplog.text
    for name, answer in answers.items():
        found = expected[name].reading
        assert found is not None
        same(answer, found)


def test_what_a_model_masks_has_no_mass_and_nan_is_seen() -> None:
    """A logit of minus infinity adds nothing to entropy or nucleus; a row of nan does not spoil the others."""
    logits = torch.zeros(3, 8)
    logits[0, 5:] = -torch.inf
    logits[2, 1] = torch.nan
    masked, even, broken = positions.read_positions(logits, [Wanted(0, 0.95, 8, (7,))] * 3)
    assert masked.entropy == pytest.approx(math.log(5))
    assert (masked.nucleus_size, even.nucleus_size, list(masked.at)) == (5, 8, [-math.inf])
    assert set(masked.top_ids[:5]) == set(range(5))
    assert even.entropy == pytest.approx(math.log(8))
    assert even.tail_mass == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(broken.entropy)
    assert math.isnan(broken.logprob)
    torch.manual_seed(1)
    some = torch.randn(2, 50)
    beside = torch.stack([some[0], torch.full((50,), torch.nan), some[1]])
    asked = [Wanted(3, 0.7, 2, ())] * 3
    assert positions.read_positions(beside, asked)[::2] == positions.read_positions(some, asked[:2])


@pytest.mark.parametrize("vocabulary", [5, 64, 700, 5000])
def test_nuclei_of_every_width(vocabulary: int) -> None:
    """Peaked, even and uniform distributions, beyond the few tokens that are looked at first."""
    torch.manual_seed(vocabulary)
    logits = torch.randn(40, vocabulary) * torch.linspace(0.01, 8, 40)[:, None]
    wanted = [Wanted(0, (0.05, 0.5, 0.95, 0.999)[i % 4], 0, ()) for i in range(40)]
    everything = positions.read_positions(logits[:1], [Wanted(0, 1.0, 0, ())])[0].nucleus_size
    assert vocabulary - 1 <= everything <= vocabulary
    for row, w, got in zip(logits, wanted, positions.read_positions(logits, wanted), strict=True):
        masses = torch.softmax(row.double(), -1).sort(descending=True).values.cumsum(0)
        size = got.nucleus_size
        assert masses[size - 1] >= w.nucleus - 1e-6
        assert size == 1 or masses[size - 2] < w.nucleus + 1e-6


@pytest.mark.parametrize(
    "make",
    [
        lambda: Read(()),
        lambda: Read((1, 2), at=((1,),)),
        lambda: Read((-1,)),
        lambda: Read((1,), at=((-5,),)),
        lambda: Read((1,), top_m=-1),
        lambda: Read((1,), nucleus=0.0),
        lambda: Read((1,), nucleus=1.5),
    ],
)
def test_what_no_engine_could_read_is_refused_at_once(make: Callable[[], Read]) -> None:
    with pytest.raises(ValueError, match="a Read"):
        make()
