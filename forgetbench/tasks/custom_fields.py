"""Read somebody else's columns: the `fields` mapping of a suite.

    fields:
      task_type: "knowledge/{subject}"     # a template: every {column} is filled in
      prompt: Question                     # a column
      choices: [A, B, C, D]                # several columns: a list of their values
      answer: Answer

Columns that are not named are left out, so a file keeps whatever else it has. A template's values lose their
slashes, since the one in a task_type divides its two levels. A blank, null or missing column under `task_type`,
`prompt` or inside a template or list is a mistake of that line; anywhere else the field is simply missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

Source = str | tuple[str, ...]
_COLUMN = re.compile(r"\{([^{}]+)\}")
Mistake = tuple[str, str, str]
"""(field, problem, cure)"""


def is_template(source: Source) -> bool:
    return isinstance(source, str) and _COLUMN.search(source) is not None


def apply_fields(document: Mapping[str, Any], fields: Mapping[str, Source]) -> tuple[dict[str, Any], list[Mistake]]:
    """The document under our names, and what is wrong with it."""
    made: dict[str, Any] = {}
    mistakes: list[Mistake] = []

    def value(column: str, field: str, needed: bool) -> Any:
        found = document.get(column)
        if found is not None and not (isinstance(found, str) and not found.strip()):
            return found
        if needed:
            if column in document:
                mistakes.append((field, f"the column '{column}' is empty", "fill it in, or map another column"))
            else:
                have = ", ".join(map(str, document))[:120]
                mistakes.append((field, f"there is no column '{column}'", f"the line has: {have}"))
        return None

    for field, source in fields.items():
        if isinstance(source, tuple):
            parts = [value(column, field, True) for column in source]
            if all(p is not None for p in parts):
                made[field] = [_text(p) for p in parts]
        elif is_template(source):
            found = {c: value(c, field, True) for c in _COLUMN.findall(source)}
            if all(v is not None for v in found.values()):
                made[field] = _COLUMN.sub(partial(_filled, values=found), str(source))
        else:
            found_one = value(source, field, field in ("task_type", "prompt"))
            if found_one is not None:
                made[field] = found_one
    return made, mistakes


def _filled(match: re.Match[str], values: Mapping[str, Any]) -> str:
    return _text(values[match.group(1)]).strip().replace("/", "-")


def _text(value: Any) -> str:
    """A number in a column of options is that option's text."""
    return value if isinstance(value, str) else str(value)
