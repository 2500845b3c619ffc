"""How a plan is dealt out to actors: cut into groups, neighbours kept together. Pure, no Ray in it.

A plan stands in the order in which an engine should read it, so neighbours share their beginnings. A group is
what one actor gets at a time. It is cut where its neighbours share least, and each actor works through a row
of neighbouring groups, so that a shared beginning is read by one actor and seldom by two. An actor that has
finished its row takes over half of the longest one that is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from forgetbench.engines.prefix import common_prefix
from forgetbench.types import Read, Request, Score


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that go to an actor together."""

    number: int
    """Given when it is handed out; a group that comes back gets a new one."""
    requests: tuple[Request, ...]
    strikes: int = 0
    """How many actors were lost while they worked on it."""
    came_back: bool = False
    """An actor was lost that had it in hand."""


def group_size(requests: int, actors: int) -> int:
    """Requests per group where the user says nothing: about eight groups an actor, so that all end together,
    yet enough in each to fill an engine's batches."""
    return min(512, max(64, requests // (8 * max(actors, 1))))


def cut_groups(requests: Sequence[Request], most_requests: int, most_characters: int) -> list[Group]:
    """Consecutive groups, none over a limit (a single request may be), cut where neighbours share least.

    The cut is sought in the second half of what fits, so that groups stay between half full and full.
    """
    groups: list[Group] = []
    start = 0
    while start < len(requests):
        end, characters = start, 0
        while end < len(requests) and end - start < most_requests:
            characters += _characters(requests[end])
            if characters > most_characters and end > start:
                break
            end += 1
        if end < len(requests):
            end = _best_cut(requests, start, end)
        groups.append(Group(0, tuple(requests[start:end])))
        start = end
    return groups


def _best_cut(requests: Sequence[Request], start: int, end: int) -> int:
    """The last of the places in the second half where the requests on both sides have least in common."""
    first = start + (end - start + 1) // 2
    return min(range(end, first - 1, -1), key=lambda i: _shared(requests[i - 1], requests[i]))


def _shared(a: Request, b: Request) -> int:
    """Length of the common beginning; -1 between kinds of requests, which share no batch."""
    if type(a.body) is not type(b.body):
        return -1
    one, other = _content(a), _content(b)
    return common_prefix(one, other) if type(one) is type(other) else 0


def _content(request: Request) -> Sequence[Any]:
    prompt = request.prompt
    if prompt.text is not None:
        return prompt.text
    return prompt.token_ids if prompt.token_ids is not None else prompt.messages or ()


def _characters(request: Request) -> int:
    """Of prompt and continuations, or what is read; a token id counts as four characters."""
    prompt = request.prompt
    if prompt.messages is not None:
        count = sum(len(m.content) for m in prompt.messages)
    else:
        count = len(prompt.text) if prompt.text is not None else 4 * len(prompt.token_ids or ())
    if isinstance(request.body, Score):
        count += sum(len(c) for c in request.body.continuations)
    elif isinstance(request.body, Read):
        count += 4 * len(request.body.token_ids)
    return count


class Shelf:
    """Groups that nobody has in hand. Each is handed out once; what comes back is handed out first."""

    def __init__(self, groups: Sequence[Group], rows: int) -> None:
        size, more = divmod(len(groups), rows)
        self._rows: list[deque[Group]] = []
        start = 0
        for row in range(rows):
            end = start + size + (row < more)
            self._rows.append(deque(groups[start:end]))
            start = end
        self._returned: deque[Group] = deque()
        self._handed_out = 0

    def __len__(self) -> int:
        return len(self._returned) + sum(len(row) for row in self._rows)

    @property
    def has_returned(self) -> bool:
        """Whether some of it came back from a lost actor."""
        return bool(self._returned)

    def take(self, row: int) -> Group | None:
        """The next group for the actor of that row; None when nothing is left."""
        if self._returned:
            return self._number(self._returned.popleft())
        if not self._rows[row]:
            longest = max(self._rows, key=len)
            self._rows[row].extendleft(longest.pop() for _ in range((len(longest) + 1) // 2))
        return self._number(self._rows[row].popleft()) if self._rows[row] else None

    def put_back(self, groups: Iterable[Group]) -> None:
        self._returned.extend(replace(group, came_back=True) for group in groups)

    def _number(self, group: Group) -> Group:
        self._handed_out += 1
        return replace(group, number=self._handed_out)
