"""--embed and --lang: what the report carries and in which language; a misspelt one is noticed before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit


def test_language_and_answers(run: Run, tmp_path: Path) -> None:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(60)))
    out = tmp_path / "zh.html"
    assert (
        run("compare", "base", "sft", "-c", str(config), "--lang", "zh", "--embed", "none", "--report", str(out)) == 10
    )
    chinese = out.read_text(encoding="utf-8")
    assert '<html lang="zh">' in chinese
    assert 'class="chunk"' not in chinese
    sizes = []
    for embed in ("none", "flips", "all"):
        file = tmp_path / f"{embed}.html"
        assert run("report", "base", "sft", "-c", str(config), "--embed", embed, "-o", str(file)) == 0
        assert '<html lang="en">' in file.read_text(encoding="utf-8")
        sizes.append(file.stat().st_size)
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("command", ["compare", "report"])
@pytest.mark.parametrize(
    ("flag", "value", "known"), [("--embed", "some", "flips, all, none"), ("--lang", "xx", "en, zh")]
)
def test_a_misspelt_flag_is_noticed_first(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, flag: str, value: str, known: str
) -> None:
    config = workspace.write(tmp_path)
    assert run(command, "base", "sft", "-c", str(config), flag, value) == 2
    assert f"{flag}: there is no" in (err := capsys.readouterr().err)
    assert f"choose one of: {known}" in err
    assert not (tmp_path / ".forgetbench/runs").exists()
