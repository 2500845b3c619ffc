"""Whether checkpoints can be merged, and what becomes of each tensor: decided from headers and configs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetbench.drift.groups import in_order, is_embedding, is_head
from forgetbench.drift.tokens import vocabulary
from forgetbench.drift.weights import Weights
from forgetbench.errors import UsageError
from forgetbench.merging.stream import BYTES, Slot

_SHAPING = ("num_attention_heads", "num_key_value_heads", "head_dim", "num_experts_per_tok")
"""Settings that change what a matrix means while its shape may stay."""
_SILENT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache", "vocab_size")


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one tensor."""

    slot: Slot
    shared: int
    """Rows that all have; the rows after them are taken from the named side."""
    merged: bool
    """False: no number that could be merged (a mask, a counter), the same in all, taken over."""


def align(sides: Sequence[Weights], like: int, dtype: str | None) -> tuple[list[Plan], tuple[str, ...]]:
    """A plan for each tensor of the named side, in the order of layers, and notes for a reader.

    `dtype`: of the result (safetensors' name); None: each tensor as the named side has it. Raises UsageError, one
    line, for different architectures, missing tensors, shapes that differ in more than the vocabulary, and quantised
    weights.
    """
    notes = _configs(sides, like)
    notes += _names(sides, like)
    plans, shared = [], False
    named = sides[like]
    for name in in_order(named.names):
        plan = _plan(name, sides, like, dtype)
        shared = shared or plan.shared < named.entry(name).rows or any(s.entry(name).rows > plan.shared for s in sides)
        plans.append(plan)
    if shared:
        notes.append(_vocabularies(sides, like))
    notes += _meanings(sides, like)
    if any(p.merged and s.entry(p.slot.name).dtype == "F64" for p in plans for s in sides):
        notes.append("Weights in float64 are merged in float32.")
    return plans, tuple(notes)


def _configs(sides: Sequence[Weights], like: int) -> list[str]:
    named, notes = sides[like].side, []
    for weights in sides:
        side = weights.side
        _same_head(weights)
        if side.config.get("quantization_config"):
            raise UsageError(f"model '{side.alias}'", "is quantised", "merge the weights it was made from")
        mine, theirs = side.config.get("model_type"), named.config.get("model_type")
        if mine != theirs:
            raise UsageError(
                f"model '{side.alias}'",
                f"is of type {mine}, '{named.alias}' of type {theirs}",
                "merge checkpoints of one architecture",
            )
        differing = _differing(side.config, named.config)
        shaping = [key for key in differing if key in _SHAPING]
        if shaping:
            key = shaping[0]
            raise UsageError(
                f"model '{side.alias}'",
                f"has {key} {side.config.get(key)}, '{named.alias}' {named.config.get(key)}",
                "merge checkpoints of one architecture",
            )
        told = [key for key in differing if not key.endswith("_token_id")]
        if told:
            notes.append(
                f"config.json of '{side.alias}' and '{named.alias}' differ in {', '.join(told)}: "
                f"the result has what '{named.alias}' says."
            )
    return notes


def _same_head(weights: Weights) -> None:
    """Raises UsageError for an adapter on an embedding that is the output head too, or on that head: merged into the
    one tensor it would change both, or be lost."""
    if weights.apart:
        raise UsageError(
            f"model '{weights.side.alias}'",
            "has an adapter on the embedding, which is the output head too, or on that head: merged, both would change",
            "give the base a head of its own first (tie_word_embeddings: false), or merge adapters alone (--adapters)",
        )


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted(k for k in {*a, *b} - {*_SILENT} if a.get(k) != b.get(k))


def _names(sides: Sequence[Weights], like: int) -> list[str]:
    named, notes = sides[like], []
    wanted = named.names
    for weights in sides:
        alias, other = weights.side.alias, named.side.alias
        missing = in_order(wanted - weights.names)
        if missing and all(is_head(n) for n in missing) and weights.tied:
            for name in missing:
                weights.tie(name)
            notes.append(f"'{alias}' takes its output head from the embedding: that is merged with '{other}''s own.")
            missing = []
        if missing:
            raise UsageError(
                f"model '{alias}'",
                f"lacks {len(missing)} tensors of '{other}', first {missing[0]}",
                "merge checkpoints of one architecture",
            )
        more = in_order(weights.names - wanted)
        if more and all(is_head(n) for n in more) and named.tied:
            raise UsageError(
                f"model '{alias}'",
                f"has an output head of its own, '{other}' takes it from the embedding",
                f"pass --like {alias}, so that the result has one",
            )
        if more:
            raise UsageError(
                f"model '{alias}'",
                f"has {len(more)} tensors that '{other}' lacks, first {more[0]}",
                "merge checkpoints of one architecture",
            )
    return notes


def _plan(name: str, sides: Sequence[Weights], like: int, dtype: str | None) -> Plan:
    named = sides[like].entry(name)
    merged = all(side.readable(name) for side in sides)
    if not merged and any(side.change(name) is not None for side in sides):
        raise UsageError(
            f"{named.file}: {name}", "is quantised and has an adapter on it", "merge the weights it was made from"
        )
    if named.dtype not in BYTES:
        raise UsageError(f"{named.file}: {name}", f"is of type {named.dtype}", "merge weights of 16 to 64 bits")
    shared = named.rows
    for side in sides:
        entry = side.entry(name)
        if entry.shape == named.shape:
            continue
        rows_only = (is_embedding(name) or is_head(name)) and entry.shape[1:] == named.shape[1:] and merged
        if not rows_only:
            raise UsageError(
                f"{entry.file}: {name}",
                f"has shape {list(entry.shape)}, in '{sides[like].side.alias}' {list(named.shape)}",
                "merge checkpoints of one architecture",
            )
        shared = min(shared, entry.rows)
    return Plan(Slot(name, dtype if dtype and merged else named.dtype, named.shape), shared, merged)


def _vocabularies(sides: Sequence[Weights], like: int) -> str:
    name = sides[like].embedding or next(n for n in sides[like].names if is_head(n))
    rows = {s.side.alias: s.entry(name).rows for s in sides}
    alias = sides[like].side.alias
    least, own = min(rows.values()), rows[alias]
    listed = ", ".join(f"'{a}' {n:,}" for a, n in rows.items())
    rest = (
        f"the other {own - least:,} are taken from '{alias}' alone"
        if own > least
        else f"further rows are left out, as '{alias}' has none"
    )
    return f"The vocabularies differ in size ({listed}): the first {least:,} rows are merged, {rest}."


def _meanings(sides: Sequence[Weights], like: int) -> list[str]:
    folders = [s.side.tokenizer for s in sides]
    named = folders[like]
    if named is None:
        return []
    told, notes = vocabulary(named), []
    for weights, folder in zip(sides, folders, strict=True):
        if folder is None or folder == named or told is None:
            continue
        other = vocabulary(folder)
        if other is None:
            continue
        unlike = sum(1 for i, text in other.items() if i in told and told[i] != text)
        if unlike:
            notes.append(
                f"{unlike:,} token ids mean something else in '{weights.side.alias}' than in "
                f"'{sides[like].side.alias}': their rows are merged all the same."
            )
    return notes
