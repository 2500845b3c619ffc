"""Who is blamed for a lost actor, on a made-up Ray: here the answers that a dying actor had ready never arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from forgetbench.checkpoints import ModelSpec
from forgetbench.engines import ray_cluster
from forgetbench.engines.base import Usage
from forgetbench.engines.ray_actor import Hello, Order, Parcel
from forgetbench.engines.ray_args import RayArgs
from forgetbench.engines.ray_crew import Crew
from forgetbench.engines.ray_groups import Group
from forgetbench.types import Generation, Request, Response
from tests.engines.conftest import generate
from tests.engines.ray_world import by_id, questions

pytestmark = pytest.mark.unit


class _Lost(Exception):
    pass


class _Worker:
    """Answers a group a call. A poisoned request takes with it whatever the call would have brought."""

    def __init__(self, asked: list[tuple[str, ...]]) -> None:
        self._asked, self._inbox = asked, deque[Group]()

    def hello(self) -> Hello:
        return Hello("node")

    def exchange(self, groups: Sequence[Group], seconds: float) -> Parcel:
        self._inbox.extend(groups)
        self._asked.append(tuple(r.request_id for g in self._inbox for r in g.requests))
        answered: list[Response] = []
        finished: list[int] = []
        while self._inbox:
            group = self._inbox.popleft()
            for request in group.requests:
                if request.prompt.text == "poison":
                    self._inbox.clear()
                    raise _Lost("the process is gone")
                answered.append(Response(request.request_id, generations=(Generation("x", (1,), "eos"),)))
            finished.append(group.number)
        return Parcel(tuple(answered), tuple(finished), None, Usage())


class _Call:
    def __init__(self, function: Any) -> None:
        self._function = function

    def options(self, **_: Any) -> _Call:
        return self

    def remote(self, *args: Any) -> Any:
        return lambda: self._function(*args)


class _Ray:
    """As much of Ray as the crew uses: calls are made when they are got."""

    exceptions = SimpleNamespace(RayError=_Lost)

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def remote(self, _: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._start))

    def _start(self, _: Order) -> Any:
        worker = _Worker(self.asked)
        return SimpleNamespace(hello=_Call(worker.hello), exchange=_Call(worker.exchange))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 8.0}}]

    def wait(self, calls: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return calls[:1], calls[1:]

    def get(self, call: Any) -> Any:
        return call()

    def kill(self, _: Any) -> None:
        pass


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> _Ray:
    made = _Ray()
    monkeypatch.setattr(ray_cluster, "ray_module", lambda: made)
    monkeypatch.setattr(ray_cluster, "connect", lambda *_: (False, True))
    return made


def ask(actors: int, size: int, requests: Sequence[Request]) -> dict[str, Response]:
    order = Order(ModelSpec("s", engine="scripted"), "", {}, {}, {})
    crew = Crew(order, RayArgs(actors=actors, group_requests=size), 0.0, Usage())
    try:
        return by_id(list(crew.run(requests)), list(requests))
    finally:
        crew.close()


@pytest.mark.parametrize("actors", [1, 2])
@pytest.mark.parametrize("place", range(12))
def test_only_the_poisoned_request_is_given_up(ray: _Ray, actors: int, place: int) -> None:
    """Though the group before it is unanswered as well whenever an actor dies."""
    asked = [*questions(place), generate("bad", "poison", 9), *questions(30 - place, "more")]
    got = ask(actors, 3, asked)
    assert [name for name, r in got.items() if r.error is not None] == ["bad"]
    assert got["bad"].error == "no answer from 3 Ray actors, at last: the process is gone"
    calls = [call for call in ray.asked if "bad" in call]
    assert len(calls) in {3, 4}  # 4: at first another group stood before it and was blamed
    assert len(calls[0]) <= 6
    assert all(len(call) <= 3 for call in calls[1:])  # one group, so that the blame is certain


def test_several_poisoned_requests_take_no_neighbour_with_them(ray: _Ray) -> None:
    asked = [generate(f"bad{i}", "poison", 9) if i % 5 == 0 else q for i, q in enumerate(questions(40))]
    got = ask(2, 4, asked)
    assert {name for name, r in got.items() if r.error is not None} == {f"bad{i}" for i in range(0, 40, 5)}
