"""The order in which an engine should see requests. Pure.

Depth-first over the trie of prompt texts, all tasks and views in one: an engine with a prefix cache reads each
shared beginning once, and needs to keep only the path that leads to where it is. Among the branches of a node the
one with the longest job comes first, so that what takes longest is not begun last, alone, while everything else is
done. A generation counts as longer than any score or read. Where a prompt is asked both for a generation and for a
score, the two stand side by side and the generation, the longer, begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from forgetbench.engines.prefix import common_prefix
from forgetbench.planning.render import prompt_text
from forgetbench.types import Generate, Read, Request

LEAST_SHARED = 32
"""Characters: a shorter common beginning ("Question: ") saves less than what long jobs first gains."""

CHARACTERS_PER_TOKEN = 4
"""What a given token id counts beside text."""

Job = tuple[int, int, int]


@dataclass(slots=True)
class _Branch:
    """Requests with the same first `depth` characters; a leaf holds those of one text."""

    depth: int
    text: str
    """The smallest text below it: ties between equally long jobs go by it."""
    job: Job
    """Of the longest below it."""
    requests: Sequence[Request] = ()
    parts: list[_Branch] = field(default_factory=list)

    def add(self, part: _Branch) -> None:
        self.parts.append(part)
        self.text, self.job = min(self.text, part.text), max(self.job, part.job)

    def rank(self) -> tuple[int, int, int, str]:
        generates, size, length = self.job
        return -generates, -size, -length, self.text


def in_order(requests: Iterable[Request], least: int = LEAST_SHARED) -> list[Request]:
    """The requests, depth-first and long jobs first; the same whatever order they come in."""
    texts = [(prompt_text(r.prompt), r) for r in requests]
    texts.sort(key=lambda pair: pair[0])
    leaves = [_leaf(text, [r for _, r in group]) for text, group in groupby(texts, key=lambda pair: pair[0])]
    if not leaves:
        return []
    found: list[Request] = []
    stack = [_tree(leaves, least)]
    while stack:
        branch = stack.pop()
        found += branch.requests
        # What ends where its siblings go on is their beginning: it comes before them.
        stack += sorted(branch.parts, key=lambda p: (p.depth > branch.depth, p.rank()), reverse=True)
    return found


def _job(request: Request, length: int) -> Job:
    """How long a request may take: generations first, by their limit and samples; scores and reads by length."""
    body = request.body
    if isinstance(body, Generate):
        return 1, body.max_tokens, length
    if isinstance(body, Read):
        return 0, length + CHARACTERS_PER_TOKEN * len(body.token_ids), 0
    return 0, length + max((len(c) for c in body.continuations), default=0), 0


def _leaf(text: str, requests: list[Request]) -> _Branch:
    jobs = {r.request_id: _job(r, len(text)) for r in requests}
    requests.sort(key=lambda r: ([-part for part in jobs[r.request_id]], r.request_id))
    return _Branch(len(text), text, max(jobs.values()), requests)


def _tree(leaves: Sequence[_Branch], least: int) -> _Branch:
    """The tree of common beginnings of leaves in lexicographic order, from their neighbours' overlaps."""

    def node(depth: int, first: _Branch) -> _Branch:
        return _Branch(depth, first.text, first.job)

    open_branches = [node(0, leaves[0])]
    pending = leaves[0]
    for before, leaf in pairwise(leaves):
        depth = common_prefix(before.text, leaf.text)
        depth = depth if depth >= least else 0
        while open_branches[-1].depth > depth:
            closed = open_branches.pop()
            closed.add(pending)
            pending = closed
        if open_branches[-1].depth < depth:
            open_branches.append(node(depth, pending))
        open_branches[-1].add(pending)
        pending = leaf
    while open_branches:
        closed = open_branches.pop()
        closed.add(pending)
        pending = closed
    return pending
