"""The endpoint engine against vLLM's real server: the scores and texts of the transformers engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.checkpoints.endpoint_state import Limits
from forgetbench.engines.registry import make_engine
from forgetbench.errors import EngineError, UsageError
from forgetbench.types import Generate, Message, Prompt, Request, Response, Score, TokenStats
from tests.engines import tiny
from tests.engines.conftest import generate, score
from tests.engines.vllm_server import Server

pytestmark = [pytest.mark.parity, pytest.mark.slow]

HEAD = "The following are multiple choice questions. Question: What is the capital of Arvenia? Answer:"
TALK = (Message("system", "Be short."), Message("user", "What is the capital of Arvenia? 东京"))


def endpoint(server: Server, cache: Path, *, local: bool, **args: Any) -> Checkpoint:
    said = {"base_url": server.base_url, "model": server.model, "fingerprint": "tiny", **args}
    path = str(server.folder) if local else ""
    return resolve(ModelSpec("served", path, engine="openai", engine_args=said), cache)


def answers(checkpoint: Checkpoint, requests: list[Request], **args: Any) -> dict[str, Response]:
    found = list(make_engine(checkpoint, **args).run(requests))
    assert sorted(r.request_id for r in found) == sorted(r.request_id for r in requests)
    assert [r.error for r in found] == [None] * len(found)
    return {r.request_id: r for r in found}


@pytest.fixture
def here(vllm_server: Server, tmp_path: Path) -> Checkpoint:
    """The same weights under the transformers engine."""
    return resolve(ModelSpec("here", str(vllm_server.folder)), tmp_path)


def assert_same_scores(got: Response, expected: Response) -> None:
    for a, b in zip(got.scores, expected.scores, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert (a.is_greedy, a.n_tokens) == (b.is_greedy, b.n_tokens)


def assert_same_texts(got: Response, expected: Response) -> None:
    for a, b in zip(got.generations, expected.generations, strict=True):
        assert (a.text, a.token_ids, a.finish_reason) == (b.text, b.token_ids, b.finish_reason)
        assert a.logprobs is not None
        assert b.logprobs is not None
        assert all(math.isclose(x, y, abs_tol=1e-4) for x, y in zip(a.logprobs, b.logprobs, strict=True))
        assert a.entropies is None


def scored(chat: Checkpoint) -> list[Request]:
    """Single- and multi-token continuations, whitespace at the seam, Chinese, and text that a template rendered."""
    rendered = chat.render_chat(TALK)
    return [
        score("letters", HEAD, " A", " B", " C", " D"),
        score("words", HEAD, " one two three", " 19", " the lazy dog jumps over"),
        score("mixed", HEAD + " If a shop", " sells", " A"),
        score("open", HEAD + " ", "A", "B"),
        score("twice", HEAD, " A", " A"),
        score("chinese", "东京 is a", " city", " 东京"),
        score("chat", rendered, "A", "B", "four", add_special_tokens=False),
    ]


def test_scores_are_those_of_the_transformers_engine(vllm_server: Server, here: Checkpoint, tmp_path: Path) -> None:
    asked = scored(here)
    expected = answers(here, asked)
    served = endpoint(vllm_server, tmp_path, local=True)
    assert make_engine(served).limits == Limits()  # type: ignore[attr-defined]
    got = answers(served, asked)
    for request in asked:
        one, other = got[request.request_id], expected[request.request_id]
        assert_same_scores(one, other)
        assert one.prompt_token_hash == other.prompt_token_hash
        assert (one.prompt_tokens, one.truncated_left) == (other.prompt_tokens, 0)
    assert got["letters"].computed_tokens is not None  # the server was told to tell

    # Without a tokenizer of our own: the server tokenises, its tokens' places in the text decide.
    plain = [r for r in asked if r.request_id != "chat"]
    for request_id, response in answers(endpoint(vllm_server, tmp_path, local=False), plain).items():
        assert_same_scores(response, expected[request_id])
        assert response.prompt_tokens == expected[request_id].prompt_tokens


def test_both_ways_of_scoring_single_tokens_agree(
    vllm_server: Server, here: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from forgetbench.engines import openai_client

    sent: list[dict[str, Any]] = []
    post = openai_client.Client.post

    async def spy(self: Any, path: str, body: Any, read: Any) -> Any:
        sent.append(dict(body))
        return await post(self, path, body, read)

    monkeypatch.setattr(openai_client.Client, "post", spy)
    served = endpoint(vllm_server, tmp_path, local=True)
    asked = [score("letters", HEAD, " A", " B", " C", " D"), score("more", HEAD + " D" * 5, " A", " B")]
    quick = make_engine(served)
    probed = quick._probed()  # type: ignore[attr-defined]
    assert probed.choices
    sent.clear()
    first = {r.request_id: r for r in quick.run(asked)}
    assert [len(b["logprob_token_ids"]) for b in sent] == [4, 2]  # one request an item, and no echo
    slow = make_engine(served)
    slow._served = replace(probed, choices=False)  # type: ignore[attr-defined]
    sent.clear()
    second = {r.request_id: r for r in slow.run([*asked, score("again", HEAD, " B", " A")])}
    assert len(sent) == 6  # one for each continuation, those of `again` were asked before
    assert all(b["echo"] for b in sent)
    for name in first:
        assert_same_scores(first[name], second[name])
    assert second["again"].scores == second["letters"].scores[1::-1]


def test_greedy_texts_are_those_of_the_transformers_engine(
    vllm_server: Server, here: Checkpoint, tmp_path: Path
) -> None:
    rendered = here.render_chat(TALK)
    asked = [generate(f"g{i}", f"If a shop sells {i} apples", 20) for i in range(6)]
    asked += [
        generate("stop", "If a shop", 40, stop=("zz", "a")),
        generate("one", "The quick brown", 1),
        Request("chat", "x", Prompt(text=rendered, add_special_tokens=False), Generate(24)),
    ]
    expected = answers(here, asked)
    got = answers(endpoint(vllm_server, tmp_path, local=True), asked)
    for name, response in got.items():
        assert_same_texts(response, expected[name])
        assert response.prompt_token_hash == expected[name].prompt_token_hash
        assert response.first_token_seconds is not None
        assert response.seconds is not None
        assert 0 < response.first_token_seconds <= response.seconds

    bare = endpoint(vllm_server, tmp_path, local=False)
    assert bare.sends_messages
    messages = Request("chat", "x", Prompt(messages=TALK), Generate(24))
    for name, response in answers(bare, [*(r for r in asked if r.request_id != "chat"), messages]).items():
        want = expected[name]
        assert response.generations[0].token_ids == want.generations[0].token_ids
        # What is half a character at the end does not come over the wire.
        assert response.generations[0].text.rstrip("�") == want.generations[0].text.rstrip("�")
        assert response.prompt_token_hash == want.prompt_token_hash


def test_a_sampled_answer_can_be_had_again(vllm_server: Server, tmp_path: Path) -> None:
    body = {"temperature": 1.0, "top_p": 0.9, "seeds": (2**62 + 1, 2**62 + 2, 7)}
    asked = [generate("a", HEAD, 16, **body), generate("b", HEAD + " The", 16, **body)]
    served = endpoint(vllm_server, tmp_path, local=True)
    first, second = answers(served, asked), answers(served, asked[::-1], concurrency=1)
    for name in first:
        texts = [g.text for g in first[name].generations]
        assert len(set(texts)) == 3
        assert texts == [g.text for g in second[name].generations]


def test_too_long_a_prompt_loses_its_left_end_as_with_transformers(
    vllm_server: Server, here: Checkpoint, tmp_path: Path
) -> None:
    long = "If a shop sells 12 apples and 7 pears, how many are left? " * 9 + "Answer:"
    asked = [score("s", long, " A", " B"), score("m", long, " one two three"), generate("g", long, 10)]
    expected = answers(here, asked, max_length=64)
    got = answers(endpoint(vllm_server, tmp_path, local=True, max_length=64), asked)
    for name in ("s", "m"):
        assert_same_scores(got[name], expected[name])
    assert_same_texts(got["g"], expected["g"])
    assert [got[n].truncated_left for n in "smg"] == [expected[n].truncated_left for n in "smg"]
    assert got["s"].truncated_left > 0
    whole = answers(endpoint(vllm_server, tmp_path, local=True), [score("s", long * 3, " A", " one two")])["s"]
    assert whole.truncated_left > 0  # at the server's own limit
    bare = make_engine(endpoint(vllm_server, tmp_path, local=False))
    (refused,) = bare.run([generate("g", long * 3, 10)])
    assert refused.error is not None
    assert "too long for the endpoint's context" in refused.error


def test_token_logprobs_of_a_score(vllm_server: Server, here: Checkpoint, tmp_path: Path) -> None:
    asked = [Request("s", "x", Prompt(text=HEAD), Score((" one two",), TokenStats(logprobs=True)))]
    got, want = answers(endpoint(vllm_server, tmp_path, local=True), asked), answers(here, asked)
    a, b = got["s"].scores[0].token_logprobs, want["s"].scores[0].token_logprobs
    assert a is not None
    assert b is not None
    assert all(math.isclose(x, y, abs_tol=1e-4) for x, y in zip(a, b, strict=True))


def test_an_unknown_model_and_a_wrong_tokenizer_are_one_line_before_anything_runs(
    vllm_server: Server, tmp_path: Path
) -> None:
    wrong = endpoint(vllm_server, tmp_path, local=True, model="huge")
    with pytest.raises(UsageError, match=r"engine_args.model: the server has no 'huge'; it serves tiny$"):
        _ = make_engine(wrong).capabilities
    other = tiny.save(tmp_path / "other", "qwen3")
    args = {"base_url": vllm_server.base_url, "model": vllm_server.model, "fingerprint": "x"}
    point = resolve(ModelSpec("served", str(other), engine="openai", engine_args=args), tmp_path)
    with pytest.raises(UsageError, match="is not the tokenizer of the served model"):
        _ = make_engine(point).capabilities
    gone = make_engine(endpoint(vllm_server, tmp_path, local=False))
    gone._served = make_engine(endpoint(vllm_server, tmp_path, local=False))._probed()  # type: ignore[attr-defined]
    gone.args = wrong_model(gone.args)  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="answers 404: there is no such model"):
        list(gone.run([generate("g", HEAD)]))


def wrong_model(args: Any) -> Any:
    from dataclasses import replace

    return replace(args, model="gone")
