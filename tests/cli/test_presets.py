"""Parity and deployment presets end to end: a candidate that thinks must not fail for its length."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench import flow
from forgetbench.errors import UsageError
from forgetbench.planning.deployment import bind
from forgetbench.workspace import open_workspace

from .conftest import Run

pytestmark = pytest.mark.unit

N = 150
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
OPENS = TEMPLATE.replace("<|assistant|>", "<|assistant|><think>\n")
LONG = "Question: he had some apples. Let me check that again from the other side, number {i}. "


def _script(folder: Path, name: str, *, opening: str, thought: str, close: str, after: str = "") -> None:
    lines = [
        "import re",
        f"HEAD, TAIL = {opening + thought + close!r}, {after!r}",
        "def answer(request):",
        "    n = int(re.findall(r'Tom has (\\d+) apples', request.prompt.text)[-1])",
        "    return f'{HEAD}He then has {n + 2}.\\n#### {n + 2}{TAIL}'",
    ]
    (folder / f"{name}.py").write_text("\n".join(lines), encoding="utf-8")


def _workspace(
    folder: Path,
    *,
    preset: str | None,
    view: str = "ability",
    template: str = TEMPLATE,
    thought: Sequence[str] = ("<think>", "", "</think>"),
    task: dict[str, Any] | None = None,
) -> Path:
    data = folder / "data" / "gsm8k"
    data.mkdir(parents=True)
    for split, numbers in (("test", range(N)), ("train", range(900, 910))):
        rows = [{"question": f"Tom has {n} apples and buys 2.", "answer": f"#### {n + 2}"} for n in numbers]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    _script(folder, "base", opening="", thought="", close="")
    _script(folder, "sft", opening=thought[0], thought=thought[1], close=thought[2])
    model = {"engine": "scripted", "chat_template": template}
    suite: dict[str, Any] = {
        "name": "thinking",
        "views": [view],
        "tasks": [{"task": "gsm8k", "num_fewshot": 1, "limit": N, **(task or {})}],
    }
    if preset is not None:
        suite["preset"] = preset
    config = {
        "models": {a: {"path": f"{a}.py", "engine_args": {"script": f"{a}.py"}, **model} for a in ("base", "sft")},
        "suite": "suite.yaml",
        "policy": "policy.yaml",
        "paths": {"data": "data"},
    }
    policy = {"name": "p", "rules": [{"task": "gsm8k", "view": view, "margin": 5}]}
    for name, content in (("suite", suite), ("forgetbench", config), ("policy", policy)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "forgetbench.yaml"


def _thought(characters: int) -> str:
    """Text without a loop, with what lm-eval stops at."""
    return "".join(LONG.replace("{i}", str(i)) for i in range(characters // 80))[:characters]


def _json(run: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run("compare", "base", "sft", "--config", str(config), "--json")
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("view", ["ability", "chat"])
def test_a_thinking_candidate_passes_under_deployment_and_never_under_parity(
    view: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scripted engine's tokens are characters: 2,000 of thinking are beyond lm-eval's 256."""
    # Raw prompts keep the stop "Question:", which ends a base's answer, so raw thinking must not hold it.
    thought = _thought(2000) if view == "chat" else _thought(2000).replace("Question:", "Well,")
    codes = {}
    for preset in ("parity", "deployment"):
        folder = tmp_path / preset
        folder.mkdir()
        config = _workspace(folder, preset=preset, view=view, thought=("<think>", thought, "</think>\n\n"))
        codes[preset], found = _json(run, config, capsys)
        (rule,) = found["verdicts"][0]["rules"]
        if preset == "deployment":
            assert (rule["state"], rule["candidate"]) == ("PASS", 1.0)
        else:
            assert rule["candidate"] < 0.1
    assert codes == {"parity": 10 if view == "chat" else 11, "deployment": 0}


def test_parity_is_the_default_and_has_no_flags(run: Run, tmp_path: Path) -> None:
    config = _workspace(tmp_path, preset=None)
    assert run("compare", "base", "sft", "--config", str(config)) == 0
    (comparison,) = _comparisons(config)
    change = next(c for c in comparison.changes if c.kind == "task")
    assert change.candidate_rates.looped is None
    assert change.candidate_rates.thought is None


