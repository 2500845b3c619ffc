"""The endpoint engine: any OpenAI-compatible server (vLLM, SGLang, llama.cpp, a vendor) over the openai package.

Making it is light. The server is first asked when its capabilities are wanted or requests come. The asking lives
in a thread with an event loop of its own, so that requests stay under way while the caller stores an answer; a
caller that stops listening (Ctrl-C) ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.endpoint import endpoint_args
from forgetbench.checkpoints.endpoint_state import Limits
from forgetbench.checkpoints.fingerprint import digest_json
from forgetbench.engines.base import Capabilities, Usage
from forgetbench.types import Request, Response

if TYPE_CHECKING:
    from forgetbench.engines.openai_probe import Served

_PROBE_RETRIES = 3
_CHUNK = 256
"""Requests tokenised at a time."""
_END = object()


class OpenAIEngine:
    """Satisfies `forgetbench.engines.base.Engine`.

    Of `usage`, computed_tokens counts all prompt tokens where the server does not tell which of them it had in
    its cache, and busy_seconds stays 0: what a server does inside cannot be seen.
    """

    def __init__(self, checkpoint: Checkpoint, **args: Any) -> None:
        self.checkpoint = checkpoint
        self.args = endpoint_args(checkpoint.alias, args)
        self._served: Served | None = None
        self._usage = Usage()

    @property
    def identity(self) -> dict[str, str]:
        """Known without asking the server. What the server says of itself (system_fingerprint) changes with its
        restarts and is no part of it."""
        identity = {"name": "openai", "base_url": self.args.base_url, "model": self.args.model}
        if self.args.fingerprint is not None:
            identity["fingerprint"] = self.args.fingerprint
        for name in ("max_length", "add_bos_token"):
            if getattr(self.args, name) is not None:
                identity[name] = str(getattr(self.args, name))
        if self.args.extra_body:
            identity["extra_body"] = digest_json(dict(self.args.extra_body))
        return identity

    @property
    def capabilities(self) -> Capabilities:
        """Asks the server, once. Raises UsageError when it is down, the key wrong or the model unknown.

        `read` is False for every server: echo with logprobs would give log-probabilities and a few likely tokens of
        given text, but no endpoint gives entropies, nuclei or the log-probabilities of ids of our choice.
        """
        limits = self.limits
        return Capabilities(
            score=not limits.score,
            generate=not (limits.complete and limits.chat),
            token_stats=False,
            accepts_messages=not limits.chat,
            read=False,
        )

    @property
    def limits(self) -> Limits:
        """What the server refuses, with reasons; asks it like `capabilities`."""
        return self._probed().limits

    @property
    def usage(self) -> Usage:
        return self._usage

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Responses as they finish, begun in the order given. A request that fails in all its tries is answered
        with an `error`. Raises EngineError when no request can succeed."""
        if not requests:
            return
        served = self._probed()
        finished: queue.Queue[Any] = queue.Queue()
        loop = asyncio.new_event_loop()

        async def work() -> None:
            from forgetbench.engines.openai_ask import Asker
            from forgetbench.engines.openai_client import Client

            client = Client(self.checkpoint.alias, self.args)
            asker = Asker(self.checkpoint, client, served)
            try:
                await _ask_all(asker, requests, self.args.concurrency, finished)
            finally:
                await asker.close()
                await client.close()

        task = loop.create_task(work())
        thread = threading.Thread(target=_turn, args=(loop, task, finished), daemon=True, name="openai-engine")
        thread.start()
        try:
            while True:
                item = finished.get()
                if item is _END:
                    return
                if isinstance(item, BaseException):
                    raise item
                response, usage = item
                self._usage = _sum(self._usage, usage)
                yield response
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed already: all was asked
                loop.call_soon_threadsafe(task.cancel)
            thread.join()

    def close(self) -> None:
        """Nothing to give back: connections end with each `run`."""

    def _probed(self) -> Served:
        if self._served is None:
            from forgetbench.engines.openai_client import Client
            from forgetbench.engines.openai_probe import probe

            async def ask() -> Served:
                client = Client(self.checkpoint.alias, self.args, retries=min(self.args.retries, _PROBE_RETRIES))
                try:
                    return await probe(client, self.checkpoint)
                finally:
                    await client.close()

            self._served = _in_a_loop(ask())
        return self._served


def _in_a_loop(coroutine: Coroutine[Any, Any, Served]) -> Served:
    """Run to the end in a thread, since the caller may be inside an event loop already (a notebook, an actor)."""
    result: list[Served] = []
    errors: list[BaseException] = []

    def turn() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=turn, daemon=True, name="openai-probe")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


def _turn(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], finished: queue.Queue[Any]) -> None:
    """The thread: turn the loop until all is asked, something breaks, or the caller cancels."""
    try:
        loop.run_until_complete(task)
        finished.put(_END)
    except asyncio.CancelledError:
        finished.put(_END)
    except BaseException as error:
        finished.put(error)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _ask_all(asker: Any, requests: Sequence[Request], concurrency: int, finished: queue.Queue[Any]) -> None:
    """As many workers as requests may be under way take the requests in order; the first fault ends all."""
    waiting = iter(_prepared(asker, requests))

    async def worker() -> None:
        for prepared in waiting:
            finished.put(await asker.answer(prepared))

    workers = [asyncio.ensure_future(worker()) for _ in range(min(concurrency, len(requests)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _prepared(asker: Any, requests: Sequence[Request]) -> Iterator[Any]:
    """Tokenised in chunks: one at a time would be slow, all at once would hold up the first answer."""
    for start in range(0, len(requests), _CHUNK):
        yield from asker.prepare(requests[start : start + _CHUNK])


def _sum(a: Usage, b: Mapping[str, int]) -> Usage:
    return replace(a, **{name: getattr(a, name) + value for name, value in b.items()})
