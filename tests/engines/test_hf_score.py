"""Log-probabilities against a plain forward pass, one sequence at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines.hf_model import HFModel
from forgetbench.engines.transformers_engine import TransformersEngine
from forgetbench.types import Prompt, Request, Score, TokenStats
from tests.engines import tiny
from tests.engines.conftest import break_weights, plain_model, score, serve

pytestmark = pytest.mark.parity

HEAD = "The following are multiple choice questions. Question: What is the capital of Arvenia? Answer: Tolmis. "
LETTERS = (" A", " B", " C", " D")


def direct(model: Any, tokenizer: Any, text: str, continuation: str) -> tuple[float, bool, int]:
    """Log-probability, greediness and token count of a continuation by one plain forward pass."""
    context, whole = tokenizer.encode(text), tokenizer.encode(text + continuation)
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([whole])).logits[0].float(), -1)
    places = range(len(context), len(whole))
    total = sum(logprobs[i - 1, whole[i]].item() for i in places)
    return total, all(int(logprobs[i - 1].argmax()) == whole[i] for i in places), len(places)


def requests() -> list[Request]:
    """Shared prefixes at two depths, prompts that begin others, single- and multi-token continuations."""
    out = [score(f"s{i}", HEAD * 2 + f"If {i} apples are left? Answer:", *LETTERS) for i in range(7)]
    out += [
        score(f"m{i}", (HEAD + "If a shop sells " * i).rstrip(), " one two three", " 19", " the lazy dog")
        for i in range(5)
    ]
    out += [score("begin", HEAD + "If", *LETTERS, " a shop sells a shop"), score("short", "D", " four")]
    return out


@pytest.mark.parametrize("share", [True, False])
def test_equal_to_plain_forward(checkpoint: Checkpoint, share: bool) -> None:
    model, tokenizer = plain_model(checkpoint), checkpoint.tokenizer()
    asked = requests()
    answers = serve(checkpoint, asked, share_prefix=share)
    for request in asked:
        assert isinstance(request.body, Score)
        for continuation, got in zip(request.body.continuations, answers[request.request_id].scores, strict=True):
            logprob, greedy, tokens = direct(model, tokenizer, request.prompt.text or "", continuation)
            assert got.logprob == pytest.approx(logprob, abs=1e-5)
            assert (got.is_greedy, got.n_tokens) == (greedy, tokens)


def test_the_greedy_continuation_is_marked(qwen: Checkpoint) -> None:
    model, tokenizer = plain_model(qwen), qwen.tokenizer()
    words = HEAD.split()
    marked = 0
    for count in range(2, len(words)):
        head = " ".join(words[:count])
        ids = tokenizer.encode(head)
        with torch.no_grad():
            best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        text = tokenizer.decode([best])
        if tokenizer.encode(head + text) != [*ids, best]:
            continue  # half a character, or a token that merges with the prompt's last
        answer = serve(qwen, [score("a", head, text, " A", text + text)])["a"]
        assert answer.scores[0].is_greedy
        assert answer.scores[1].is_greedy == (text == " A")
        marked += 1
    assert marked >= 3


def test_alone_or_in_a_batch(qwen: Checkpoint) -> None:
    asked = requests()
    together = serve(qwen, asked)
    for request in asked:
        alone = serve(qwen, [request])[request.request_id]
        for a, b in zip(alone.scores, together[request.request_id].scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-5)
            assert a.is_greedy == b.is_greedy
        assert alone.prompt_token_hash == together[request.request_id].prompt_token_hash


def test_single_token_choices_take_one_row_and_prefixes_are_computed_once(
    qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, int]] = []
    original = HFModel.logits

    def spy(self: HFModel, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        logits = original(self, rows, places, **inputs)
        assert logits.shape[0] == len(rows)
        shapes.append(tuple(inputs["input_ids"].shape))
        return logits

    monkeypatch.setattr(HFModel, "logits", spy)
    asked = [score(f"s{i}", HEAD * 5 + f"If {i} apples are left? Answer:", *LETTERS) for i in range(8)]
    serve(qwen, asked)
    prefix, *tails = shapes
    assert prefix[0] == 1
    assert prefix[1] > 100
    assert sum(rows for rows, _ in tails) == 8  # one row a prompt, not four
    assert all(width < 20 for _, width in tails)


def test_only_wanted_positions_reach_the_output_layer(qwen: Checkpoint) -> None:
    engine = TransformersEngine(qwen)
    scorer, _, _ = engine._load()
    sizes: list[int] = []
    scorer.model.model.get_output_embeddings().register_forward_hook(
        lambda _m, _i, out: sizes.append(out.shape[0] * out.shape[1])
    )
    list(engine.run([score("a", HEAD.rstrip(), *LETTERS)]))
    assert sizes == [1]


def test_whitespace_at_the_end_of_the_prompt_moves_to_the_continuation(qwen: Checkpoint) -> None:
    answers = serve(qwen, [score("open", HEAD.rstrip() + " ", "A"), score("closed", HEAD.rstrip(), " A")])
    assert answers["open"].scores == answers["closed"].scores
    assert answers["open"].prompt_token_hash == answers["closed"].prompt_token_hash


def test_an_empty_prompt_begins_with_bos_or_eos(checkpoint: Checkpoint) -> None:
    model, tokenizer = plain_model(checkpoint), checkpoint.tokenizer()
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = [first, *tokenizer.encode("The quick fox", add_special_tokens=False)]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
    expected = sum(logprobs[i - 1, ids[i]].item() for i in range(1, len(ids)))
    answer = serve(checkpoint, [score("a", "", "The quick fox")])["a"]
    assert answer.scores[0].logprob == pytest.approx(expected, abs=1e-5)
    assert answer.prompt_tokens == 1


def test_chat_text_gets_no_second_bos(make_checkpoint: Any) -> None:
    llama = make_checkpoint("llama")
    answers = serve(
        llama,
        [
            score("raw", HEAD.rstrip(), " A"),
            score("chat", HEAD.rstrip(), " A", add_special_tokens=False),
            score("begun", "<s>" + HEAD.rstrip(), " A"),
        ],
    )
    assert answers["raw"].prompt_tokens == answers["chat"].prompt_tokens + 1
    assert answers["begun"].prompt_token_hash == answers["raw"].prompt_token_hash


def test_too_long_a_prompt_loses_its_left_end_and_says_so(qwen: Checkpoint) -> None:
    model, tokenizer = plain_model(qwen), qwen.tokenizer()
    text = (HEAD * 3).rstrip()
    answer = serve(qwen, [score("a", text, " one two")], max_length=40)["a"]
    whole = tokenizer.encode(text + " one two")
    extra = len(whole) - len(tokenizer.encode(text))
    kept = whole[-41:]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([kept[:-1]])).logits[0].float(), -1)
    expected = sum(logprobs[i, kept[i + 1]].item() for i in range(40 - extra, 40))
    assert answer.scores[0].logprob == pytest.approx(expected, abs=1e-5)
    assert answer.truncated_left == len(whole) - 41


def test_token_logprobs_add_up(qwen: Checkpoint) -> None:
    body = Score((" one two three",), TokenStats(logprobs=True))
    answer = serve(qwen, [Request("a", "x", Prompt(text=HEAD), body)])["a"].scores[0]
    assert answer.token_logprobs is not None
    assert len(answer.token_logprobs) == answer.n_tokens > 1
    assert sum(answer.token_logprobs) == pytest.approx(answer.logprob)


def test_token_ids_as_prompt(qwen: Checkpoint) -> None:
    ids = tuple(qwen.tokenizer().encode(HEAD.rstrip()))
    answers = serve(
        qwen, [Request("ids", "x", Prompt(token_ids=ids), Score((" A",))), score("text", HEAD.rstrip(), " A")]
    )
    assert answers["ids"].scores[0].logprob == pytest.approx(answers["text"].scores[0].logprob, abs=1e-6)


def test_what_cannot_be_scored_is_that_requests_error(qwen: Checkpoint) -> None:
    bad = Request("ids", "x", Prompt(token_ids=(5, 100_000)), Score((" A",)))
    answers = serve(qwen, [score("none", HEAD.rstrip(), ""), score("good", HEAD, " A"), bad])
    assert "adds no token" in (answers["none"].error or "")
    assert "beyond the model's vocabulary" in (answers["ids"].error or "")
    assert answers["good"].error is None


def test_nan_is_an_error_not_a_score(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "broken")
    break_weights(folder)
    broken = resolve(ModelSpec("broken", str(folder)), cache_dir=tmp_path)
    answer = serve(broken, [score("a", HEAD, *LETTERS)])["a"]
    assert "not finite" in (answer.error or "")
    assert answer.scores == ()


def test_out_of_memory_halves_the_batch_and_goes_on(
    qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests()
    expected = serve(qwen, asked)
    original = HFModel.logits

    def cramped(self: HFModel, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        if inputs["input_ids"].shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, rows, places, **inputs)

    monkeypatch.setattr(HFModel, "logits", cramped)
    answers = serve(qwen, asked)
    assert "out of memory" in caplog.text
    for name, answer in answers.items():
        for a, b in zip(answer.scores, expected[name].scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-5)


def test_out_of_memory_on_one_row_is_that_requests_error(qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    original = HFModel.logits

    def cramped(self: HFModel, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        if inputs["input_ids"].shape[1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, rows, places, **inputs)

    monkeypatch.setattr(HFModel, "logits", cramped)
    answers = serve(qwen, [score("long", HEAD * 6, " A"), score("short", "If", " A")])
    assert "out of memory" in (answers["long"].error or "")
    assert answers["short"].error is None