def test_flags_are_counted_beside_the_outcomes(run: Run, tmp_path: Path) -> None:
    loop = "I should check that again. " * 40
    config = _workspace(tmp_path, preset="deployment", view="chat", thought=("<think>", loop, "</think>"))
    assert run("compare", "base", "sft", "--config", str(config)) == 0
    (comparison,) = _comparisons(config)
    change = next(c for c in comparison.changes if c.kind == "task")
    rates = change.candidate_rates
    assert (rates.looped, rates.thought, rates.wrong_language, rates.truncated) == (1.0, 1.0, 0.0, 0.0)
    assert (change.base_rates.looped, change.base_rates.thought) == (0.0, 0.0)
    assert change.candidate == 1.0
    assert comparison.pairs[0].candidate.output.startswith("<think>I should")


def test_thinking_that_never_ends_is_truncated_and_refuses_the_verdict(run: Run, tmp_path: Path) -> None:
    config = _workspace(tmp_path, preset="deployment", view="chat", thought=("<think>", _thought(300), ""))
    assert run("compare", "base", "sft", "--config", str(config)) == 11
    (comparison,) = _comparisons(config)
    assert {p.candidate.outcome for p in comparison.pairs} == {"truncated"}
    assert "never ended" in comparison.pairs[0].candidate.why


def test_a_template_that_opens_the_block_itself(run: Run, tmp_path: Path) -> None:
    """The text then holds the closing tag only, and the base answers without thinking at all."""
    config = _workspace(tmp_path, preset="deployment", view="chat", template=OPENS, thought=("", "2 more", "</think>"))
    run("compare", "base", "sft", "--config", str(config))
    (comparison,) = _comparisons(config)
    assert {p.candidate.outcome for p in comparison.pairs} == {"ok"}
    assert {p.base.outcome for p in comparison.pairs} == {"truncated"}


def test_the_budget_is_in_the_identity_and_the_same_for_both(run: Run, tmp_path: Path) -> None:
    config = _workspace(tmp_path, preset="deployment", view="chat", task={"max_tokens": 300})
    assert run("compare", "base", "sft", "--config", str(config)) == 0
    for folder in (tmp_path / ".forgetbench/runs").iterdir():
        (entry,) = json.loads((folder / "manifest.json").read_text())["tasks"]
        assert entry["identity"]["decode"]["max_tokens"] == 300
        assert "deployment" in entry["identity"]["task_version"]


def test_stop_strings_by_style(tmp_path: Path) -> None:
    """Chat drops lm-eval's; raw keeps them; what the suite sets always holds."""
    config = _workspace(tmp_path, preset="deployment", view="chat")
    ws = open_workspace(config)
    loaded = ws.tasks()
    point = flow.checkpoint(ws, "base")
    (job,) = flow.jobs(ws, loaded, point)
    item = job.items[0]
    assert job.task.prompt(item, 0).stop == ()
    assert job.task.prompt(item, 0).max_tokens == 4096
    ((_, raw),) = loaded
    assert "Question:" in raw.prompt(item, 0).stop


def test_think_tags_that_decoding_drops_are_refused(tmp_path: Path) -> None:
    template = TEMPLATE.replace("{{ m.content }}", "{{ m.content.split('[/THINK]')[-1] }}")
    ws = open_workspace(_workspace(tmp_path, preset="deployment", view="chat", template=template))
    ((_, task),) = ws.tasks()
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"content": "[/THINK]", "special": true}]}')
    point = dataclasses.replace(flow.checkpoint(ws, "base"), tokenizer_folder=tmp_path)
    with pytest.raises(UsageError, match=r"\[/THINK\] is a special token"):
        bind(task, "chat", point, None)
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"content": "[/THINK]", "special": false}]}')
    assert bind(task, "chat", point, None).name == "gsm8k"


def test_a_context_without_room_is_refused_before_anything_runs(tmp_path: Path) -> None:
    ws = open_workspace(_workspace(tmp_path, preset="deployment", view="chat"))
    ((_, task),) = ws.tasks()
    point = dataclasses.replace(flow.checkpoint(ws, "base"), config={"max_position_embeddings": 2048})
    with pytest.raises(UsageError, match="set max_tokens"):
        bind(task, "chat", point, None)
    assert bind(task, "chat", point, 512).name == "gsm8k"


def _comparisons(config: Path) -> list[Any]:
    ws = open_workspace(config)
    loaded = ws.tasks()
    points = {a: flow.checkpoint(ws, a) for a in ("base", "sft")}
    policies = flow.policies(ws, loaded, points, "base", ["sft"])
    runs = {a: flow.run(ws, a, loaded, say=lambda line: None, generate=False) for a in ("base", "sft")}
    return [c for j in flow.judge(ws, loaded, runs, policies, "base", ["sft"]) for c in j.comparisons]
