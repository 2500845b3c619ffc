"""The response cache: an engine that asks another one only what was never answered before.

A base that was run once is never run again, whatever folder, suite or order it is asked in next.

What tells one answer from another, so that a change of it misses:

- the request's id: checkpoint digest (weights, config, tokenizer, template, adapter, stop ids), the rendered
  prompt, and the body: limits, stops, temperature, top_p, the seed of every sample, continuations, statistics;
- the engine's identity: name, versions, dtype, device, attention, quantisation, ...;
- the replicate, because greedy requests of two replicates have the same id;
- the version of what is stored (`codec.CODEC_VERSION`) and of this list (`KEY_VERSION`).

What does not: the alias, the folder, batch sizes, the order of requests. A cached response keeps the
`computed_tokens`, `first_token_seconds` and `seconds` of the run that it comes from. Failed and empty responses
are never stored, nor those of a checkpoint that cannot be told from a changed one (`reusable` False).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from forgetbench.engines.base import Capabilities, Engine, Usage
from forgetbench.engines.cache_store import LOOKUP, ResponseCache, Source, canonical
from forgetbench.errors import UsageError
from forgetbench.runs.codec import CODEC_VERSION, is_final
from forgetbench.types import Generate, Read, Request, Response

KEY_VERSION = 1
"""Raise it when the same key would stand for another answer: after a mended fault of an engine of ours."""


class Named(Protocol):
    """What the cache has to know of a checkpoint; `reusable` False, where there is such an attribute, bypasses."""

    @property
    def alias(self) -> str: ...
    @property
    def digest(self) -> str: ...


Served = Mapping[str, tuple[Named, Mapping[str, str]]]
"""Checkpoint digest -> the checkpoint, and the identity of the engine when it serves that one."""


def response_key(identity: Mapping[str, str], request_id: str, replicate: int = 0) -> bytes:
    """32 bytes: sha256 over everything that tells one answer from another."""
    return _keys(identity, replicate)(request_id)


def _keys(identity: Mapping[str, str], replicate: int) -> Callable[[str], bytes]:
    # A line each: canonical JSON has no newline, so that no two lists of parts can be the same text.
    head = f"{KEY_VERSION}\n{CODEC_VERSION}\n{canonical(identity)}\n{replicate}\n"
    begun = hashlib.sha256(head.encode("utf-8", "surrogatepass"))

    def key(request_id: str) -> bytes:
        one = begun.copy()
        one.update(request_id.encode("utf-8", "surrogatepass"))
        return one.digest()

    return key


def cached(
    engine: Engine,
    checkpoint: Named,
    identity: Mapping[str, str],
    path: Path,
    replicate: int = 0,
    on_note: Callable[[str], None] | None = None,
) -> CachedEngine:
    """`engine`, asked only what `path` does not hold for this checkpoint. See `cached_many`."""
    return cached_many(engine, {checkpoint.digest: (checkpoint, identity)}, path, replicate, on_note)


def cached_many(
    engine: Engine,
    served: Served,
    path: Path,
    replicate: int = 0,
    on_note: Callable[[str], None] | None = None,
) -> CachedEngine:
    """The same for an engine that serves several checkpoints; what `served` does not name is not cached.

    The file is opened by the first request. One that cannot be used (damaged, no space, no permission, another
    version's) stops nothing: `on_note` gets one line, and everything is asked from then on.
    """
    return CachedEngine(engine, served, path, replicate, on_note or (lambda line: None))


class CachedEngine:
    """Satisfies `forgetbench.engines.base.Engine`. The inner engine is not run where everything is stored."""

    def __init__(self, engine: Engine, served: Served, path: Path, replicate: int, note: Callable[[str], None]) -> None:
        self._engine, self._path, self._note = engine, path, note
        reusable = {d: (c, i) for d, (c, i) in served.items() if getattr(c, "reusable", True)}
        self._keys = {d: _keys(identity, replicate) for d, (_, identity) in reusable.items()}
        self._sources = {d: Source(d, c.alias, canonical(identity)) for d, (c, identity) in reusable.items()}
        self._store: ResponseCache | None = None
        self._is_broken = False
        self._hits = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    @property
    def identity(self) -> dict[str, str]:
        return self._engine.identity

    def identity_of(self, checkpoint: Named) -> dict[str, str]:
        """The inner engine's own word, so that what was announced to the cache can be held against it."""
        own = getattr(self._engine, "identity_of", None)
        return dict(self._engine.identity if own is None else own(checkpoint))

    @property
    def usage(self) -> Usage:
        """What the inner engine did: a hit adds nothing to it."""
        return self._engine.usage

    @property
    def hits(self) -> int:
        """How many responses came out of the cache."""
        return self._hits

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """First what is stored, then what the inner engine answers, stored as it comes.

        Raises what the inner engine raises; what came before is stored.
        """
        misses: list[Request] = []
        for start in range(0, len(requests), LOOKUP):
            some = requests[start : start + LOOKUP]
            found = self._find(some)
            for request in some:
                response = found.get(request.request_id)
                if response is None:
                    misses.append(request)
                else:
                    self._hits += 1
                    yield response
        if not misses:
            return
        asked = {r.request_id: r for r in misses}
        try:
            for response in self._engine.run(misses):
                self._keep(asked.get(response.request_id), response)
                yield response
        finally:
            with self._tolerant():
                if self._store is not None:
                    self._store.flush()

    def close(self) -> None:
        """Store what waits, close the file and the inner engine."""
        try:
            store, self._store = self._store, None
            with self._tolerant():
                if store is not None:
                    store.close()
        finally:
            self._engine.close()

    def _find(self, requests: Sequence[Request]) -> dict[str, Response]:
        """The stored responses that fit, by request id."""
        wanted = {self._keys[r.checkpoint](r.request_id): r for r in requests if r.checkpoint in self._keys}
        found: dict[bytes, Response] = {}
        with self._tolerant():
            store = self._open() if wanted else None
            if store is not None:
                found = store.get_many(wanted)
        return {r.request_id: found[key] for key, r in wanted.items() if key in found and _fits(r, found[key])}

    def _keep(self, request: Request | None, response: Response) -> None:
        if request is None or request.checkpoint not in self._keys or not _fits(request, response):
            return
        with self._tolerant():
            store = self._open()
            if store is not None:
                store.put(
                    self._keys[request.checkpoint](request.request_id), response, self._sources[request.checkpoint]
                )

    def _open(self) -> ResponseCache | None:
        """The file, or None after it turned out to be of no use."""
        if self._store is None and not self._is_broken:
            self._store = ResponseCache(self._path)
        return self._store

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Say what is wrong with the file, once, and go on without it."""
        try:
            yield
        except UsageError as error:
            self._is_broken = True
            store, self._store = self._store, None
            if store is not None:
                with contextlib.suppress(UsageError):
                    store.close()
            self._note(f"response cache not used from here on: {error}")


def _fits(request: Request, response: Response) -> bool:
    """Whether a response may be served for a request: final, its own, and with as many answers as were asked."""
    if response.request_id != request.request_id or not is_final(response):
        return False
    if isinstance(request.body, Generate):
        return len(response.generations) == len(request.body.seeds)
    if isinstance(request.body, Read):
        return response.reading is not None and len(response.reading.logprobs) == len(request.body.token_ids)
    return len(response.scores) == len(request.body.continuations)
