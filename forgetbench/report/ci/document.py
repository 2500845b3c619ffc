"""verdict.json: the whole outcome for other programs. configs/schemas/verdict.schema.json describes it.

`schema_version` counts changes that would break a reader: a key that went, or means something else. New keys come
without a new version. Check `exit_code` (or `state`) and nothing else to decide whether a checkpoint may ship.
"""

from __future__ import annotations

import json
from typing import Any

from forgetbench import __version__
from forgetbench.gate.serialise import verdict_to_dict
from forgetbench.report.ci.outcome import Outcome
from forgetbench.report.text import clean

SCHEMA_VERSION = 1


def document(outcome: Outcome) -> dict[str, Any]:
    """Plain data. An outcome without a verdict has the state ERROR, its lines, and no verdicts."""
    told: dict[str, Any] = clean(
        {
            "schema_version": SCHEMA_VERSION,
            "generator": f"forgetbench {__version__}",
            "state": outcome.state,
            "exit_code": int(outcome.exit_code),
            "reason": outcome.reason,
            "errors": list(outcome.errors),
            "verdicts": [verdict_to_dict(v) for v in outcome.verdicts],
        }
    )
    return told


def verdict_json(outcome: Outcome) -> str:
    """The whole file."""
    return json.dumps(document(outcome), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
