"""A verdict as JSON: versioned, so that CI can rely on it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from forgetbench.gate.types import Verdict


def verdict_to_dict(verdict: Verdict) -> dict[str, Any]:
    """Plain data for `json.dumps(..., allow_nan=False)`. Scores, changes, bounds and margins are fractions of
    1 (0.05 is five points); a figure that does not exist is null.
    """
    plain: dict[str, Any] = _plain(asdict(verdict))
    first = {"schema_version": plain.pop("schema_version"), "unit": "fraction"}
    return {**first, **plain, "exit_code": int(verdict.exit_code)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
