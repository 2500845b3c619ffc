"""One line of a custom set: its fields, its rules, its JSON Schema - from one pydantic model.

`Line` is the source of truth: it validates lines here, and `json_schema()` writes
suites/custom_set.schema.json from it (a test holds the file to that).
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

SCHEMA_ID = "forgetbench/custom_set.schema.json"

ScorerName = Literal["exact", "contains", "regex", "numeric", "choice"]
SetScorer = Literal[ScorerName, "none"]
"""A whole set may have no scorer: its outputs are kept for later judging."""
TASK_TYPE_PATTERN = r"^[^/\s](?:[^/]*[^/\s])?/[^/\s](?:[^/]*[^/\s])?$"
_NOT_BLANK = r"\S"

Text = Annotated[str, Field(pattern=_NOT_BLANK)]


class _Strict(BaseModel):
    # strict: the number 5 is not the text "5"; a set that mixes them has a mistake somewhere.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LineMessage(_Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Line(_Strict):
    """One question of a custom set."""

    task_type: Annotated[str, Field(pattern=TASK_TYPE_PATTERN)] = Field(
        description="Two-level path of the ability, such as reasoning/arithmetic."
    )
    prompt: Text | None = Field(None, description="The question as text. Exactly one of prompt and messages.")
    messages: Annotated[list[LineMessage], Field(min_length=1)] | None = Field(
        None, description="The question as a conversation that ends with the user's turn."
    )
    chat_prompt: Text | None = Field(None, description="Replaces prompt in chat style.")
    statement: Text | None = Field(
        None,
        description="The question as the beginning of a sentence that the answer ends, such as "
        "'The capital of Japan is'. The check for narrow hallucination continues it.",
    )
    references: Annotated[list[Text], Field(min_length=1)] | Text | None = Field(
        None, description="Accepted answers (regex: patterns); one text or several. Not for choice."
    )
    scorer: ScorerName | None = Field(None, description="How this line is scored; the set's scorer if missing.")
    choices: Annotated[list[Text], Field(min_length=2, max_length=26)] | None = Field(
        None, description="The options, for the scorer choice."
    )
    answer: Annotated[int, Field(ge=0)] | Text | None = Field(
        None,
        description="choice: the right option (its text, its letter, or its index from 0). "
        "Other scorers: the answer shown when the line is a worked example; the first reference if missing.",
    )
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="numeric: largest accepted |answer - reference| / max(1, |reference|); 1e-6 if missing.",
    )
    id: Annotated[str, Field(min_length=1)] | int | None = Field(None, description="A name of your own, unique.")
    cluster: Text | None = Field(None, description="Items about one fact or passage share a cluster.")

    frequency: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="How often the base met the fact in pretraining, where that is known (`forgetbench probe`)."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Line:
        """The rules between fields; the first broken one is reported, with its field and the cure."""
        if (self.prompt is None) == (self.messages is None):
            found = "neither prompt nor messages" if self.prompt is None else "both prompt and messages"
            raise _problem("prompt", f"the line has {found}", "give exactly one of them")
        if self.messages is not None:
            if self.messages[-1].role != "user":
                raise _problem("messages", "the last turn is not the user's", "end with a user message")
            if self.chat_prompt is not None:
                raise _problem("chat_prompt", "it replaces prompt, and there is none", "drop it beside messages")
        return self


def _problem(field: str, problem: str, cure: str) -> PydanticCustomError:
    return PydanticCustomError("line", "{problem}", {"field": field, "problem": problem, "cure": cure})


def check_scoring(line: Line, scorer: str) -> list[tuple[str, str, str]]:
    """What does not fit the scorer that the line ends up with: (field, problem, cure) each."""
    if scorer == "choice":
        return _check_choice(line)
    found: list[tuple[str, str, str]] = []
    references = reference_texts(line)
    if scorer == "none":
        for field in ("choices", "tolerance"):
            if getattr(line, field) is not None:
                found.append((field, "it is for a scorer, and the set's scorer is none", "drop it"))
        return found
    if line.choices is not None:
        found.append(("choices", f"choices are given and the scorer is {scorer}", 'set "scorer": "choice"'))
    if not references:
        found.append(("references", f"missing, and the scorer is {scorer}", 'add "references": ["..."]'))
    if scorer == "regex":
        for reference in references:
            try:
                re.compile(reference)
            except (re.error, OverflowError, RecursionError) as e:
                found.append(("references", f"{_short(reference)} is not a pattern ({e})", "mend the pattern"))
    if scorer == "numeric":
        from forgetbench.scoring.extract import parse_number

        for reference in references:
            if parse_number(reference) is None:
                found.append(("references", f"{_short(reference)} is not a number", "write it as 12, -0.5 or 1,234"))
    elif line.tolerance is not None:
        found.append(("tolerance", f"it is for numeric, and the scorer is {scorer}", "drop it"))
    if isinstance(line.answer, int):
        found.append(("answer", f"it is a number, and the scorer is {scorer}", "write the answer as text"))
    return found


def _check_choice(line: Line) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if line.choices is None:
        found.append(("choices", "missing, and the scorer is choice", 'add "choices": ["...", "..."]'))
    elif len(set(line.choices)) != len(line.choices):
        found.append(("choices", "two options are equal", "make every option different"))
    if line.answer is None:
        found.append(("answer", "missing, and the scorer is choice", "add the right option's text, letter or index"))
    elif line.choices is not None and answer_index(line) is None:
        shown = _short(str(line.answer))
        last = len(line.choices) - 1
        cure = f"give an option's text, a letter A to {chr(65 + last)}, or an index 0 to {last}"
        found.append(("answer", f"{shown} is none of the {len(line.choices)} options", cure))
    for field in ("references", "tolerance"):
        if getattr(line, field) is not None:
            found.append((field, "it is not for the scorer choice", "drop it, and use choices and answer"))
    return found


def reference_texts(line: Line) -> tuple[str, ...]:
    """The references as a tuple, one text or several as written."""
    if line.references is None:
        return ()
    return (line.references,) if isinstance(line.references, str) else tuple(line.references)


def answer_index(line: Line) -> int | None:
    """Index of the right option: an option's whole text comes before a letter. None: no such option."""
    choices, answer = line.choices or [], line.answer
    if isinstance(answer, int):
        return answer if answer < len(choices) else None
    if answer in choices:
        return choices.index(answer)
    if answer is not None and len(answer) == 1 and 0 <= ord(answer) - 65 < len(choices):
        return ord(answer) - 65
    return None


def _short(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def json_schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of a line.

    Rules that need the set's default scorer, and whether a pattern compiles, are beyond it; the reader checks
    them.
    """
    schema = Line.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = SCHEMA_ID
    schema["title"] = "One line of a forgetbench custom set (JSONL)"
    present = {f: {"required": [f], "properties": {f: {"not": {"type": "null"}}}} for f in ("prompt", "messages")}
    schema["oneOf"] = [present["prompt"], present["messages"]]
    choice = {"required": ["scorer"], "properties": {"scorer": {"const": "choice"}}}
    needed = {f: {"not": {"type": "null"}} for f in ("choices", "answer")}
    schema["allOf"] = [{"if": choice, "then": {"required": ["choices", "answer"], "properties": needed}}]
    return schema


def main() -> None:
    """Print the schema: `python -m forgetbench.tasks.custom_lines > suites/custom_set.schema.json`."""
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
