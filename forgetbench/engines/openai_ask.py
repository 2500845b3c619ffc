"""From a request to what is sent, and from what came back to a response."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines import openai_score as scoring
from forgetbench.engines.encode import EncodedPair, Encoder, token_hash
from forgetbench.engines.openai_client import Client, Refused, Unanswered
from forgetbench.engines.openai_generate import Sampled, body_of, read
from forgetbench.engines.openai_probe import Served, choices_body, echo_body
from forgetbench.engines.stops import StopMatcher
from forgetbench.types import ContinuationScore, Generate, Generation, Read, Request, Response, Score

Scored = tuple[tuple[float, ...], bool, int]
"""Of one continuation: log-probabilities, greediness, and how many tokens lie before it."""
_MOST_CHOICES = 128
"""Ids that vLLM takes in one `logprob_token_ids`."""


@dataclass(slots=True)
class Prepared:
    """A request with its prompt as token ids, where there is a local tokenizer."""

    request: Request
    ids: tuple[int, ...] | None = None
    """Generate: the prompt."""
    pairs: list[EncodedPair | str] | None = None
    """Score: by continuation."""


@dataclass(slots=True)
class _Told:
    """What the server said that the parts of one request took."""

    prompt: int = 0
    cached: int = 0
    new: int = 0
    tells_cached: bool = False
    calls: int = 0

    def add(self, usage: Any) -> None:
        self.calls += 1
        if not isinstance(usage, Mapping):
            return
        prompt, new = usage.get("prompt_tokens"), usage.get("completion_tokens")
        self.prompt += prompt if isinstance(prompt, int) else 0
        self.new += new if isinstance(new, int) else 0
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
        if isinstance(cached, int):
            self.tells_cached = True
            self.cached += cached


@dataclass
class Asker:
    """Answers requests of one checkpoint over one client."""

    checkpoint: Checkpoint
    client: Client
    served: Served
    _echoes: dict[tuple[Any, ...], asyncio.Task[Scored]] = field(default_factory=dict)
    """Continuations asked for in this run: the same one is asked once."""
    _matchers: dict[tuple[str, ...], StopMatcher] = field(default_factory=dict)

    def __post_init__(self) -> None:
        args = self.client.args
        local = self.checkpoint.tokenizer_folder is not None
        self.encoder = Encoder(self.checkpoint.tokenizer(), args.add_bos_token) if local else None
        known = [v for v in (args.max_length, self.served.max_length) if v is not None]
        self.limit = min(known) if known else None
        """The context, prompt and answer together."""
        # An echoed text may be one token longer than the context (its last token is never read), but servers
        # keep room for a new one.
        room = [args.max_length + 1] if args.max_length is not None else []
        room += [self.served.max_length - 1] if self.served.max_length is not None else []
        self.longest_echo = min(room) if room else None

    def prepare(self, requests: Sequence[Request]) -> list[Prepared]:
        made = [Prepared(r) for r in requests]
        if self.encoder is None:
            return made
        texts = [p for p in made if p.request.prompt.messages is None]
        generate = [p for p in texts if isinstance(p.request.body, Generate)]
        score = [p for p in texts if isinstance(p.request.body, Score)]
        for one, ids in zip(generate, self.encoder.prompts([p.request.prompt for p in generate]), strict=True):
            one.ids = ids
        asked = [(p.request.prompt, p.request.body.continuations) for p in score if isinstance(p.request.body, Score)]
        for one, pairs in zip(score, self.encoder.pairs(asked), strict=True):
            one.pairs = pairs
        return made

    async def answer(self, prepared: Prepared) -> tuple[Response, Mapping[str, int]]:
        """The response (an `error` where the request failed in all its tries), and what it took."""
        request, told = prepared.request, _Told()
        try:
            if isinstance(request.body, Generate):
                response = await self._generate(prepared, request.body, told)
            elif isinstance(request.body, Read):
                raise scoring.Unscorable("an endpoint cannot read given tokens")
            else:
                response = await self._score(prepared, request.body, told)
        except Refused as error:
            response = Response(request.request_id, error=_refusal(str(error)))
        except (Unanswered, scoring.Unscorable) as error:
            response = Response(request.request_id, error=str(error))
        computed = told.prompt - told.cached
        return response, {
            "requests": 1,
            "prompt_tokens": told.prompt,
            "computed_tokens": computed,
            "new_tokens": told.new if isinstance(request.body, Generate) else 0,
        }

    async def close(self) -> None:
        """End what is under way."""
        for task in self._echoes.values():
            task.cancel()
        await asyncio.gather(*self._echoes.values(), return_exceptions=True)

    # Scoring

    async def _score(self, prepared: Prepared, body: Score, told: _Told) -> Response:
        begin = time.perf_counter()
        request, pairs = prepared.request, prepared.pairs
        truncated = 0
        if pairs is None:
            text = request.prompt.text or ""
            parts = [self._echo_text(text, c, told) for c in body.continuations]
            found = await _all(parts)
            tokens, prompt_hash = found[0][2], ""
        else:
            for pair in pairs:
                if isinstance(pair, str):
                    raise scoring.Unscorable(pair)
            encoded = [p for p in pairs if isinstance(p, EncodedPair)]
            context = encoded[0].context
            tokens, prompt_hash = len(context), token_hash(context)
            found, truncated = await self._score_ids(encoded, told)
        return Response(
            request_id=request.request_id,
            scores=tuple(
                ContinuationScore(
                    logprob=sum(values),
                    is_greedy=greedy,
                    n_tokens=len(values),
                    token_logprobs=values if body.stats.logprobs else None,
                )
                for values, greedy, _ in found
            ),
            prompt_tokens=tokens,
            prompt_token_hash=prompt_hash,
            truncated_left=truncated,
            computed_tokens=told.prompt - told.cached if told.tells_cached else None,
            seconds=time.perf_counter() - begin,
        )

    async def _score_ids(self, pairs: Sequence[EncodedPair], told: _Told) -> tuple[list[Scored], int]:
        single = len({p.context for p in pairs}) == 1 and all(len(p.continuation) == 1 for p in pairs)
        if single and self.served.choices and len(pairs) <= _MOST_CHOICES:
            wanted = [p.continuation[0] for p in pairs]
            context = pairs[0].context
            # As the echo of context and continuation, so that a cut falls in the same place either way.
            kept = context if self.longest_echo is None else context[-(self.longest_echo - 1) :]
            distinct = list(dict.fromkeys(wanted))

            def take(answer: Any) -> dict[int, tuple[float, bool]]:
                found = scoring.read_choices(answer, distinct)
                told.add(answer.get("usage"))
                return found

            sent = choices_body(self.client, kept, distinct, self.served)
            by_id = await self.client.post("/completions", sent, take)
            return [((by_id[i][0],), by_id[i][1], len(kept)) for i in wanted], len(context) - len(kept)
        wholes = [p.context + p.continuation for p in pairs]
        kept_wholes = [w if self.longest_echo is None else w[-self.longest_echo :] for w in wholes]
        for pair, whole in zip(pairs, kept_wholes, strict=True):
            if len(pair.continuation) >= len(whole):
                raise scoring.Unscorable(
                    f"a continuation of {len(pair.continuation)} tokens fills the context of {self.limit}"
                )
        asked = [self._echo_ids(w, len(w) - len(p.continuation), told) for p, w in zip(pairs, kept_wholes, strict=True)]
        truncated = max(len(w) - len(k) for w, k in zip(wholes, kept_wholes, strict=True))
        return await _all(asked), truncated

    async def _echo_ids(self, ids: tuple[int, ...], begin: int, told: _Told) -> Scored:
        def take(answer: Any) -> Scored:
            found = scoring.part(scoring.read_ids(answer, ids), begin)
            told.add(answer.get("usage"))
            return *found, begin

        return await self._once((token_hash(ids), begin), echo_body(self.client, ids, self.served), take)

    async def _echo_text(self, text: str, continuation: str, told: _Told) -> Scored:
        # Whitespace at the end of the prompt belongs to the continuation, as with a tokenizer.
        head, whole = len(text.rstrip()), text + continuation

        def take(answer: Any) -> Scored:
            tokens = scoring.read_text(answer, whole)
            begin = scoring.boundary(tokens, head)
            found = scoring.part(tokens, begin)
            told.add(answer.get("usage"))
            return *found, begin

        return await self._once((_short(whole), head), echo_body(self.client, whole, self.served), take)

    async def _once(self, key: tuple[Any, ...], body: Mapping[str, Any], take: Callable[[Any], Scored]) -> Scored:
        """The answer to the first who asked for the same; kept, since such an answer is a few numbers."""
        task = self._echoes.get(key)
        if task is None:
            task = asyncio.ensure_future(self.client.post("/completions", body, take))
            self._echoes[key] = task
        return await asyncio.shield(task)

    # Generating

    async def _generate(self, prepared: Prepared, body: Generate, told: _Told) -> Response:
        request, ids, truncated = prepared.request, prepared.ids, 0
        if request.prompt.messages is not None:
            prompt: dict[str, Any] = {
                "messages": [{"role": m.role, "content": m.content} for m in request.prompt.messages]
            }
        elif ids is not None:
            if not ids:
                raise scoring.Unscorable("the prompt is empty and the tokenizer has neither BOS nor EOS to begin with")
            room = None if self.limit is None else self.limit - body.max_tokens
            if room is not None and room <= 0:
                raise scoring.Unscorable(
                    f"max_tokens {body.max_tokens} leaves no room for a prompt in a context of {self.limit} tokens"
                )
            kept = ids if room is None else ids[-room:]
            truncated = len(ids) - len(kept)
            prompt = {"prompt": list(kept)}
        else:
            prompt = {"prompt": request.prompt.text}
        count = 1 if body.temperature == 0 else len(body.seeds)
        samples: list[Sampled] = await _all([self._sample(body, i, prompt) for i in range(count)])
        for sample in samples:
            told.add(sample.usage)
        first = [s.first_token_seconds for s in samples if s.first_token_seconds is not None]
        server_ids = samples[0].prompt_ids
        known = ids if ids is not None else server_ids
        said = samples[0].usage.get("prompt_tokens")
        return Response(
            request_id=request.request_id,
            generations=tuple(self._generation(s, body, local=ids is not None) for s in samples),
            prompt_tokens=len(known) - truncated if known is not None else said if isinstance(said, int) else 0,
            prompt_token_hash=token_hash(known) if known is not None else "",
            truncated_left=truncated,
            computed_tokens=told.prompt - told.cached if told.tells_cached else None,
            first_token_seconds=min(first) if first else None,
            seconds=max(s.seconds for s in samples),
        )

    async def _sample(self, body: Generate, sample: int, prompt: Mapping[str, Any]) -> Sampled:
        chat = "messages" in prompt
        stop_ids = () if chat else self.checkpoint.stop_ids
        sent = {
            "model": self.client.args.model,
            **self.client.args.extra_body,
            **body_of(body, sample, prompt, self.served, stop_ids),
        }
        options = self.served.chat_options if chat else self.served.options
        exact = self.served.dialect == "vllm" and not chat and "logprobs" in options
        whole = "stream_options" not in options
        found = await self.client.stream(
            "/chat/completions" if chat else "/completions",
            sent,
            lambda pieces, begin: read(pieces, begin, body.stop, exact),
            whole=whole,
        )
        if whole:
            found.first_token_seconds = None  # it came with all the others
        return found

    def _generation(self, sample: Sampled, body: Generate, *, local: bool) -> Generation:
        text = sample.text
        if local and sample.tokens and min(sample.tokens) >= 0:
            # Decoded here as the other engines do it; a stream leaves out what is half a character at its end.
            text = self._decoded(sample, body)
        complete = len(sample.logprobs) == len(sample.tokens)
        return Generation(
            text=text,
            token_ids=tuple(sample.tokens),
            finish_reason=sample.finish or "error",
            logprobs=tuple(sample.logprobs) if body.stats.logprobs and sample.logprobs and complete else None,
        )

    def _decoded(self, sample: Sampled, body: Generate) -> str:
        assert self.encoder is not None
        matcher = self._matchers.get(body.stop)
        if matcher is None:
            matcher = self._matchers[body.stop] = StopMatcher(self.encoder.tokenizer, body.stop)
        if sample.finish == "stop" and sample.tokens[-1] in self.checkpoint.stop_ids:
            return matcher.text(sample.tokens[:-1], hit=False)
        return matcher.text(sample.tokens, hit=sample.finish == "stop")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


async def _all(parts: Sequence[Awaitable[Any]]) -> list[Any]:
    """All of them, or the first fault after the others were cancelled."""
    tasks = [asyncio.ensure_future(p) for p in parts]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _refusal(said: str) -> str:
    """Why the server did not take a request, with the usual reason in plain words."""
    lowered = said.lower()
    if any(words in lowered for words in ("context length", "maximum model length", "context size", "too long")):
        return f"the prompt is too long for the endpoint's context ({said})"
    return f"the endpoint refuses the request ({said})"
