"""The driver's side of the actors: what each has in hand, and who takes over what a lost one leaves.

Ray places actors, starts lost ones again and carries calls. Left to do here is to know which requests are
unanswered: an answer counts once, when it arrives; whatever a lost actor had in hand and not answered goes
to others.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from forgetbench.engines import ray_cluster
from forgetbench.engines.base import Usage
from forgetbench.engines.ray_actor import Actor, Hello, Order, Parcel
from forgetbench.engines.ray_args import RayArgs
from forgetbench.engines.ray_groups import Group, Shelf, cut_groups, group_size
from forgetbench.errors import EngineError, ModelLoadError
from forgetbench.types import Request, Response

log = logging.getLogger(__name__)

_IN_HAND = 2
"""Groups that an actor has: one to work on, one that waits, so that it never does."""
_STRIKES = 3
"""A request over which so many actors were lost is given up."""
_LISTEN = 5.0
"""Seconds that a call waits in an actor for something to bring back."""


@dataclass(slots=True)
class _Slot:
    """One actor as the driver knows it."""

    number: int
    handle: Any
    call: Any = None
    """The one call that is under way: `hello` while `node` is None, else `exchange`."""
    node: str | None = None
    """None: it has no place yet, or was lost and Ray starts it again."""
    groups: list[Group] = field(default_factory=list)
    """In the order in which it works through them."""
    usage: Usage = field(default_factory=Usage)
    """Of its present life."""
    is_gone: bool = False


class Crew:
    """Long-lived actors of one engine each. Made when there is something to ask; `close` ends them."""

    def __init__(self, order: Order, args: RayArgs, gpus: float, past: Usage) -> None:
        """Connect and start the actors; none of them has a place yet. Raises ModelLoadError, see `connect`."""
        self._where = f"models.{order.spec.alias}"
        self._args, self._gpus = args, gpus
        self._ray = ray_cluster.ray_module()
        self._past = past
        self._last_loss = ""
        self._slots: list[_Slot] = []
        arguments = f"{self._where}.engine_args"
        self._is_ours, connected_now = ray_cluster.connect(args.address, args.runtime_env, arguments)
        try:
            options: dict[str, Any] = {"num_cpus": args.cpus_per_actor, "num_gpus": gpus}
            if args.runtime_env and not connected_now:
                options["runtime_env"] = dict(args.runtime_env)
            remote = self._ray.remote(Actor).options(
                max_restarts=args.max_restarts, max_task_retries=0, scheduling_strategy="SPREAD", **options
            )
            for number in range(self._count()):
                self._slots.append(_Slot(number, remote.remote(order)))
                self._greet(self._slots[-1])
        except BaseException:
            self.close()
            raise

    @property
    def usage(self) -> Usage:
        total = self._past
        for slot in self._slots:
            total = _sum(total, slot.usage)
        return total

    def _count(self) -> int:
        """How many actors to start. Raises ModelLoadError when none would fit, or GPUs are in doubt."""
        args, where = self._args, f"{self._where}.engine_args"
        nodes = self._ray.nodes()
        have = ray_cluster.gpu_count(nodes)
        if args.gpus_per_actor is None and args.engine != "scripted" and (have > 0) != (self._gpus > 0):
            raise ModelLoadError(
                f"{where}.gpus_per_actor: the cluster has {have:g} GPUs and the model would run on "
                f"{'a GPU' if self._gpus else 'CPUs'}, judged by this machine; set it to 1 or 0"
            )
        fit = ray_cluster.capacity(nodes, args.cpus_per_actor, self._gpus)
        if args.actors is None and fit == 0:
            raise ModelLoadError(
                f"{where}: no node has room for an actor of {self._wants()} ({ray_cluster.describe(nodes)}); "
                "ask for less, or set `actors` if the cluster grows on demand"
            )
        return args.actors or min(fit, ray_cluster.MOST_ACTORS)

    def _wants(self) -> str:
        return f"{self._args.cpus_per_actor:g} CPUs and {self._gpus:g} GPUs"

    def _greet(self, slot: _Slot) -> None:
        """Ask whether it has a place. Ray repeats this call, and no other, until the actor lives or is given up."""
        slot.node = None
        slot.call = slot.handle.hello.options(max_task_retries=-1).remote()

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """One response for each request, as they arrive.

        Raises EngineError when all actors are lost, ModelLoadError when a node has another model or cannot
        load it.
        """
        unanswered = {r.request_id: r for r in requests}
        size = self._args.group_requests or group_size(len(requests), len(self._slots))
        shelf = Shelf(cut_groups(requests, size, self._args.group_characters), len(self._slots))
        for slot in self._slots:
            slot.groups.clear()  # of an earlier run that was not heard to its end: nobody waits for it
        placed = time.monotonic()
        while unanswered:
            self._feed(shelf, unanswered)
            if any(slot.node is not None for slot in self._slots):
                placed = time.monotonic()
            self._check_alive(time.monotonic() - placed)
            for slot in self._wait():
                for response in self._collect(slot, shelf, unanswered):
                    if unanswered.pop(response.request_id, None) is not None:
                        yield response

    def _feed(self, shelf: Shelf, unanswered: dict[str, Request]) -> None:
        for slot in self._slots:
            if slot.node is None or slot.call is not None:
                continue
            new: list[Group] = []
            while self._has_room([*slot.groups, *new], shelf) and (group := shelf.take(slot.number)) is not None:
                left = _left(group, unanswered)
                if left.requests:
                    new.append(left)
            if new or slot.groups:
                slot.groups += new
                slot.call = slot.handle.exchange.remote(new, _LISTEN)

    def _has_room(self, in_hand: Sequence[Group], shelf: Shelf) -> bool:
        """Whether an actor gets one more group.

        What came back from a lost actor is asked with nothing beside it: when that actor is lost too, it is
        known over which group. Near the end nothing waits in an actor's hands that another, idle one could take.
        """
        is_alone = shelf.has_returned or any(group.came_back for group in in_hand)
        return len(in_hand) < (_IN_HAND if len(shelf) > len(self._slots) and not is_alone else 1)

    def _check_alive(self, waited: float) -> None:
        if all(slot.is_gone for slot in self._slots):
            raise EngineError(
                f"{self._where}: all Ray actors are lost ({len(self._slots)}, each started "
                f"{1 + self._args.max_restarts} times at most); the last reason: {self._last_loss}"
            )
        if waited > self._args.start_seconds:
            last = f"; the last one was lost: {self._last_loss}" if self._last_loss else ""
            raise EngineError(
                f"{self._where}: no Ray actor of {self._wants()} got a place within {waited:.0f} s "
                f"(the cluster has {ray_cluster.describe(self._ray.nodes())}, perhaps in use){last}"
            )

    def _wait(self) -> list[_Slot]:
        calls = {slot.call: slot for slot in self._slots if slot.call is not None}
        try:
            ready, _ = self._ray.wait(list(calls), num_returns=1, timeout=1.0)
        except Exception as error:  # the way to the cluster is gone: nobody will answer any more
            raise EngineError(f"{self._where}: the connection to Ray is lost ({ray_cluster.reason(error)})") from None
        return [calls[call] for call in ready]

    def _collect(self, slot: _Slot, shelf: Shelf, unanswered: dict[str, Request]) -> Iterator[Response]:
        """What a finished call brought: a greeting, answers, or the news that the actor is lost."""
        greets = slot.node is None
        call, slot.call = slot.call, None
        try:
            answer: Hello | Parcel = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            slot.is_gone = greets  # Ray repeats a greeting as long as there is anyone to greet
            yield from self._lose(slot, ray_cluster.reason(error), shelf, unanswered)
            return
        except Exception as error:
            raise EngineError(f"{self._where}: the connection to Ray is lost ({ray_cluster.reason(error)})") from None
        if isinstance(answer, Hello):
            slot.node = answer.node
            if answer.problem is not None:
                raise ModelLoadError(f"node {answer.node}: {answer.problem}")
            return
        slot.usage = answer.usage
        yield from answer.responses
        done = [g for g in slot.groups if g.number in answer.finished]
        slot.groups = [g for g in slot.groups if g.number not in answer.finished]
        for group in done:
            yield from self._again(_left(group, unanswered), "the engine gave no answer", shelf)
        if answer.failure is not None:
            if answer.failure.is_users:
                raise ModelLoadError(f"node {slot.node}: {answer.failure.line}")
            yield from self._lose(slot, answer.failure.line, shelf, unanswered)

    def _lose(self, slot: _Slot, why: str, shelf: Shelf, unanswered: dict[str, Request]) -> Iterator[Response]:
        """Give what the actor had in hand to others; greet it, so that it joins again when Ray has a place."""
        self._last_loss = why
        left = [g for g in (_left(group, unanswered) for group in slot.groups) if g.requests]
        count = sum(len(g.requests) for g in left)
        after = f"its {count} unanswered requests go to others" if count else "it had nothing in hand"
        if slot.is_gone:
            after += "; Ray does not start it again"
        log.warning("Ray: the actor on %s is lost (%s); %s", slot.node or "a node", why, after)
        self._past, slot.usage = _sum(self._past, slot.usage), Usage()
        slot.groups = []
        if not slot.is_gone:
            self._greet(slot)
        if left:
            # The actor was at the first of them, unless answers were lost with it. Then the next loss tells, see
            # `_has_room`: nothing is struck twice for what stood behind it.
            yield from self._again(left[0], why, shelf)
            shelf.put_back(left[1:])

    def _again(self, group: Group, why: str, shelf: Shelf) -> Iterator[Response]:
        """Ask unanswered requests once more, or give them up after the third time."""
        strikes = group.strikes + 1
        if strikes >= _STRIKES:
            for request in group.requests:
                line = f"no answer from {strikes} Ray actors, at last: {why}"
                yield Response(request.request_id, error=line)
        elif strikes == _STRIKES - 1:
            # One request may be what kills them: alone, it takes no other down with it.
            shelf.put_back(Group(0, (request,), strikes) for request in group.requests)
        elif group.requests:
            shelf.put_back([replace(group, strikes=strikes)])

    def close(self) -> None:
        """End the actors, and the connection where it was opened here and nobody else uses it."""
        for slot in self._slots:
            with contextlib.suppress(Exception):  # it may be dead, or the connection
                self._ray.kill(slot.handle)
        self._past, self._slots = self.usage, []
        if self._is_ours:
            self._is_ours = False
            ray_cluster.disconnect()


def _left(group: Group, unanswered: dict[str, Request]) -> Group:
    return replace(group, requests=tuple(r for r in group.requests if r.request_id in unanswered))


def _sum(a: Usage, b: Usage) -> Usage:
    return Usage(**{f.name: getattr(a, f.name) + getattr(b, f.name) for f in fields(Usage)})
