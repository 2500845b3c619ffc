"""Generation against transformers' own generate, and against direct computation of its statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines.hf_model import HFModel
from forgetbench.engines.transformers_engine import TransformersEngine
from forgetbench.types import Generation, Prompt, Request, Response, TokenStats
from tests.engines import tiny
from tests.engines.conftest import break_weights, generate, plain_model, serve

pytestmark = pytest.mark.parity

TEXTS = [
    "Question: What is the capital",
    "Question: If a shop sells 12 apples and 7 pears, how many are left? Answer:",
    "def add(a, b):",
    "The quick brown fox jumps over",
    "A.",
]


def only(response: Response) -> Generation:
    assert response.error is None
    (generation,) = response.generations
    return generation


def reference(model: Any, tokenizer: Any, text: str, new_tokens: int) -> list[int]:
    ids = torch.tensor([tokenizer.encode(text)])
    out = model.generate(ids, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
    return [int(i) for i in out[0, ids.shape[1] :]]


def test_greedy_equals_generate(checkpoint: Checkpoint) -> None:
    model, tokenizer = plain_model(checkpoint), checkpoint.tokenizer()
    answers = serve(checkpoint, [generate(t, t, 40) for t in TEXTS])
    for text in TEXTS:
        expected = reference(model, tokenizer, text, 40)
        got = only(answers[text])
        assert list(got.token_ids) == expected
        ended = expected[-1] == tokenizer.eos_token_id
        assert got.finish_reason == ("stop" if ended else "length")
        assert got.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_finished_rows_leave_without_disturbing_the_others(qwen: Checkpoint) -> None:
    asked = [generate(f"{i}{t}", t, 3 + 7 * i, stop=("e",) if i % 2 else ()) for i in range(5) for t in TEXTS]
    together = serve(qwen, asked)
    for request in asked:
        alone = only(serve(qwen, [request])[request.request_id])
        batched = only(together[request.request_id])
        assert (alone.token_ids, alone.text, alone.finish_reason) == (
            batched.token_ids,
            batched.text,
            batched.finish_reason,
        )
        assert alone.logprobs == pytest.approx(batched.logprobs, abs=1e-5)
        assert alone.entropies == pytest.approx(batched.entropies, abs=1e-5)


def test_the_masked_way_equals_the_shared_way(qwen: Checkpoint) -> None:
    """Architectures without keys and values by position take one padded pass: the same answers."""
    asked = [generate(f"{i}{t}", t, 6 + 5 * i, temperature=0.5 * i, seeds=(1, 2)) for i in range(3) for t in TEXTS]
    expected = serve(qwen, asked)
    engine = TransformersEngine(qwen)
    _, _, generator = engine._load()
    generator.model.shares_prefix = False
    for answer in engine.run(asked):
        for a, b in zip(answer.generations, expected[answer.request_id].generations, strict=True):
            assert a.token_ids == b.token_ids
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_statistics_equal_direct_computation(checkpoint: Checkpoint) -> None:
    model, tokenizer = plain_model(checkpoint), checkpoint.tokenizer()
    stats = TokenStats(top_m=3)
    answers = serve(checkpoint, [generate(t, t, 20, stats=stats, temperature=0.7, seeds=(5,)) for t in TEXTS])
    for text in TEXTS:
        got, context = only(answers[text]), tokenizer.encode(text)
        with torch.no_grad():
            whole = torch.tensor([[*context, *got.token_ids]])
            logprobs = torch.log_softmax(model(whole).logits[0].double(), -1)[len(context) - 1 : -1]
        assert got.logprobs is not None
        assert got.entropies is not None
        assert got.top is not None
        assert len(got.logprobs) == len(got.entropies) == len(got.top) == len(got.token_ids)
        for place, token in enumerate(got.token_ids):
            row = logprobs[place]
            assert got.logprobs[place] == pytest.approx(row[token].item(), abs=1e-5)
            assert got.entropies[place] == pytest.approx(-(row.exp() * row).sum().item(), abs=1e-4)
            values, ids = row.topk(3)
            assert got.top[place].ids == tuple(ids.tolist())
            assert got.top[place].logprobs == pytest.approx(values.tolist(), abs=1e-5)
            assert got.top[place].tail_mass == pytest.approx(1 - values.exp().sum().item(), abs=1e-5)


def test_statistics_that_nobody_wants_are_left_out(qwen: Checkpoint) -> None:
    bare = TokenStats(logprobs=False, entropy=False)
    two, five = TokenStats(top_m=2), TokenStats(top_m=5)
    answers = serve(
        qwen,
        [
            generate("bare", TEXTS[0], 4, stats=bare),
            generate("two", TEXTS[0], 4, stats=two),
            generate("five", TEXTS[0], 4, stats=five),
        ],
    )
    plain = only(answers["bare"])
    assert (plain.logprobs, plain.entropies, plain.top) == (None, None, None)
    short, long = only(answers["two"]).top, only(answers["five"]).top
    assert short is not None
    assert long is not None
    for a, b in zip(short, long, strict=True):
        assert a.ids == b.ids[:2]
        assert a.tail_mass == pytest.approx(1 - sum(torch.tensor(a.logprobs).exp().tolist()), abs=1e-5)


def test_samples_are_the_same_alone_or_in_a_batch(qwen: Checkpoint) -> None:
    body: dict[str, Any] = {"temperature": 0.9, "top_p": 0.9}
    crowd = [generate(t, t, 16, seeds=(3, 4, 5), **body) for t in TEXTS]
    answers = serve(qwen, [*crowd, generate("greedy", TEXTS[0])])
    for text in TEXTS:
        for place, seed in enumerate((3, 4, 5)):
            alone = only(serve(qwen, [generate("a", text, 16, seeds=(seed,), **body)])["a"])
            assert alone.token_ids == answers[text].generations[place].token_ids


def test_seeds_decide_and_a_longer_limit_only_adds(qwen: Checkpoint) -> None:
    answer = serve(qwen, [generate("a", TEXTS[0], 12, temperature=1.0, seeds=(1, 2, 1))])["a"]
    first, second, again = (g.token_ids for g in answer.generations)
    assert first == again
    assert first != second
    longer = only(serve(qwen, [generate("a", TEXTS[0], 20, temperature=1.0, seeds=(1,))])["a"])
    assert longer.token_ids[:12] == first


def test_samples_split_over_batches(qwen: Checkpoint) -> None:
    asked = [generate(t, t, 6, temperature=1.0, seeds=tuple(range(5))) for t in TEXTS]
    whole, split = serve(qwen, asked), serve(qwen, asked, batch_rows=3)
    for text in TEXTS:
        assert [g.token_ids for g in whole[text].generations] == [g.token_ids for g in split[text].generations]


def test_stop_strings_across_tokens(qwen: Checkpoint) -> None:
    """Any three characters in the middle of a text stop it there, however they were tokenised."""
    tokenizer = qwen.tokenizer()
    text = TEXTS[2]
    free = only(serve(qwen, [generate("free", text, 40)])["free"])
    spans = 0
    for start in range(0, len(free.text) - 3, 3):
        stop = free.text[start : start + 3]
        if "�" in stop:
            continue
        got = only(serve(qwen, [generate("a", text, 40, stop=(stop, "never"))])["a"])
        assert got.text == free.text[: free.text.index(stop)]
        assert got.finish_reason == "stop"
        count = len(got.token_ids)
        assert free.token_ids[:count] == got.token_ids
        assert stop in tokenizer.decode(list(got.token_ids))
        assert stop not in tokenizer.decode(list(got.token_ids[:-1]))  # halted at once
        spans += len(tokenizer.encode(stop)) > 1
    assert spans > 0


def test_eos_ends_and_is_counted_but_not_shown(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m", seed=3)
    plain = resolve(ModelSpec("m", str(folder)), cache_dir=tmp_path)
    free = only(serve(plain, [generate("a", TEXTS[0], 30)])["a"])
    token = free.token_ids[4]
    tiny.edit_json(folder / "generation_config.json", eos_token_id=[1, token])
    stopping = resolve(ModelSpec("m", str(folder)), cache_dir=tmp_path)
    assert stopping.stop_ids == tuple(sorted({1, token}))
    got = only(serve(stopping, [generate("a", TEXTS[0], 30)])["a"])
    end = free.token_ids.index(token)
    assert got.token_ids == free.token_ids[: end + 1]
    assert got.finish_reason == "stop"
    assert got.text == plain.tokenizer().decode(list(free.token_ids[:end]), skip_special_tokens=True)


def test_a_long_prompt_keeps_its_right_end(qwen: Checkpoint) -> None:
    model, tokenizer = plain_model(qwen), qwen.tokenizer()
    text = " ".join(TEXTS * 3)
    answer = serve(qwen, [generate("a", text, 10)], max_length=50)["a"]
    ids = tokenizer.encode(text)
    kept = torch.tensor([ids[-40:]])
    expected = model.generate(kept, max_new_tokens=10, do_sample=False, pad_token_id=0)[0, 40:].tolist()
    assert list(only(answer).token_ids) == expected
    assert (answer.truncated_left, answer.prompt_tokens) == (len(ids) - 40, 40)


def test_no_room_for_a_prompt_is_an_error(qwen: Checkpoint) -> None:
    answers = serve(qwen, [generate("a", TEXTS[0], 50), generate("b", TEXTS[0], 5)], max_length=50)
    assert "leaves no room" in (answers["a"].error or "")
    assert answers["b"].error is None


def test_messages_are_rendered_by_the_template(qwen: Checkpoint) -> None:
    from forgetbench.types import Generate, Message

    turns = (Message("user", "What is left?"),)
    asked = Request("m", "x", Prompt(messages=turns), Generate(8))
    text = Request("t", "x", Prompt(text=qwen.render_chat(turns), add_special_tokens=False), Generate(8))
    answers = serve(qwen, [asked, text])
    assert only(answers["m"]).token_ids == only(answers["t"]).token_ids


def test_nan_is_an_error_not_a_text(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "broken")
    break_weights(folder)
    broken = resolve(ModelSpec("broken", str(folder)), cache_dir=tmp_path)
    asked = [generate("a", TEXTS[0]), generate("b", TEXTS[1], temperature=1.0, seeds=(1, 2, 3))]
    for answer in serve(broken, asked).values():
        assert "not finite" in (answer.error or "")
        assert answer.generations == ()


def test_out_of_memory_halves_the_batch_and_goes_on(
    qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [generate(t, t, 12, temperature=1.0, seeds=(1, 2)) for t in TEXTS]
    expected = serve(qwen, asked)
    original, calls = HFModel.logits, [0]

    def cramped(self: HFModel, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > 4 and inputs["input_ids"].shape[0] > 3:  # the cache grew too large half-way
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, rows, places, **inputs)

    monkeypatch.setattr(HFModel, "logits", cramped)
    answers = serve(qwen, asked)
    assert "out of memory" in caplog.text
    for text in TEXTS:
        assert [g.token_ids for g in answers[text].generations] == [g.token_ids for g in expected[text].generations]


def test_an_engine_can_be_closed_and_used_again(qwen: Checkpoint) -> None:
    engine = TransformersEngine(qwen)
    first = only(next(iter(engine.run([generate("a", TEXTS[0], 4)]))))
    engine.close()
    assert only(next(iter(engine.run([generate("a", TEXTS[0], 4)])))).token_ids == first.token_ids
