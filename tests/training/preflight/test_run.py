"""All checks of a recipe file, and how they are shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from forgetbench.errors import UsageError
from forgetbench.training import fit
from forgetbench.training.preflight.run import CHECKS, preflight
from forgetbench.training.preflight.show import colored, print_preflight, to_dict
from forgetbench.training.preflight.types import Finding, Preflight, Shown, Span
from forgetbench.training.recipe import load_recipe
from tests.training import tiny
from tests.training.preflight.made import chats

pytestmark = pytest.mark.unit


def _recipe(folder: Path, rows: list[Any], **settings: Any) -> Path:
    tiny.world(folder)
    tiny.write_jsonl(folder / "data.jsonl", rows)
    file = folder / "recipe.yaml"
    recipe = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-4, "steps": 3, "max_length": 64, **settings}
    file.write_text(yaml.safe_dump(recipe))
    return file


def _shown(found: Preflight, **console: Any) -> str:
    out = io.StringIO()
    print_preflight(Console(file=out, width=100, **console), found)
    return out.getvalue()


def test_every_check_gives_a_finding_and_json_has_all(tmp_path: Path) -> None:
    found = preflight(_recipe(tmp_path, chats()), str(tmp_path / "base"))
    assert len(found.findings) == len(CHECKS) == len({f.name for f in found.findings})
    assert {f.name for f in found.findings} >= {
        "padding", "packing isolation", "BOS", "answers end", "loss mask", "special tokens", "trained modules",
        "learning rate", "replay", "duplicates", "held-out", "retention suite",
    }  # fmt: skip
    assert (found.state, found.exit_code) == ("warn", 0)
    assert all(f.evidence for f in found.findings)
    assert all(bool(f.cure) == (f.state != "pass") for f in found.findings)
    told = json.loads(json.dumps(to_dict(found), allow_nan=False))
    assert [s["text"] for s in told["samples"][0]["spans"]] == [
        "<|user|> question 0?<|end|><|assistant|>",
        " yes 0<|end|>",
    ]


def test_all_bad_lines_are_findings_that_fail(tmp_path: Path) -> None:
    rows = [*chats(2), {"prompt": "Hi?", "answer": ""}, {"messages": [{"role": "robot", "content": "x"}]}]
    found = preflight(_recipe(tmp_path, rows), str(tmp_path / "base"))
    assert (found.state, found.exit_code) == ("fail", 2)
    assert [f.evidence for f in found.findings] == [
        f"{tmp_path / 'data.jsonl'}:3: is an empty answer",
        f"{tmp_path / 'data.jsonl'}:4: turn 1 has the unknown role 'robot'",
    ]
    assert "write the answer" in _shown(found)


def test_mistakes_of_all_parts_are_told_at_once(tmp_path: Path) -> None:
    settings = {"held_out": [{"path": "none.jsonl"}], "eval_every": 1}
    settings |= {"replay": {"share": 0.1, "files": [{"path": "bad.jsonl"}]}}
    file = _recipe(tmp_path, [{"prompt": "Hi?"}], **settings)
    tiny.write_jsonl(tmp_path / "bad.jsonl", [{"text": ""}])
    found = preflight(file, str(tmp_path / "base"))
    assert [f.evidence.split(": ")[0] for f in found.findings] == [
        f"{tmp_path / 'data.jsonl'}:1", f"{tmp_path / 'bad.jsonl'}:1", str(tmp_path / "none.jsonl"),
    ]  # fmt: skip


def test_a_base_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    file = _recipe(tmp_path, chats())
    (tmp_path / "base" / "config.json").write_text("{}")
    (found,) = preflight(file, str(tmp_path / "base")).findings
    assert found.state == "fail"
    assert "cannot be loaded" in found.evidence
    assert "\n" not in found.evidence


def test_nothing_is_written_beside_the_recipe(tmp_path: Path) -> None:
    file = _recipe(tmp_path, chats(), kl={"weight": 1.0}, method="lora", lora={"r": 2})
    before = sorted(p for p in tmp_path.rglob("*"))
    preflight(file, str(tmp_path / "base"))
    assert sorted(p for p in tmp_path.rglob("*")) == before


SAMPLE = Shown("d:1", "a/b", (Span("Q \x1b[2J", 0.0, 3), Span("yes", 1.0, 1), Span("<end>", 0.5, 1)))


def test_learnt_text_is_marked_with_and_without_colours() -> None:
    assert colored(SAMPLE, marks=True).plain == "Q ⟦U+001B⟧[2J«yes»«<end>»[x0.5]"
    assert colored(SAMPLE, marks=False).plain == "Q ⟦U+001B⟧[2Jyes<end>[x0.5]"
    styles = {str(s.style) for s in colored(SAMPLE, marks=False).spans}
    assert {"bold green", "bold magenta", "dim"} <= styles


def test_a_terminal_gets_colours_and_a_pipe_one_line_for_a_finding() -> None:
    long = Finding("padding", "fail", "evidence " * 40, "cure it", ("a line",))
    found = Preflight("recipe.yaml", (long,), (SAMPLE,))
    piped = _shown(found)
    assert piped.startswith("fail  padding: " + ("evidence " * 40).strip() + "\n      a line\n      cure: cure it\n")
    assert "«yes»" in piped
    assert "\x1b" not in piped
    terminal = _shown(found, force_terminal=True, color_system="standard")
    assert "\x1b[" in terminal
    assert "\x1b[2J" not in terminal
    assert "«" not in terminal
    assert "0 pass, 0 warn, 1 fail" in piped


def test_a_token_without_a_row_is_a_finding_and_no_crash(tmp_path: Path) -> None:
    """Whatever reads the model before `embedding` looks at the ids."""
    file = _recipe(tmp_path, chats(), stm_threshold=50.0)
    tiny.model(vocabulary=200).save_pretrained(tmp_path / "base")
    found = {f.name: f for f in preflight(file, str(tmp_path / "base")).findings}
    assert found["embedding"].state == "fail"
    assert len(found) > 10
    recipe = load_recipe(file)
    with pytest.raises(UsageError, match=r"data\.jsonl:1: has token \d+, the base's embedding has 200 rows"):
        fit.train(recipe, tmp_path, str(tmp_path / "base"), tmp_path / "out")


def test_the_retention_suite_is_looked_for_in_the_data_folder_of_the_call(tmp_path: Path) -> None:
    suite = {"name": "talk", "views": ["chat"], "tasks": [{"set": "{data}/talk.jsonl"}]}
    rule = {"name": "talk", "task_type": "x", "view": "chat", "margin": 20}
    retention = {"suite": "suite.yaml", "policy": "policy.yaml", "every": 2}
    file = _recipe(tmp_path, chats(), retention=retention)
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump({"name": "talk", "rules": [rule]}))
    (tmp_path / "there").mkdir()
    tiny.write_jsonl(tmp_path / "there" / "talk.jsonl", [{"task_type": "x/y", "prompt": "q", "references": ["a"]}])
    states = [
        {f.name: f.state for f in preflight(file, str(tmp_path / "base"), data_dir=folder).findings}["retention suite"]
        for folder in (tmp_path / "there", None)
    ]
    assert states == ["pass", "fail"]


def test_weights_of_what_the_base_will_write_are_no_mistake(tmp_path: Path) -> None:
    prompts = {"prompts": [{"path": "p.jsonl", "task_type": "general/ask"}]}
    replay = {"share": 0.2, "from_base": prompts}
    file = _recipe(tmp_path, chats(), loss={"task_weights": {"general": 0.5, "a": 2.0}}, replay=replay)
    tiny.write_jsonl(tmp_path / "p.jsonl", [{"prompt": "x", "answer": "y"}])
    found = preflight(file, str(tmp_path / "base"))
    assert "reading" not in {f.name for f in found.findings}
    assert {span.weight for sample in found.samples for span in sample.spans if span.weight} == {2.0}
