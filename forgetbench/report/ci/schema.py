"""The JSON Schema of verdict.json, made from the types themselves, so that the two cannot part.

python -m forgetbench.report.ci.schema > configs/schemas/verdict.schema.json
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from forgetbench.errors import Exit
from forgetbench.gate.types import Verdict
from forgetbench.report.ci.document import SCHEMA_VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_CODES = (("PASS", int(Exit.PASS)), ("FAIL", int(Exit.REGRESSION)), ("INCONCLUSIVE", int(Exit.INCONCLUSIVE)))


def verdict_schema() -> dict[str, Any]:
    """Every key is always there; more may come, so that an old schema accepts a newer file of its version."""
    made = TypeAdapter(Verdict).json_schema(mode="serialization", ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = made.pop("$defs")
    verdict = made
    verdict["properties"] = {
        "schema_version": {"const": Verdict.__dataclass_fields__["schema_version"].default},
        "unit": {"const": "fraction", "description": "Scores, changes, bounds and margins are fractions of 1"},
        **{name: value for name, value in verdict["properties"].items() if name != "schema_version"},
    }
    definitions["Verdict"] = verdict
    for name, definition in definitions.items():
        if "properties" in definition:
            definition["required"] = list(definition["properties"])
            for value in definition["properties"].values():
                value.pop("default", None)
        if name in ("Interval", "RuleResult"):
            _nullable(definition)
    document = {
        "schema_version": {"const": SCHEMA_VERSION},
        "generator": {"type": "string"},
        "state": {"enum": [*(state for state, _ in _CODES), "ERROR"]},
        "exit_code": {"$ref": "#/$defs/Exit"},
        "reason": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "string"}},
        "verdicts": {"type": "array", "items": {"$ref": "#/$defs/Verdict"}},
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:forgetbench:verdict:{SCHEMA_VERSION}",
        "title": "forgetbench verdict",
        "description": "The outcome of `forgetbench gate` or `compare`; the last verdict decides.",
        "type": "object",
        "properties": document,
        "required": list(document),
        "allOf": [
            _when("ERROR", {"exit_code": {"enum": [1, 2, 12, 130]}, "verdicts": {"maxItems": 0}}),
            *(_when(state, {"exit_code": {"const": code}, "verdicts": {"minItems": 1}}) for state, code in _CODES),
        ],
        "$defs": dict(sorted(definitions.items())),
    }


def _when(state: str, then: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {"state": {"const": state}}}, "then": {"properties": then}}


def _nullable(definition: dict[str, Any]) -> None:
    """A figure that is not finite is null in the file."""
    for name, value in definition["properties"].items():
        if value.get("type") == "number":
            definition["properties"][name] = {**value, "type": ["number", "null"]}


def schema_text() -> str:
    """The whole file."""
    return json.dumps(verdict_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
