"""The answers of both runs as texts and tokens: what diversity, habits and entropies are measured on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

from forgetbench.analysis.measured import cluster_of
from forgetbench.analysis.outputs import Answered, Output
from forgetbench.tasks.registry import CODE_TASKS
from forgetbench.types import Record

if TYPE_CHECKING:
    from forgetbench.runs.store import Run

_WORDS = re.compile(r"\w+|[^\w\s]")
Decoded = tuple[str, str, str]
"""(task, view, decode_id)."""
MOST_ITEMS = 2_000
"""Items of a task whose texts are looked at: an evenly spaced part of more. Measures of texts need no more."""


def answered(base: Run, candidate: Run) -> dict[Decoded, list[Answered]]:
    """Items that both sides answered with a text, by (task, view, decode_id), in the order of the suite.

    Of ranked options there is no text. Infra errors are left out. Where an endpoint does not name its tokens, words
    stand for them on both sides.
    """
    sides = [_outputs(run) for run in (base, candidate)]
    found: dict[Decoded, list[Answered]] = {}
    for decoded, items in sides[0].items():
        other = sides[1].get(decoded, {})
        if _unknown(items) or _unknown(other):
            items, other = _in_words(items), _in_words(other)
        common = [key for key in items if key in other]
        step = -(-len(common) // MOST_ITEMS) if common else 1
        made = [Answered(key, tuple(items[key][0]), tuple(other[key][0]), items[key][1]) for key in common[::step]]
        if made:
            found[decoded] = made
    return found


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


def _unknown(items: Outputs) -> bool:
    """Whether tokens are only counted: an endpoint does not name them."""
    return any(i < 0 for outputs, _ in items.values() for o in outputs for i in o.token_ids)


def _in_words(items: Outputs) -> Outputs:
    """Words and marks in the place of tokens, each under a number of its own."""

    def words(o: Output) -> Output:
        return replace(o, token_ids=tuple(crc32(w.encode("utf-8", "replace")) for w in _WORDS.findall(o.text)))

    return {key: ([words(o) for o in outputs], cluster) for key, (outputs, cluster) in items.items()}


def _is_of(record: Record, decode: Mapping[str, object]) -> bool:
    return record.decode_id == decode["decode_id"] and record.replicate == 0


def _flag(record: Record, name: str) -> bool | None:
    value = record.extra.get(name)
    return None if value is None else bool(value)


def merged(parts: Mapping[Decoded, Sequence[Answered]], view: str, decode_id: str) -> list[Answered]:
    """All tasks of one view and decoding together."""
    return [a for (_, v, d), items in parts.items() if (v, d) == (view, decode_id) for a in items]
