"""Which rows of an embedding belong to special and added tokens, and how far those rows moved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.checkpoints.files import read_json, token_text
from forgetbench.drift.types import TokenMove, TokenRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

LISTED = 20
_CURE = "save the tokenizer again"


def special_tokens(folder: Path) -> dict[int, str]:
    """Special and added tokens by id, from the tokenizer's files; empty where they name none."""
    found: dict[int, str] = {}
    if (folder / "tokenizer_config.json").is_file():
        decoder = read_json(folder / "tokenizer_config.json", _CURE).get("added_tokens_decoder")
        for key, told in (decoder if isinstance(decoder, dict) else {}).items():
            text = token_text(told)
            if text is not None and str(key).isdigit():
                found[int(key)] = text
    if (folder / "tokenizer.json").is_file():
        found |= _added(read_json(folder / "tokenizer.json", _CURE))
    elif (folder / "added_tokens.json").is_file():
        told = read_json(folder / "added_tokens.json", _CURE)
        found |= {i: text for text, i in told.items() if isinstance(i, int)}
    # A byte-level token may be half a character, which no output takes.
    return {i: text.encode("utf-8", "replace").decode() for i, text in found.items()}


def vocabulary(folder: Path) -> dict[int, str] | None:
    """All tokens by id; None where no tokenizer.json tells them."""
    if not (folder / "tokenizer.json").is_file():
        return None
    data = read_json(folder / "tokenizer.json", _CURE)
    told = (data.get("model") or {}).get("vocab")
    if isinstance(told, dict):
        found = {i: text for text, i in told.items() if isinstance(i, int)}
    elif isinstance(told, list):  # unigram: (text, score) in the order of ids
        found = {i: str(entry[0]) for i, entry in enumerate(told) if entry}
    else:
        return None
    return found | _added(data)


def _added(data: Mapping[str, object]) -> dict[int, str]:
    entries = data.get("added_tokens")
    return {
        entry["id"]: str(entry.get("content", ""))
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("id"), int)
    }


def token_rows(tensor: str, moved: Doubles, held: Doubles, special: Mapping[int, str]) -> TokenRows | None:
    """Special rows against the others. moved, held: (rows,) of |dE|^2 and |E|^2. None where one part is empty."""
    mask = np.zeros(moved.size, dtype=np.bool_)
    mask[[i for i in special if 0 <= i < moved.size]] = True
    if not mask.any() or mask.all():
        return None
    farthest = sorted(np.flatnonzero(mask), key=lambda i: (-float(moved[i]), int(i)))[:LISTED]
    return TokenRows(
        tensor=tensor,
        special=int(mask.sum()),
        others=int((~mask).sum()),
        special_moved=math.sqrt(float(moved[mask].mean())),
        others_moved=math.sqrt(float(moved[~mask].mean())),
        special_relative=_ratio(float(moved[mask].sum()), float(held[mask].sum())),
        others_relative=_ratio(float(moved[~mask].sum()), float(held[~mask].sum())),
        tokens=tuple(
            TokenMove(int(i), special[int(i)], math.sqrt(float(moved[i])), _ratio(float(moved[i]), float(held[i])))
            for i in farthest
        ),
    )


def _ratio(moved: float, held: float) -> float | None:
    if held == 0.0:
        return 0.0 if moved == 0.0 else None
    return math.sqrt(moved / held)
