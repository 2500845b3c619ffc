"""The terminal says the same as the page, fits 80 columns, and obeys no escape sequence of a model's."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from forgetbench.analysis.types import Comparison, Interval
from forgetbench.gate.types import Verdict
from forgetbench.report.terminal import print_verdict
from tests.report.hostile import hostile
from tests.report.sample import comparison, demo, verdict_of

pytestmark = pytest.mark.unit


def shown(width: int = 80, terminal: bool = False, encoding: str = "utf-8", **inputs: object) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    colours = "truecolor" if terminal else "auto"
    console = Console(file=stream, width=width, force_terminal=terminal, legacy_windows=False, color_system=colours)
    comparisons, verdicts = inputs.get("data") or demo()  # type: ignore[misc]
    print_verdict(console, comparisons, verdicts)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("terminal", [True, False])
def test_fits_and_hides_nothing(width: int, terminal: bool) -> None:
    console = Console(width=width)
    text = shown(width, terminal)
    plain = [Console(width=500, file=io.StringIO()).render_str(line).plain for line in text.splitlines()]
    if not terminal:
        assert all(console.measure(line).maximum <= width for line in plain)
        assert "…" not in text  # nothing was cut off
    for word in ("support", "capitals", "severe", "Blocked: sft_v2", "advisory"):
        assert word in text


def test_gains_first_and_the_verdict_last() -> None:
    lines = [line for line in shown().splitlines() if line.strip()]
    start = next(i for i, line in enumerate(lines) if line.startswith("sft_v2 against base"))
    body = lines[start + 2 :]
    assert body[0].startswith("support") and "▲ +" in body[0]  # noqa: PT018
    assert next(i for i, x in enumerate(body) if "▼" in x) > next(i for i, x in enumerate(body) if "▲" in x)
    assert "exit code 10" in lines[-1]
    assert lines[-3].startswith("✕ Blocked: sft_v2")
    assert shown().index("exit code 10") > shown().index("Pass")


def test_no_colour_or_boxes_without_a_terminal() -> None:
    text = shown()
    assert "\x1b" not in text
    assert not set(text) & set("─│╭╰┏┃━")
    assert "\x1b[" in shown(terminal=True)


def test_ascii_console_gets_ascii_only() -> None:
    text = shown(encoding="ascii", terminal=True)
    assert text.isascii()
    assert "v -" in text
    assert "^ +" in text
    assert "x Blocked" in text
    assert shown(width=300, encoding="ascii", data=hostile(huge=False)).isascii()


def test_hostile_text_sends_no_escape_sequence_and_no_markup() -> None:
    text = shown(width=400, data=hostile(huge=False))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "⟦U+001B⟧[31mred" in text
    assert "[bold]markup[/bold]" in text


def test_without_anything() -> None:
    assert shown(data=([], [])) == ""


def widest() -> tuple[list[Comparison], list[Verdict]]:
    """The longest figures that there are: everything lost, on 14,042 items, under a long name."""
    found = comparison("base", "sft", {"a_rather_long_name_of_one/x": (40, 1.0, 0.0)}, ["ability"])
    changes = tuple(
        replace(c, base=1.0, candidate=0.0, delta=-1.0, interval=Interval(-1.0, -1.0), n=14_042) for c in found.changes
    )
    found = replace(found, changes=changes)
    return [found], [verdict_of(found, "sft")]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [40, 60, 80, 104])
def test_names_and_figures_are_whole_at_any_width(width: int, terminal: bool) -> None:
    text = re.sub(r"\x1b\[[\d;]*m", "", shown(width, terminal, data=widest()))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    start = next(i for i, line in enumerate(lines) if line.startswith("ability "))
    body = lines[start + 1 : start + 5]
    (row,) = [line for line in body if "\u2212100.0" in line]
    assert row.startswith("a_rather_long_na")
    assert "\u25bc \u2212100.0" in row
    assert "\u2026" not in text  # no figure is cut off
    assert ("14042" in row) == (width >= 80)
    assert ("\u2212100.0 to \u2212100.0" in row) == (width >= 60)
    assert ("severity in points" in text) == ("severity" in lines[start])


def test_lengths_and_speed_stand_under_the_table() -> None:
    text = shown()
    first = text.split("sft_v2 against base")[1].split("sft_v2 against sft_v1")[0]
    (lengths,) = re.findall(r"^answers: (\d+) → (\d+) tokens \(median\), −[\d.]+ on average", first, re.MULTILINE)
    assert int(lengths[0]) > int(lengths[1])
    pattern = r"^speed: first token (\d+) → (\d+) ms, (\d\.\d\d) → (\d\.\d\d) ms a further token$"
    (speed,) = re.findall(pattern, first, re.MULTILINE)
    assert abs(int(speed[0]) - 120) < 15
    assert abs(float(speed[2]) - 8.1) < 0.2
    assert text.count("answers: ") == 4  # each view has its own
    assert text.count("speed: ") == 3
    bare = [replace(c, answers=None) for c in demo()[0]]
    assert "speed: " not in shown(data=(bare, demo()[1]))
