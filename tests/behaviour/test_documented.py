"""Every measure has an entry in docs/measures: a new one without cannot come in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forgetbench.causes.types import CAUSES, WORDS

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]


def names() -> set[str]:
    """As they stand in the code; what an f-string fills in is left away."""
    found: set[str] = set()
    for file in sorted((ROOT / "forgetbench/analysis").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        found |= {m.split("{")[0].rstrip("_") for m in re.findall(r'\bname=f?"([a-z_{}.0-9]+)"', text)}
    return found


def test_every_measure_has_an_entry() -> None:
    written = "\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs/measures").glob("*.md")))
    assert len(names()) > 15
    assert sorted(n for n in names() if n not in written) == []


def test_every_cause_has_an_entry() -> None:
    written = (ROOT / "docs/measures/causes.md").read_text(encoding="utf-8").lower()
    assert [c for c in CAUSES if WORDS.get(c, c) not in written] == []


def test_every_part_is_named_on_the_first_page() -> None:
    page = (ROOT / "docs/measures.md").read_text(encoding="utf-8")
    assert all(f"measures/{p.name}" in page for p in (ROOT / "docs/measures").glob("*.md"))
