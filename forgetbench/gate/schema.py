"""The JSON Schemas of policies and waivers, made from what validates them, so that the two cannot part.

python -m forgetbench.gate.schema    writes configs/policies/policy.schema.json and waivers.schema.json
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from forgetbench import resources
from forgetbench.config_policy import PolicyConfig, WaiversConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILES: dict[str, type[BaseModel]] = {"policy.schema.json": PolicyConfig, "waivers.schema.json": WaiversConfig}


def schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$schema": DIALECT, **model.model_json_schema()}


def text(model: type[BaseModel]) -> str:
    """As it lies on disk."""
    return json.dumps(schema(model), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for name, model in FILES.items():
        resources.path("configs", "policies", name).write_text(text(model), encoding="utf-8")


if __name__ == "__main__":
    main()
