"""The terminal says the same as the page, fits 80 columns, and obeys no escape sequence of a model's."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from forgetbench.report.terminal import print_verdict
from tests.report.hostile import hostile
from tests.report.sample import demo

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
