"""Frames of made-up records, as small as a test needs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from forgetbench.analysis.compare import compare_frames
from forgetbench.analysis.types import Comparison, SideInfo

BASE, CANDIDATE = SideInfo("base", "runs/base", "b" * 16), SideInfo("sft", "runs/sft", "c" * 16)


def frame(values: Sequence[float], *, task: str = "toy", metric: str = "acc", **columns: Any) -> pd.DataFrame:
    """One record per value, items numbered from 0; `columns` replace or add columns (scalar or per record)."""
    n = len(values)
    data: dict[str, Any] = {
        "task": task,
        "content_hash": [f"{i:06x}" for i in range(n)],
        "occurrence": 0,
        "task_type": "reasoning/toy",
        "view": "ability",
        "style": "raw",
        "decode_id": "greedy",
        "sample": 0,
        "replicate": 0,
        "outcome": "ok",
        "scores": [json.dumps({metric: float(v)}) for v in values],
        "output": [f"answer {v}" for v in values],
        "extracted": [str(v) for v in values],
        "gold": "1",
        "why": "made up",
        "gold_hash": "gold",
        "cluster": None,
        "stratum": None,
        "n_choices": None,
        "prompt": "Question?",
        "prompt_text_hash": "prompt",
        "prompt_token_hash": "tokens",
        "n_output_tokens": 3.0,
        "mean_logprob": -0.5,
        "round": 0,
    }
    data.update(columns)
    made = pd.DataFrame(data, index=range(n))
    infra = made["outcome"] == "infra_error"
    made.loc[infra, "scores"] = "{}"
    return made


def sampled(rates: Sequence[Sequence[float]], **columns: Any) -> pd.DataFrame:
    """K records per item: rates[i][k] is the score of sample k of item i."""
    k = len(rates[0])
    flat = [v for row in rates for v in row]
    hashes = [f"{i:06x}" for i in range(len(rates)) for _ in range(k)]
    samples = [j for _ in rates for j in range(k)]
    return frame(flat, **{"content_hash": hashes, "sample": samples, "decode_id": f"T0.7/p1/K{k}", **columns})


def table(forgotten: int, gained: int, n: int, *, right: int | None = None) -> tuple[list[float], list[float]]:
    """Scores of both sides with so many flips; `right` items right on both sides (default: half of the rest)."""
    same = n - forgotten - gained
    both = same // 2 if right is None else right
    base = [1.0] * forgotten + [0.0] * gained + [1.0] * both + [0.0] * (same - both)
    candidate = [0.0] * forgotten + [1.0] * gained + [1.0] * both + [0.0] * (same - both)
    return base, candidate


def compared(base: pd.DataFrame, candidate: pd.DataFrame, **options: Any) -> Comparison:
    given = {"base": BASE, "candidate": CANDIDATE, "suite": "toy", "bootstrap": 1_000, **options}
    return compare_frames(base, candidate, **given)


def toy(forgotten: int, gained: int, n: int, **columns: Any) -> Comparison:
    base, candidate = table(forgotten, gained, n)
    return compared(frame(base, **columns), frame(candidate, **columns))


def flipped(
    rng: np.random.Generator, n: int, psi: float, delta: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """n independent pairs of 0/1 scores with discordance psi and true change delta."""
    d = rng.choice([-1.0, 0.0, 1.0], n, p=[(psi - delta) / 2, 1 - psi, (psi + delta) / 2])
    base = np.where(d < 0, 1.0, np.where(d > 0, 0.0, (rng.random(n) < 0.7).astype(float)))
    return base, base + d
