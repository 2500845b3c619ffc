"""Walk two checkpoints tensor by tensor: size, place and shape of what a fine-tune did to the weights.

Memory: never more than one change dW as float32, with, beside it, blocks of BLOCK_BYTES; for its directions first
the base's matrix and then the candidate's instead. So the peak is 4 bytes x the largest matrix, and some hundred
MB (Llama-3 8B: embeddings of 128,256 x 4,096 are 2.1 GB). Mathematics in float32, sums in float64.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.drift import tokens as rows_of
from forgetbench.drift.adapter import LowRank, combined
from forgetbench.drift.directions import directions_of, new_directions
from forgetbench.drift.groups import by_kind, by_layer, group, in_order, is_embedding, is_head, place_of, ties
from forgetbench.drift.measures import above_rounding, factored_values, from_values, spectrum_of, sum_of_squares
from forgetbench.drift.reading import left_out, sentences
from forgetbench.drift.types import Drift, NewDirections, Skipped, Spectrum, TensorDrift, TokenRows
from forgetbench.drift.weights import Side, Weights, same_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]

BLOCK_BYTES = 64 << 20
"""Of float32, read from each side at a time."""

Tell = Callable[[int, int, str], None]
"""Called before each tensor: how many are done, of how many, its name."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One tensor, with |dE|^2 and |E|^2 of each row where it is an embedding."""

    drift: TensorDrift
    moved: Doubles | None = None
    held: Doubles | None = None


def drift(base: Side, candidate: Side, *, directions: bool = True, seed: int = 0, tell: Tell | None = None) -> Drift:
    """Compare the weights of two checkpoints. `directions`: also look for directions that the base does not have
    (over half of the time). Raises UsageError for missing or damaged shards and for adapters that cannot be read as
    they are; what cannot be compared is named in `skipped`, `only_base` and `only_candidate`, never guessed."""
    a, b = Weights(base), Weights(candidate)
    notes = _ties(a, b)
    special = _special(base) | _special(candidate)
    shared = in_order(a.names & b.names)
    found: list[TensorDrift] = []
    skipped: list[Skipped] = []
    token_rows: list[TokenRows] = []
    resized: list[str] = []
    for done, name in enumerate(shared):
        if tell is not None:
            tell(done, len(shared), name)
        why = _unfit(a, b, name)
        if why is None:
            one = _tensor(a, b, name, directions=directions, seed=seed)
            if not math.isfinite(one.drift.delta_norm + one.drift.base_norm):
                why = "holds values that are not finite"
        if why is not None:
            skipped.append(Skipped(name, why))
            continue
        found.append(one.drift)
        if a.entry(name).shape != b.entry(name).shape:
            resized.append(f"{name} has {a.entry(name).rows:,} rows in the base and {b.entry(name).rows:,} in the "
                           f"candidate: the first {one.drift.shape[0]:,} are compared")  # fmt: skip
        if one.moved is not None and one.held is not None:
            rows = rows_of.token_rows(name, one.moved, one.held, special)
            if rows is not None:
                token_rows.append(rows)
    only_base, only_candidate = in_order(a.names - b.names), in_order(b.names - a.names)
    notes += resized + _vocabularies(base, candidate, special) + _types(found) + _other_notes(a, b)
    notes += left_out(len(skipped), len(only_base), len(only_candidate))
    whole = math.fsum(t.delta_norm**2 for t in found)
    total = group("all", found, whole)
    return Drift(
        base=base.alias,
        candidate=candidate.alias,
        total=total,
        layers=by_layer(found, whole),
        kinds=by_kind(found, whole),
        tensors=tuple(found),
        tokens=tuple(token_rows),
        only_base=tuple(only_base),
        only_candidate=tuple(only_candidate),
        skipped=tuple(skipped),
        notes=tuple(notes),
        reading=sentences(total, found, token_rows, _compared(a, b, total.parameters)),
    )


def _ties(a: Weights, b: Weights) -> list[str]:
    """A head that one side has and the other takes from its embedding is compared with that embedding."""
    if a.tied and b.tied:
        both = ties(a.side.config) and ties(b.side.config)
        return ["Both take the output head from the embedding: it is counted once."] if both else []
    for one, other, names in ((a, b, "base"), (b, a, "candidate")):
        head = next((n for n in in_order(other.names) if is_head(n)), None)
        if one.tied and head is not None:
            one.tie(head)
            return [f"The {names} takes {head} from its embedding: compared with that."]
    return []


def _unfit(a: Weights, b: Weights, name: str) -> str | None:
    """Why two tensors of one name cannot be compared."""
    types = [w.entry(name).dtype for w in (a, b)]
    if not (a.readable(name) and b.readable(name)):
        one = types[0] if types[0] == types[1] else f"{types[0]} and {types[1]}"
        return f"is of type {one}: quantised or no weight, so that it is not compared"
    first, second = (w.entry(name).shape for w in (a, b))
    vocabulary = (is_embedding(name) or is_head(name)) and len(first) == len(second) == 2 and first[1] == second[1]
    if first != second and not vocabulary:
        return f"has the shape {list(first)} in the base and {list(second)} in the candidate"
    return "is empty" if 0 in first or 0 in second else None


