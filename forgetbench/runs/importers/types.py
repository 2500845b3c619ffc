"""What the readers hand on: rows of results, whatever file they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from forgetbench.errors import ForgetbenchError, UsageError, combined
from forgetbench.types import FinishReason, Outcome

Format = Literal["lm-eval", "inspect", "evalplus", "plain"]
FORMATS: tuple[Format, ...] = ("lm-eval", "inspect", "evalplus", "plain")

SHOWN = 20
"""Mistakes that are told one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of one item as a file has it, or a count of successes over several."""

    where: str
    """`file:line`, or file and member."""
    same: str
    """Equal for the rows of one item within its task and model: its samples, or its metrics from two files."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """By metric. Empty: not scored yet (outputs.py), an infra_error, or a count of successes."""
    task: str | None = None
    model: str | None = None
    key: str | None = None
    """The item's name in its file."""
    doc: Mapping[str, Any] | None = None
    """The document, such as `Task.canonical` reads it. None: the file has the name alone."""
    named: bool = False
    """Whether the key means the same item in every file of the set; else the document alone tells."""
    sample: int | None = None
    """None: the file does not number its samples."""
    successes: int | None = None
    trials: int | None = None
    outcome: Outcome = "ok"
    output: str = ""
    extracted: str | None = None
    gold: str = ""
    why: str = ""
    prompt: str | None = None
    rendered: bool = True
    """Whether `prompt` is the whole text that the model was given, and not maybe the bare question."""
    task_type: str | None = None
    cluster: str | None = None
    temperature: float | None = None
    """None: not known."""
    finish_reason: FinishReason | None = None
    n_prompt_tokens: int | None = None
    n_output_tokens: int | None = None
    seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """One file, read."""

    path: Path
    format: Format
    sha256: str
    rows: Sequence[Row]
    notes: tuple[str, ...] = ()
    """Lines for a reader: columns that were not used, metrics that were left out."""


class Mistakes:
    """What is wrong with the files, collected so that all of it is told at once."""

    def __init__(self) -> None:
        self._errors: list[UsageError] = []
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._errors)

    def add(self, where: str, problem: str, cure: str) -> None:
        if len(self._errors) < SHOWN:
            self._errors.append(UsageError(where, problem, cure))
        else:
            self._more += 1

    def take(self, error: ForgetbenchError) -> None:
        """An error that another part of the project raised, one or many."""
        for one in getattr(error, "errors", [error]):
            if isinstance(one, UsageError):
                self.add(one.where, one.problem, one.cure)
            else:
                raise error

    def check(self) -> None:
        """Raises UsageError or ManyUsageErrors where there were any."""
        if not self._errors:
            return
        more = [UsageError("and", f"{self._more} more like these", "mend the first ones, and import again")]
        raise combined([*self._errors, *(more if self._more else [])])
