"""Requests on their way through vLLM: cut into its jobs, fed in the order of the plan, put together again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forgetbench.engines.base import Usage
from forgetbench.engines.common import NOT_FINITE, beyond_vocabulary, fit_prompt
from forgetbench.engines.encode import EncodedPair, token_hash
from forgetbench.engines.reading import Position, reading_of, unreadable
from forgetbench.engines.stops import StopMatcher
from forgetbench.engines.vllm_pending import Job, Pending, Served
from forgetbench.engines.vllm_worker import KEY
from forgetbench.types import ContinuationScore, Generate, Generation, Read, Request, Response, Score, TopTokens

MOST_IDS = 128
"""Of `logprob_token_ids`."""
_AHEAD = 2
"""Jobs waiting inside vLLM, in batches: enough that it never idles, few enough that memory stays small."""


class Asker:
    """Feeds jobs to a running `vllm.LLM` and yields responses."""

    def __init__(self, llm: Any, served: Mapping[str, Served], default: str) -> None:
        self.engine, self.llm = llm.llm_engine, llm
        config = self.engine.vllm_config
        self.max_length = int(config.model_config.max_model_len)
        self.vocabulary = int(config.model_config.get_vocab_size())
        self.most_at_once = int(config.scheduler_config.max_num_seqs)
        self.window = _AHEAD * self.most_at_once
        self.served, self.default = served, default
        self._waiting: deque[Job] = deque()
        self._running: dict[str, Job] = {}
        self._ready: deque[Response] = deque()
        self._number = 0
        self._matchers: dict[tuple[str, tuple[str, ...]], StopMatcher] = {}
        self._prompt = self._computed = self._new = self._requests = 0

    def add(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Queue requests; yields what finishes while the queue is longer than what may wait."""
        for pending, jobs in self._jobs(requests):
            self._requests += 1
            pending.left = len(jobs)
            if pending.error is not None or not jobs:
                self._ready.append(pending.response())
            else:
                self._waiting.extend(jobs)
        yield from self._drain()
        while len(self._waiting) > self.window:
            self._step()
            yield from self._drain()

    def finish(self) -> Iterator[Response]:
        """Yield until nothing is left."""
        while self._waiting or self._running:
            self._step()
            yield from self._drain()

    def abort(self) -> None:
        """Take back what is still inside (the caller stopped listening)."""
        if not self._running:
            return
        names = list(self._running)
        self._running.clear()
        self.engine.abort_request(names)
        self.llm.collective_rpc("forgetbench_forget")

    def usage(self, before: Usage, seconds: float) -> Usage:
        """`before` and what went through here."""
        return Usage(
            requests=before.requests + self._requests,
            prompt_tokens=before.prompt_tokens + self._prompt,
            computed_tokens=before.computed_tokens + self._computed,
            new_tokens=before.new_tokens + self._new,
            busy_seconds=before.busy_seconds + seconds,
        )

    def _drain(self) -> Iterator[Response]:
        while self._ready:
            yield self._ready.popleft()

    def _served(self, request: Request) -> Served:
        return self.served.get(request.checkpoint, self.served[self.default])

    # --- requests to jobs

    def _jobs(self, requests: Sequence[Request]) -> list[tuple[Pending, list[Job]]]:
        """Tokenised together by checkpoint, since a tokenizer is quickest on many texts."""
        made: dict[str, tuple[Pending, list[Job]]] = {}
        for digest in dict.fromkeys(r.checkpoint for r in requests):
            mine = [r for r in requests if r.checkpoint == digest]
            encoder = self._served(mine[0]).encoder
            scores = [(r, r.body) for r in mine if isinstance(r.body, Score)]
            pairs = encoder.pairs([(r.prompt, body.continuations) for r, body in scores])
            for (request, _), encoded in zip(scores, pairs, strict=True):
                made[request.request_id] = self._score_jobs(request, encoded)
            reads = [(r, r.body) for r in mine if isinstance(r.body, Read)]
            contexts = encoder.contexts([r.prompt for r, _ in reads])
            for (request, read), ids in zip(reads, contexts, strict=True):
                made[request.request_id] = self._read_jobs(request, read, ids)
            generates = [(r, r.body) for r in mine if isinstance(r.body, Generate)]
            prompts = encoder.prompts([r.prompt for r, _ in generates])
            for (request, generate), ids in zip(generates, prompts, strict=True):
                made[request.request_id] = self._generate_jobs(request, generate, ids)
        return [made[r.request_id] for r in requests]

    def _score_jobs(self, request: Request, pairs: Sequence[EncodedPair | str]) -> tuple[Pending, list[Job]]:
        pending = Pending(request)
        single: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        forced: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for place, pair in enumerate(pairs):
            if isinstance(pair, str):
                pending.error = pair
                return pending, []
            whole = pair.context + pair.continuation
            if len(pair.continuation) >= self.max_length:
                count = len(pair.continuation)
                pending.error = f"a continuation of {count} tokens exceeds the context of {self.max_length}"
                return pending, []
            pending.error = beyond_vocabulary(whole, self.vocabulary)
            if pending.error is not None:
                return pending, []
            # vLLM counts the last token of a continuation, which transformers never reads: one less of the prompt.
            kept = whole[-self.max_length :]
            context = kept[: len(kept) - len(pair.continuation)]
            pending.truncated = max(pending.truncated, len(whole) - len(kept))
            pending.prompt_tokens, pending.prompt_hash = len(pair.context), token_hash(pair.context)
            if len(pair.continuation) == 1:
                single.setdefault(context, []).append((place, pair.continuation[0]))
            else:
                forced.setdefault((context, pair.continuation), []).append(place)
        jobs: list[Job] = []
        for context, slots in single.items():
            for start in range(0, len(slots), MOST_IDS):
                part = tuple(slots[start : start + MOST_IDS])
                jobs.append(Job(pending, context, ids=tuple(dict.fromkeys(t for _, t in part)), slots=part))
        for (context, continuation), places in forced.items():
            jobs.append(Job(pending, context, forced=continuation, slots=tuple((p, 0) for p in places)))
        return pending, jobs

    def _read_jobs(self, request: Request, body: Read, ids: tuple[int, ...]) -> tuple[Pending, list[Job]]:
        # vLLM counts the last token too, which transformers never reads: one less of the prompt, and one less to read.
        kept = ids[-max(1, self.max_length - len(body.token_ids)) :]
        pending = Pending(
            request,
            prompt_tokens=len(ids),
            prompt_hash=token_hash(ids),
            truncated=len(ids) - len(kept),
            error=unreadable(ids, body, self.max_length - 1, self.vocabulary),
        )
        return pending, [] if pending.error else [Job(pending, kept, forced=body.token_ids, watched=True)]

    def _generate_jobs(self, request: Request, body: Generate, ids: tuple[int, ...]) -> tuple[Pending, list[Job]]:
        kept, error = fit_prompt(ids, body.max_tokens, self.max_length, self.vocabulary)
        pending = Pending(
            request, prompt_tokens=len(kept), prompt_hash=token_hash(ids), truncated=len(ids) - len(kept), error=error
        )
        if error is not None:
            return pending, []
        samples = 1 if body.temperature == 0 else len(body.seeds)
        watched = body.stats.entropy or body.stats.top_m > 0
        return pending, [Job(pending, kept, sample=i, watched=watched) for i in range(samples)]

    # --- through vLLM

    def _step(self) -> None:
        while self._waiting and len(self._running) < self.window:
            self._submit(self._waiting.popleft())
        finished = [output for output in self.engine.step() if output.finished]
        jobs = [self._running.pop(output.request_id) for output in finished]
        watched = [o.request_id for o, job in zip(finished, jobs, strict=True) if job.watched]
        statistics: dict[str, list[Any]] = {}
        if watched:
            # Each worker answers; with tensor parallelism only those that sample have something.
            answers = self.llm.collective_rpc("forgetbench_statistics", args=(watched,))
            best = max(answers, key=lambda found: sum(map(len, found)))
            statistics = dict(zip(watched, best, strict=True))
        for output, job in zip(finished, jobs, strict=True):
            self._take(output, job, statistics.get(output.request_id, []))

    def _submit(self, job: Job) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._number += 1
        name = str(self._number)
        body, common = job.owner.request.body, {"ignore_eos": True, "output_kind": RequestOutputKind.FINAL_ONLY}
        if job.ids:
            params = SamplingParams(
                max_tokens=1, temperature=0, logprob_token_ids=list(job.ids), detokenize=False, **common
            )
        elif job.forced:
            wanted = {"id": name, "forced": list(job.forced), "entropy": False, "top_m": 0}
            if isinstance(body, Read):
                wanted["read"] = {"top_m": body.top_m, "at": [list(ids) for ids in body.at], "nucleus": body.nucleus}
            params = SamplingParams(
                max_tokens=len(job.forced),
                temperature=0,
                logprobs=None if isinstance(body, Read) else 0,
                detokenize=False,
                extra_args={KEY: wanted},
                **common,
            )
        else:
            assert isinstance(body, Generate)
            stats, served = body.stats, self._served(job.owner.request)
            wanted = {"id": name, "forced": [], "entropy": stats.entropy, "top_m": stats.top_m}
            params = SamplingParams(
                max_tokens=body.max_tokens,
                temperature=body.temperature,
                top_p=body.top_p if body.temperature > 0 else 1.0,
                seed=body.seeds[job.sample] if body.temperature > 0 else None,
                stop=list(body.stop) or None,
                stop_token_ids=list(served.stop_ids),
                logprobs=0,
                # A stop string may be (part of) a special token's text.
                skip_special_tokens=False,
                detokenize=bool(body.stop),
                extra_args={KEY: wanted} if job.watched else None,
                **common,
            )
        adapter = self._served(job.owner.request).adapter
        self.engine.add_request(name, {"prompt_token_ids": list(job.prompt)}, params, lora_request=adapter)
        self._running[name] = job

    # --- jobs to responses

    def _take(self, output: Any, job: Job, statistics: Sequence[Any]) -> None:
        owner, result = job.owner, output.outputs[0]
        computed = len(job.prompt) - int(output.num_cached_tokens or 0)
        self._prompt += len(job.prompt)
        self._computed += computed
        owner.computed += computed
        self._time(owner, output.metrics)
        if owner.error is None:
            if job.ids:
                self._take_choices(job, result)
            elif job.forced:
                self._computed += len(job.forced) - 1
                if isinstance(owner.request.body, Read):
                    self._take_reading(job, owner.request.body, result, statistics)
                else:
                    self._take_forced(job, result)
            else:
                self._new += len(result.token_ids)
                self._take_generation(job, result, statistics)
        owner.left -= 1
        if owner.left == 0:
            self._ready.append(owner.response())

    @staticmethod
    def _time(owner: Pending, metrics: Any) -> None:
        if metrics is None or not metrics.scheduled_ts:
            return
        first, last = metrics.first_token_ts - metrics.scheduled_ts, metrics.last_token_ts - metrics.scheduled_ts
        owner.first_token = first if owner.first_token is None else min(owner.first_token, first)
        owner.seconds = last if owner.seconds is None else max(owner.seconds, last)

    @staticmethod
    def _take_reading(job: Job, body: Read, result: Any, statistics: Sequence[Any]) -> None:
        positions = [Position(*found) for found in statistics]
        if tuple(result.token_ids) != job.forced or len(positions) != len(job.forced):
            job.owner.error = f"vLLM's worker read {len(positions)} of {len(job.forced)} tokens"
            return
        reading = reading_of(body, positions)
        if isinstance(reading, str):
            job.owner.error = reading
        else:
            job.owner.reading = reading

    def _take_choices(self, job: Job, result: Any) -> None:
        values, chosen = result.logprobs[0], result.token_ids[0]
        for place, token in job.slots:
            logprob = float(values[token].logprob)
            if not math.isfinite(logprob):
                job.owner.error = NOT_FINITE
                return
            keep = _keeps_tokens(job)
            job.owner.scores[place] = ContinuationScore(
                logprob, is_greedy=token == chosen, n_tokens=1, token_logprobs=(logprob,) if keep else None
            )

    def _take_forced(self, job: Job, result: Any) -> None:
        found = [step[token] for step, token in zip(result.logprobs, result.token_ids, strict=True)]
        values = [float(f.logprob) for f in found]
        if not all(math.isfinite(v) for v in values):
            job.owner.error = NOT_FINITE
            return
        if tuple(result.token_ids) != job.forced:
            job.owner.error = "vLLM did not generate the continuation that it was made to"
            return
        keep = _keeps_tokens(job)
        score = ContinuationScore(
            math.fsum(values),
            is_greedy=all(f.rank == 1 for f in found),
            n_tokens=len(values),
            token_logprobs=tuple(values) if keep else None,
        )
        for place, _ in job.slots:
            job.owner.scores[place] = score

    def _take_generation(self, job: Job, result: Any, statistics: Sequence[Any]) -> None:
        owner, body = job.owner, job.owner.request.body
        assert isinstance(body, Generate)
        tokens = tuple(result.token_ids)
        if result.finish_reason not in ("stop", "length"):
            owner.error = f"vLLM ended the answer with {result.finish_reason!r}"
            return
        logprobs = tuple(float(step[t].logprob) for step, t in zip(result.logprobs, tokens, strict=True))
        if not all(math.isfinite(v) for v in logprobs):
            owner.error = NOT_FINITE
            return
        served = self._served(owner.request)
        ended = bool(tokens) and tokens[-1] in served.stop_ids
        matcher = self._matcher(owner.request.checkpoint, served, body.stop)
        text = matcher.text(tokens[:-1] if ended else tokens, hit=result.finish_reason == "stop" and not ended)
        stats, kept = body.stats, statistics[: len(tokens)]
        if job.watched and len(kept) != len(tokens):
            owner.error = f"vLLM's worker kept statistics of {len(kept)} of {len(tokens)} tokens"
            return
        owner.generations[job.sample] = Generation(
            text=text,
            token_ids=tokens,
            finish_reason="stop" if result.finish_reason == "stop" else "length",
            logprobs=logprobs if stats.logprobs else None,
            entropies=tuple(float(s[0] or 0.0) for s in kept) if stats.entropy else None,
            top=tuple(TopTokens(tuple(s[1]), tuple(s[2]), float(s[3] or 0.0)) for s in kept) if stats.top_m else None,
        )

    def _matcher(self, checkpoint: str, served: Served, stop: tuple[str, ...]) -> StopMatcher:
        key = (checkpoint, stop)
        if key not in self._matchers:
            self._matchers[key] = StopMatcher(served.encoder.tokenizer, stop)
        return self._matchers[key]


def _keeps_tokens(job: Job) -> bool:
    body = job.owner.request.body
    return isinstance(body, Score) and body.stats.logprobs
