"""`forgetbench show`: one item from runs on disk, named in any of the ways a reader may have it at hand."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from forgetbench.cli.show import Wanted, parse
from forgetbench.errors import UsageError
from forgetbench.report.item import print_item
from forgetbench.runs.store import list_runs
from forgetbench.types import Record
from tests.report.hostile import ALL

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit


@pytest.fixture
def compared(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(60)))
    run("compare", "base", "sft", "--config", str(config))
    capsys.readouterr()
    return config


def records(config: Path, alias: str = "sft") -> list[Record]:
    (found,) = [r for r in list_runs(config.parent / ".forgetbench/runs") if r.alias == alias]
    return found.read_records()


def test_both_answers_stand_side_by_side(run: Run, compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = next(r for r in records(compared) if r.extracted == "none")
    for item in (
        f"sums:{wrong.content_hash}",
        f"{wrong.content_hash[:8]}",
        f"sums:{wrong.content_hash}#0",
        f"sums-{wrong.content_hash}-0-ability",
        f"#sums-{wrong.content_hash}-0-ability@sft-vs-base",
        f"file:///tmp/report.html#sums-{wrong.content_hash}-0-ability@sft-vs-base",
    ):
        assert run("show", item, "--config", str(compared)) == 0
        out = capsys.readouterr().out
        assert f"sums:{wrong.content_hash}#0" in out
        assert out.index("base  right") < out.index("sft  wrong")
        assert wrong.gold in out
        assert "extracted: none" in out
        assert " ".join(wrong.why.split()) in " ".join(out.split())


def test_sides_can_be_named(run: Run, compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item = records(compared)[0].content_hash
    for more in (["sft", "base"], ["--base", "sft", "--candidate", "base"]):
        assert run("show", item, *more, "--config", str(compared), "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["base"], found["candidate"]) == ("sft", "base")
        assert found["pairs"][0]["base"]["content_hash"] == item


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["not an item"], "neither a task with a hash nor a link"),
        (["sums:ffffffffffff"], "is not in the run of base"),
        (["sums:"], "neither a task"),
        (["HASH", "base", "other"], "model 'other': has no run here; there are runs of: base, sft"),
        (["HASH", "--view", "chat"], "is in no view that both have"),
        (["HASH", "--view", "side"], "choose one of: ability, chat, as_used"),
    ],
)
def test_mistakes_are_one_line(
    run: Run, compared: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    known = records(compared)[0].content_hash
    given = [known if a == "HASH" else a for a in arguments]
    assert run("show", *given, "--config", str(compared)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_several_items_are_listed(run: Run, compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    firsts = [r.content_hash[0] for r in records(compared)]
    common = max(set(firsts), key=firsts.count)
    assert run("show", common, "--config", str(compared)) == 2
    assert re.search(rf"could be any of {firsts.count(common)}; say more: sums:{common}", capsys.readouterr().err)


def test_without_runs(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "abcdef", "--config", str(workspace.write(tmp_path))) == 2
    assert "holds no runs" in capsys.readouterr().err


def test_forms_of_an_item() -> None:
    assert parse("gsm8k:ab12cd#1") == Wanted("gsm8k", "ab12cd", 1)
    assert parse("AB12") == Wanted(None, "ab12")
    assert parse("my-set.v2-ab12cd34-3-as_used@v2-vs-v1") == Wanted("my-set.v2", "ab12cd34", 3, "as_used", "v2-vs-v1")
    assert parse("x%20y-ab12cd34-0-chat") == Wanted("x y", "ab12cd34", 0, "chat")
    with pytest.raises(UsageError):
        parse("mmlu")


def shown(before: Record, after: Record, width: int = 80, terminal: bool = False, full: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
    colours = "truecolor" if terminal else "auto"
    console = Console(file=stream, width=width, force_terminal=terminal, legacy_windows=False, color_system=colours)
    print_item(console, before.key, ("base", "sft"), [(before, after)], full=full)
    stream.flush()
    return raw.getvalue().decode()


def record(output: str, right: bool = True, **more: object) -> Record:
    return Record(
        task="t", content_hash="ab12", occurrence=0, task_type="a/b", view="ability", style="raw",
        decode_id="greedy", sample=0, replicate=0, outcome="ok", scores={"acc": float(right)}, output=output,
        extracted=output, gold="42", why="why", gold_hash="", prompt="Example.\n\nQ: what?\nA:", **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_differing_words_are_marked_without_colour_too() -> None:
    before, after = record("the answer is 42 indeed"), record("the answer is 17 indeed", right=False)
    plain = shown(before, after)
    assert "the answer is [-42-] indeed" in plain
    assert "the answer is {+17+} indeed" in plain
    assert "\x1b" not in plain
    coloured = shown(before, after, terminal=True)
    assert "\x1b[9;" in coloured or ";9;" in coloured  # struck through
    assert "both gave the same text" in shown(before, before)


def test_two_columns_where_there_is_room() -> None:
    before, after = record("left words"), record("right words", right=False)
    wide = shown(before, after, width=120)
    assert any("base  right" in line and "sft  wrong" in line for line in wide.splitlines())
    narrow = shown(before, after, width=80)
    assert not any("base  right" in line and "sft  wrong" in line for line in narrow.splitlines())


def test_long_texts_are_cut_unless_asked_for() -> None:
    giant = "START " + "x" * 100_000 + " END"
    assert "characters left out" in shown(record(giant), record("short"))
    assert "characters left out" not in shown(record(giant), record("short"), full=True)


def test_hostile_text_sends_no_escape_sequence_and_no_markup() -> None:
    for text in ALL:
        out = shown(record(text), record(text[::-1], right=False), width=200)
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\x07" not in out
    assert "[bold]markup[/bold]" in shown(record("[bold]markup[/bold]"), record("x"), width=200)
