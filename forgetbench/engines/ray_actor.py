"""The side of the Ray engine that runs on the nodes: one engine in one actor.

Answers leave the actor while the engine is still at work. Ray's streaming generators would do that too, but a
driver that came in by `ray://` cannot call them (Ray 2.60), so the driver calls `exchange` again and again:
each call brings new groups and takes what is finished.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import forgetbench
from forgetbench.checkpoints.files import one_line
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.engines.base import Engine, Usage
from forgetbench.engines.ray_groups import Group
from forgetbench.errors import ForgetbenchError, ModelLoadError, UsageError
from forgetbench.types import Response

_MOST = 1024
"""Answers in one parcel."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an actor is made for, and what it has to find on its node."""

    spec: ModelSpec
    digest: str
    parts: Mapping[str, str]
    identity: Mapping[str, str]
    environment: Mapping[str, str]
    """Variables of the driver that hold on every node."""
    version: str = forgetbench.__version__


@dataclass(frozen=True, slots=True)
class Hello:
    node: str
    problem: str | None = None
    """Why this node cannot serve the model: the user's to mend."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The engine in the actor has failed. Text, not an exception: those do not survive the way whole."""

    line: str
    is_users: bool
    """Whether it is the user's to mend (a model that does not load), so that trying elsewhere is no use."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What happened since the last exchange."""

    responses: tuple[Response, ...]
    finished: tuple[int, ...]
    """Numbers of groups that are done."""
    failure: Failure | None
    usage: Usage
    """Of this life of the actor, all in all."""


class Actor:
    """Made into a Ray actor by the driver. Every method but `exchange` may be called any number of times."""

    def __init__(self, order: Order) -> None:
        os.environ.update(order.environment)  # before anything heavy is imported, which reads some of it once
        self._order = order
        self._engine: Engine | None = None
        self._failed = False
        self._inbox: queue.SimpleQueue[Group] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Response | int | Failure] = queue.SimpleQueue()

    def hello(self) -> Hello:
        """Answers as soon as the actor has a place and its node has the model. Loads no weights."""
        if self._failed:
            os._exit(1)  # a broken engine may hold a GPU: Ray starts the actor anew and asks again
        if self._engine is None:
            try:
                self._engine = self._make_engine()
            except ForgetbenchError as error:
                return Hello(node_name(), str(error))
            threading.Thread(target=self._serve, args=(self._engine,), daemon=True).start()
        return Hello(node_name())

    def _make_engine(self) -> Engine:
        from forgetbench.checkpoints.resolve import resolve
        from forgetbench.engines.registry import make_engine

        order = self._order
        where = f"models.{order.spec.alias}"
        if forgetbench.__version__ != order.version:
            problem = f"has forgetbench {forgetbench.__version__}, the driver has {order.version}"
            raise UsageError(where, problem, "install the same version on every node")
        checkpoint = resolve(order.spec)
        if checkpoint.digest != order.digest:
            parts = ", ".join(sorted(k for k, v in checkpoint.parts.items() if order.parts.get(k) != v))
            problem = f"other {parts} lie there under {order.spec.path or 'the same path'} than on the driver's machine"
            raise UsageError(where, problem, "copy the same files to every node")
        engine = make_engine(checkpoint)
        found = dict(engine.identity)
        if found != dict(order.identity):
            names = sorted(k for k in {*found, *order.identity} if found.get(k) != order.identity.get(k))
            told = ", ".join(f"{k} {found.get(k)} instead of {order.identity.get(k)}" for k in names)
            raise UsageError(where, f"the engine there has {told}", "install the same versions on every node")
        return engine

    def _serve(self, engine: Engine) -> None:
        """The thread that computes. Groups one after the other: each is a batch of the engine's own."""
        while True:
            group = self._inbox.get()
            try:
                for response in engine.run(group.requests):
                    self._outbox.put(response)
            except BaseException as error:  # of whatever kind: the driver has to hear of it
                self._failed = True
                is_ours = isinstance(error, ForgetbenchError)
                line = str(error) if is_ours else one_line(error)
                self._outbox.put(Failure(line, isinstance(error, UsageError | ModelLoadError)))
                return
            self._outbox.put(group.number)

    def exchange(self, groups: Sequence[Group], seconds: float) -> Parcel:
        """Take new groups, give what is finished; waits that long for the first thing to give."""
        for group in groups:
            self._inbox.put(group)
        responses: list[Response] = []
        finished: list[int] = []
        failure: Failure | None = None
        try:
            thing = self._outbox.get(timeout=seconds)
            while True:
                if isinstance(thing, Response):
                    responses.append(thing)
                elif isinstance(thing, Failure):
                    failure = thing
                else:
                    finished.append(thing)
                if len(responses) >= _MOST:
                    break
                thing = self._outbox.get_nowait()
        except queue.Empty:
            pass
        usage = self._engine.usage if self._engine is not None else Usage()
        return Parcel(tuple(responses), tuple(finished), failure, usage)


def node_name() -> str:
    """Name and address of the machine, as its owner knows it."""
    import ray

    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