def _tensor(a: Weights, b: Weights, name: str, *, directions: bool, seed: int) -> _Found:
    entry = a.entry(name)
    rows, columns = min(entry.rows, b.entry(name).rows), entry.columns
    vocabulary = is_embedding(name) or is_head(name)
    matrix = len(entry.shape) == 2 and min(rows, columns) > 1
    by_factors = same_stored(a, b, name)
    added, removed = b.change(name), a.change(name)
    factors = combined(added, removed) if by_factors else None
    kept = np.empty((rows, columns), dtype=np.float32) if matrix and not by_factors else None
    moved, held = (np.zeros(rows), np.zeros(rows)) if vocabulary else (None, None)
    base_squares = delta_squares = 0.0
    step = max(1, BLOCK_BYTES // (4 * max(1, columns)))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        before = a.read(name, start, stop)
        base_squares += sum_of_squares(before)
        change = _change(b, name, before, factors, start, stop, by_factors=by_factors, wanted=vocabulary)
        if held is not None:
            held[start:stop] = _row_squares(before)
        if change is None:
            continue
        if moved is not None:
            moved[start:stop] = _row_squares(change)
        if not by_factors:
            delta_squares += sum_of_squares(change)
        if kept is not None:
            kept[start:stop] = change
    spectrum: Spectrum | None = None
    if factors is not None:
        if not (np.isfinite(factors.left).all() and np.isfinite(factors.right).all()):
            sigma = np.full(1, np.nan)  # the caller names the tensor and leaves it out
        else:
            sigma = factored_values(factors.left[:rows], factors.right)
            if added is not None and removed is not None:
                sigma = above_rounding(sigma, added, removed, rows)
        delta_squares = float(sigma @ sigma)
        if moved is not None and not delta_squares:
            moved[:] = 0.0  # what rounding left of equal changes
        spectrum = from_values(sigma, "factors") if 0.0 < delta_squares < math.inf and matrix else None
    elif kept is not None and 0.0 < delta_squares < math.inf:
        spectrum = spectrum_of(kept, delta_squares, seed=seed)
    del kept  # before a second matrix is read
    new = None
    if directions and spectrum is not None and not vocabulary and 0.0 < base_squares < math.inf:
        new = _directions(a, b, name, seed)
    found = TensorDrift(
        name=name,
        place=place_of(name),
        shape=(rows, *entry.shape[1:]) if entry.shape else (),
        dtypes=(entry.dtype, b.entry(name).dtype),
        base_norm=math.sqrt(base_squares),
        delta_norm=math.sqrt(delta_squares),
        spectrum=spectrum,
        directions=new,
    )
    return _Found(found, moved, held)


def _change(
    b: Weights,
    name: str,
    before: Floats,
    factors: LowRank | None,
    start: int,
    stop: int,
    *,
    by_factors: bool,
    wanted: bool,
) -> Floats | None:
    """dW of some rows; None where it is nothing, or where factors tell all that is wanted."""
    if not by_factors:
        return b.read(name, start, stop) - before
    return factors.left[start:stop] @ factors.right if factors is not None and wanted else None


def _directions(a: Weights, b: Weights, name: str, seed: int) -> NewDirections | None:
    base = directions_of(a.read(name), seed=seed)
    after = b.read(name)
    return new_directions(base, directions_of(after, seed=seed)) if after.any() else None


def _row_squares(values: Floats) -> Doubles:
    squares: Doubles = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    return squares


def _special(side: Side) -> dict[int, str]:
    return {} if side.tokenizer is None else rows_of.special_tokens(side.tokenizer)


def _vocabularies(base: Side, candidate: Side, special: dict[int, str]) -> list[str]:
    """Whether a row of the embedding stands for the same token on both sides."""
    if not special:
        return ["No tokenizer names special tokens: their rows are not shown apart."]
    if base.tokenizer is None or candidate.tokenizer is None:
        return []
    first, second = rows_of.vocabulary(base.tokenizer), rows_of.vocabulary(candidate.tokenizer)
    if first is None or second is None:
        return ["A tokenizer without tokenizer.json: rows of the embedding are taken to mean the same tokens."]
    other = sum(1 for i, text in first.items() if i in second and second[i] != text)
    if not other:
        return []
    return [f"{other:,} ids stand for different tokens in the two vocabularies; their rows are compared by id."]


def _compared(a: Weights, b: Weights, parameters: int) -> float:
    """`parameters` over all that the two have, as stored: 4-bit weights that are packed in pairs count half."""
    held = 0
    for name in a.names | b.names:
        entries = [w.entry(name) for w in (a, b) if name in w.names]
        held += max(e.rows * e.columns for e in entries)
    return parameters / held if held else 0.0


def _types(found: list[TensorDrift]) -> list[str]:
    """One note where the two store their weights in different types: a cast alone moves them."""
    pairs = Counter(t.dtypes for t in found if t.dtypes[0] != t.dtypes[1])
    if not pairs:
        return []
    listed = ", ".join(f"{n} {before} and {after}" for (before, after), n in pairs.most_common())
    return [f"Types of base and candidate differ (tensors: {listed}): part of the change may be rounding."]


def _other_notes(a: Weights, b: Weights) -> list[str]:
    told = []
    for side, weights in (("base", a), ("candidate", b)):
        if weights.side.config.get("quantization_config"):
            told.append(f"The {side} is quantised: only its tensors that are stored as plain floats are compared.")
        if (head := weights.own_head) is not None:
            told.append(
                f"config.json of the {side} ties the output head to the embedding, but {head} is stored with "
                "values of its own: compared as stored, as transformers computes."
            )
        if weights.adapter is not None:
            told.append(f"The {side} has a LoRA adapter on {len(weights.adapter.changes)} tensors: read as it is.")
    return told
