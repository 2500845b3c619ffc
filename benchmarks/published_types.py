"""What re-scoring a published output gives: figures, items that differ, and how answers were read. Plain data."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from forgetbench.types import Generation, Response

Fault = Literal["ours", "theirs", "lm-eval's", "the data's", "nobody's", "unknown"]
"""`lm-eval's`: our default metric follows lm-eval's rule to the letter, and the rule misjudges the item."""

FOLDER = "published"


@dataclass(frozen=True, slots=True)
class Score:
    """One figure of one system."""

    set: str
    system: str
    metric: str
    n: int
    """Items that it is a mean over."""
    ours: float
    """Percent."""
    published: float | None
    """Percent; None: none was published for these outputs."""
    labelled: int = 0
    """Items whose verdict was published, or follows from the published scorer's rule."""
    differ: int = 0
    """Of these, the items that are judged otherwise here; each is a `Difference`."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One item that is judged otherwise here."""

    set: str
    system: str
    metric: str
    item: str
    ours: str
    theirs: str
    fault: Fault
    why: str
    """The same words for items that differ for the same reason: they are shown together."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How well answers were found in the outputs of one system."""

    set: str
    system: str
    metric: str
    n: int
    missed: int
    """Right but not extracted: the label (or the lenient reading) says right, the metric wrong."""
    accepted: int
    """Wrong but accepted."""
    against: str
    """What it was held against."""


@dataclass(frozen=True, slots=True)
class Family:
    """All that one module found."""

    scores: tuple[Score, ...]
    differences: tuple[Difference, ...] = ()
    readings: tuple[Reading, ...] = ()
    notes: tuple[str, ...] = ()
    """Lines below the tables."""


def read_rows(data: Path, name: str) -> list[dict[str, Any]]:
    """The lines of `published/NAME.jsonl.gz`."""
    with gzip.open(data / FOLDER / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def said(text: str) -> Response:
    """A response as an engine would give it."""
    return Response("published", generations=(Generation(text, (), "stop"),))


def percent(part: float, n: int) -> float:
    return 100.0 * part / n if n else 0.0
