"""The answers of both runs as texts and tokens: what diversity, habits and entropies are measured on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from forgetbench.analysis.measured import cluster_of
from forgetbench.analysis.outputs import SIDES, Answered, Output
from forgetbench.tasks.registry import CODE_TASKS
from forgetbench.types import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.runs.store import Run

_WORDS = re.compile(r"\w+|[^\w\s]")
Decoded = tuple[str, str, str]
"""(task, view, decode_id)."""
MOST_ITEMS = 2_000
"""Items of a task whose texts are looked at: an evenly spaced part of more. Measures of texts need no more."""


def answered(base: Run, candidate: Run) -> dict[Decoded, list[Answered]]:
    """Items that both sides answered with a text, by (task, view, decode_id), in the order of the suite.

    Of ranked options there is no text. Infra errors are left out.
    """
    sides = [_outputs(run) for run in (base, candidate)]
    found: dict[Decoded, list[Answered]] = {}
    for decoded, items in sides[0].items():
        other = sides[1].get(decoded, {})
        common = [key for key in items if key in other]
        step = -(-len(common) // MOST_ITEMS) if common else 1
        made = [Answered(key, tuple(items[key][0]), tuple(other[key][0]), items[key][1]) for key in common[::step]]
        if made:
            found[decoded] = made
    return found


def has_unknown_tokens(parts: Mapping[Decoded, Sequence[Answered]]) -> bool:
    """Whether tokens are only counted somewhere: an endpoint does not name them."""
    return any(i < 0 for items in parts.values() for a in items for o in (*a.base, *a.candidate) for i in o.token_ids)


def in_words(parts: Mapping[Decoded, Sequence[Answered]]) -> dict[Decoded, list[Answered]]:
    """Words and marks in the place of tokens, each under a number of its own, on both sides of everything: equal
    texts are equal whoever cut them."""

    def words(o: Output) -> Output:
        return replace(o, token_ids=tuple(crc32(w.encode("utf-8", "replace")) for w in _WORDS.findall(o.text)))

    return {
        decoded: [replace(a, base=tuple(map(words, a.base)), candidate=tuple(map(words, a.candidate))) for a in items]
        for decoded, items in parts.items()
    }


def kinds_of_tokens(parts: Mapping[Decoded, Sequence[Answered]]) -> int:
    """How many different ones both sides use."""
    return len({i for items in parts.values() for a in items for o in (*a.base, *a.candidate) for i in o.token_ids})


def usual(samples: NDArray[np.integer]) -> int:
    """The number of samples that all items have but one, or one in 20: samples fail singly (an endpoint's time-out)."""
    return int(np.sort(samples)[min(samples.size - 1, max(1, samples.size // 20))])


def fully_sampled(items: Sequence[Answered]) -> list[Answered]:
    """Without the few items of which a sample failed, which would lower k for all of the others."""
    if not items:
        return []
    least = [usual(np.asarray([len(a.side(side)) for a in items])) for side in SIDES]
    return [a for a in items if all(len(a.side(side)) >= k for side, k in zip(SIDES, least, strict=True))]


Outputs = dict[str, tuple[list[Output], str | None]]


def _outputs(run: Run) -> Mapping[Decoded, Outputs]:
    found: dict[Decoded, Outputs] = defaultdict(dict)
    for entry in run.entries:
        if entry.state != "complete" or entry.identity.replicate:
            continue
        records = [
            r for r in run.read_records(entry.identity.task, entry.identity.view) if _is_of(r, entry.identity.decode)
        ]
        index = run.responses(entry)
        with index.reader() as read:
            for record in records:
                if record.outcome == "infra_error" or record.request_id not in index.locations:
                    continue
                response = read(record.request_id)
                if record.sample >= len(response.generations):
                    continue  # ranked, or one of several questions
                said = response.generations[record.sample]
                output = Output(
                    text=record.output,
                    token_ids=said.token_ids,
                    finish_reason=said.finish_reason,
                    extracted=record.extracted,
                    looped=_flag(record, "looped"),
                    refused=record.outcome == "refused",
                    verbatim=record.task in CODE_TASKS,
                )
                mine = found[record.task, record.view, record.decode_id]
                mine.setdefault(str(record.key), ([], cluster_of(record.key, record.cluster)))[0].append(output)
    return found


def _is_of(record: Record, decode: Mapping[str, object]) -> bool:
    return record.decode_id == decode["decode_id"] and record.replicate == 0


def _flag(record: Record, name: str) -> bool | None:
    value = record.extra.get(name)
    return None if value is None else bool(value)


def merged(parts: Mapping[Decoded, Sequence[Answered]], view: str, decode_id: str) -> list[Answered]:
    """All tasks of one view and decoding together."""
    return [a for (_, v, d), items in parts.items() if (v, d) == (view, decode_id) for a in items]
