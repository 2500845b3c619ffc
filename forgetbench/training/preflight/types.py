"""What a preflight check is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from forgetbench.errors import Exit

if TYPE_CHECKING:
    from forgetbench.analysis.leaks import Question
    from forgetbench.training.check.rows import Row
    from forgetbench.training.collate import Document
    from forgetbench.training.packing import Batch
    from forgetbench.training.recipe import Recipe
    from forgetbench.training.tokenise import Sample

State = Literal["pass", "warn", "fail"]
STATES: tuple[State, ...] = ("pass", "warn", "fail")
"""From best to worst."""
MOST_LINES = 5
"""Places shown with a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it came to."""

    name: str
    state: State
    evidence: str
    """One sentence with the figures that were measured."""
    cure: str = ""
    """What to do; empty where it passed."""
    lines: tuple[str, ...] = ()
    """Single cases: a file and line, a token, a module."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What stands behind the sentence, ready for JSON."""


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens of a sample that have one weight in the loss."""

    text: str
    weight: float
    """0: read and not learnt."""
    tokens: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample as the loss sees it."""

    where: str
    task_type: str | None
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """An example of a data file beside what became of it."""

    row: Row
    is_chat: bool
    """Rendered by the chat template; else plain text, or a pair in raw style."""


@dataclass(frozen=True, slots=True)
class Part:
    """The samples of the training, replay or held-out files, and the lines that they came from, by `file:line`."""

    samples: Sequence[Sample] = ()
    lines: Mapping[str, Line] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        return [line.row for line in self.lines.values()]


@dataclass(frozen=True, slots=True)
class Retention:
    """What the retention suite asks; `error` where it cannot be read."""

    name: str
    questions: tuple[Question, ...] = ()
    error: str = ""
    cure: str = ""


@dataclass(frozen=True)
class Inputs:
    """A recipe with everything that it names, read as training would read it."""

    recipe: Recipe
    tokenizer: Any
    model: Any
    target: Part
    replay: Part
    held_out: Part
    documents: Sequence[Document]
    """Of target, replay and held-out samples, in this order, with their final weights."""
    batches: Sequence[Batch]
    """Of the whole run."""
    pad_id: int
    retention: Retention | None = None

    @property
    def trained(self) -> list[Sample]:
        """Samples of the training and replay files, in the order of their documents."""
        return [*self.target.samples, *self.replay.samples]

    def line(self, where: str) -> Line | None:
        """The line of a training or replay sample."""
        return self.target.lines.get(where) or self.replay.lines.get(where)


@dataclass(frozen=True, slots=True)
class Preflight:
    """All findings about a recipe."""

    recipe: str
    findings: tuple[Finding, ...]
    samples: tuple[Shown, ...] = ()

    @property
    def state(self) -> State:
        """That of the worst finding."""
        return max((f.state for f in self.findings), key=STATES.index, default="pass")

    @property
    def exit_code(self) -> Exit:
        """0 for pass and warn, 2 for fail: the recipe cannot be used as it is."""
        return Exit.USAGE if self.state == "fail" else Exit.PASS
