"""The one place that talks to an OpenAI-compatible server: sending, streaming, and what bad weather means.

Every failure becomes one of four:
- `Refused`: the server does not want this request (400, 413, 422). Asking again would not help.
- `Unanswered`: 408, 409, 425, 429, 5xx, a broken or silent connection, an answer that cannot be read: asked again
  with growing, jittered pauses, and after the last try given up for this request alone.
- EngineError: the key, the address or the model is wrong (401, 403, 404), or nothing is paid for: no request can
  succeed. The same where request after request ended in `Unanswered`: the server is gone.
- anything else is a fault of ours and is raised as it is.

The openai client's own retries are off: they know neither a shared pause after 429 nor a body cut short. No
connection is used twice: a server or proxy that sends an answer doubled or late would have it taken for the
answer to the next request on that connection.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from forgetbench.checkpoints.endpoint import EndpointArgs
from forgetbench.errors import EngineError, UsageError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_T = TypeVar("_T")
_AGAIN = frozenset({408, 409, 425, 429})
_WRONG = {401: "the key is missing or wrong", 403: "the key may not use it", 404: "there is no such model or address"}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_LONGEST_WISH = 900.0
"""Seconds that a Retry-After may ask for; a server that asks for more is as good as gone."""
_UNANSWERED_IN_A_ROW = 8
"""Requests that may end unanswered one after the other before the server counts as gone (or `concurrency`)."""


class Refused(Exception):
    """The server does not take this request; the text says why, in its words."""


class Unanswered(Exception):
    """No readable answer, after all tries. `delay`: seconds that the server asked to be left alone."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        self.delay = delay
        super().__init__(reason)


class Client:
    """Sends requests; at most `concurrency` are under way. Belongs to the event loop that it is made in."""

    def __init__(self, alias: str, args: EndpointArgs, retries: int | None = None) -> None:
        self.where = f"models.{alias}"
        self.args = args
        self.retries = args.retries if retries is None else retries
        self._key = _key(alias, args)
        self._client = _open(args, self._key)
        self._slots = asyncio.Semaphore(args.concurrency)
        self._quiet_until = 0.0
        self._in_a_row = 0

    async def get(self, path: str) -> Any:
        return await self._tried(lambda: self._client.get(path, cast_to=object))

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], _T]) -> _T:
        """The answer as `read` takes it; `read` raises ValueError, KeyError, TypeError or IndexError for an
        answer that is not what was asked for, which is then asked again."""

        async def once() -> _T:
            return read(await self._client.post(path, cast_to=object, body=dict(body)))

        return await self._tried(once)

    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[AsyncIterator[Any], float], Awaitable[_T]],
        *,
        whole: bool = False,
    ) -> _T:
        """The same for an answer that comes in pieces (`whole`: in a single one, from a server that does not
        stream). `read` gets them and the time at which this try was sent (perf_counter); it may stop early, which
        ends the request."""
        from openai import AsyncStream

        async def once() -> _T:
            begin = time.perf_counter()
            if whole:
                return await read(_single(await self._client.post(path, cast_to=object, body=dict(body))), begin)
            stream = await self._client.post(
                path, cast_to=object, body={**body, "stream": True}, stream=True, stream_cls=AsyncStream[object]
            )
            try:
                return await read(aiter(stream), begin)
            finally:
                await stream.close()

        return await self._tried(once)

    async def close(self) -> None:
        await self._client.close()

    async def _tried(self, once: Callable[[], Awaitable[_T]]) -> _T:
        for attempt in range(self.retries + 1):
            pause = max(0.0, self._quiet_until - time.monotonic())
            if pause:  # with some jitter, so that those who waited do not all come back at once
                await asyncio.sleep(pause + random.uniform(0, 0.1 + 0.1 * pause))
            try:
                async with self._slots:
                    answer = await self._classified(once)
            except Unanswered as error:
                if attempt == self.retries or (error.delay or 0.0) > _LONGEST_WISH:
                    raise self._given_up(error, attempt + 1) from None
                if error.delay:
                    self._quiet_until = max(self._quiet_until, time.monotonic() + error.delay)
                else:
                    await asyncio.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1))
            else:
                self._in_a_row = 0
                return answer
        raise AssertionError("unreachable")

    def _given_up(self, error: Unanswered, tries: int) -> Exception:
        self._in_a_row += 1
        if self._in_a_row >= max(_UNANSWERED_IN_A_ROW, self.args.concurrency):
            return EngineError(
                f"{self.where}: {self.args.base_url} does not answer any more ({error}); what it answered is kept, and "
                "the same command goes on"
            )
        return Unanswered(f"no answer after {tries} tries: {error}", error.delay)

    async def _classified(self, once: Callable[[], Awaitable[_T]]) -> _T:
        import openai

        try:
            return await once()
        except openai.APIStatusError as error:
            raise self._of_status(error) from None
        except openai.APITimeoutError:
            raise Unanswered(f"silent for {self.args.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise Unanswered(self._shown(str(error.__cause__ or error) or type(error.__cause__).__name__)) from None
        except openai.OpenAIError as error:  # an error in the midst of a stream
            raise Unanswered(self._shown(str(error))) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise Unanswered(f"an answer that cannot be read ({self._shown(str(error))})") from None

    def _of_status(self, error: Any) -> Exception:
        status, said = int(error.status_code), self._shown(_message(error))
        if status in _WRONG:
            return EngineError(f"{self.where}: {self.args.base_url} answers {status}: {_WRONG[status]} ({said})")
        if status == 429 and error.code == "insufficient_quota":
            return EngineError(f"{self.where}: {self.args.base_url} answers 429: {said}")
        if status in _AGAIN or status >= 500:
            return Unanswered(f"{status}: {said}", _wished(error.response.headers))
        return Refused(f"{status}: {said}")

    def _shown(self, text: str) -> str:
        """One short line of what the server said, the key taken out wherever it quotes it."""
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:300]


async def _single(answer: Any) -> AsyncIterator[Any]:
    yield answer


def _key(alias: str, args: EndpointArgs) -> str:
    """The key from the environment; "" where none is named."""
    if args.api_key_env is None:
        return ""
    key = os.environ.get(args.api_key_env, "").strip()
    if not key:
        raise UsageError(
            f"models.{alias}.engine_args.api_key_env", f"the variable {args.api_key_env} is not set", "export it"
        )
    return key


def _open(args: EndpointArgs, key: str) -> AsyncOpenAI:
    try:
        import httpx2 as httpx
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError:
        raise UsageError("engine: openai", "needs the package openai (3 or later)", "pip install openai") from None
    timeout = httpx.Timeout(args.timeout, connect=min(args.timeout, 30.0), pool=None)
    limits = httpx.Limits(max_connections=args.concurrency + 1, max_keepalive_connections=0)
    return AsyncOpenAI(
        base_url=args.base_url,
        api_key=key or "none",  # the client wants one; servers without keys ignore it
        max_retries=0,
        timeout=timeout,
        http_client=DefaultAsyncHttpxClient(limits=limits, timeout=timeout),
    )


def _message(error: Any) -> str:
    """What the server said: its error's message, else the beginning of its body."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        said = inner.get("message") if isinstance(inner, Mapping) else inner
        if said:
            return str(said)
    return str(body or error.message)


def _wished(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, given as a number or as a date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
