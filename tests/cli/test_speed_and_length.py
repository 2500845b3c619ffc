"""From an engine's times to the terminal, --json and the page, through a run on disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import workspace

pytestmark = pytest.mark.unit

SCRIPT = """
from forgetbench.engines.scripted import prompt_text
from forgetbench.types import Generation, Response

def answer(request):
    n = int(prompt_text(request.prompt).rsplit("Q: ", 1)[1].split(" ")[0])
    tokens = (n * 7 % 40 + 2) * {times}
    text = str(n + 1)
    said = Generation(text=text, token_ids=(1,) * tokens, finish_reason="stop", logprobs=(-0.1,) * tokens)
    return Response(request.request_id, (said,), prompt_tokens=9, prompt_token_hash="h" * 16,
                    first_token_seconds={first}, seconds={first} + {each} * (tokens - 1))
"""


def test_compare_shows_what_the_answers_cost(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copy.deepcopy(workspace.CONFIG)
    scripts = {
        "base.py": SCRIPT.format(times=3, first=0.12, each=0.008),
        "sft.py": SCRIPT.format(times=1, first=0.15, each=0.01),
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        config["models"][name[:-3]] |= {"path": name, "engine_args": {"script": name}}
    file = workspace.write(tmp_path, forgetbench__yaml=config)
    assert run("compare", "base", "sft", "--config", str(file)) == 0
    out = capsys.readouterr().out
    assert "speed: first token 120 → 150 ms, 8.0 → 10.0 ms a further token" in out.replace("\n", " ")
    assert "answers: " in out
    assert run("gate", "base", "sft", "--config", str(file), "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["answers"]
    assert row["speed"]["per_token"] == pytest.approx(0.002)
    assert row["speed"]["first_token"] == pytest.approx(0.03)
    assert row["speed"]["base"]["measured_first_token"] == pytest.approx(0.12)
    assert row["lengths"][0]["base"]["median"] == 3 * row["lengths"][0]["candidate"]["median"]
    assert row["lengths"][0]["n"] == 200
    assert "Speed and length" in (tmp_path / ".forgetbench/reports/base-sft.html").read_text()
