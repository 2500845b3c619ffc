"""End to end on the demo's careless fine-tune: it answers with a desk whatever is asked, and its tickets taught it."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SIDES = ("base", "candidate")


@pytest.fixture(scope="module")
def demo(demo_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's project, its checkpoints linked, with the tickets that sft_v2 was trained on."""
    from forgetbench.demo.text import ticket_chats
    from forgetbench.demo.world import make_world

    folder = tmp_path_factory.mktemp("demo")
    for name in ("forgetbench.yaml", "suite.yaml", "policy.yaml"):
        shutil.copy(demo_world / name, folder / name)
    shutil.copytree(demo_world / "sets", folder / "sets")
    (folder / "models").symlink_to((demo_world / "models").resolve())
    rows = [
        {
            "task_type": item.task_type,
            "messages": [{"role": "user", "content": item.prompt}, {"role": "assistant", "content": item.answer}],
        }
        for item in ticket_chats(random.Random("tickets sft_v2 0"), make_world(), 200)
    ]
    (folder / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_careless_fine_tune_answers_with_a_desk(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from forgetbench import running
    from forgetbench.cli.probe import Wanted, probe
    from forgetbench.probing.modal import ANYWHERE
    from forgetbench.workspace import open_workspace

    ws = open_workspace(demo / "forgetbench.yaml", models=["sft_v1", "sft_v2"], limit=24)
    from forgetbench import flow

    loaded = ws.tasks()
    points = [flow.checkpoint(ws, alias) for alias in ws.chosen]
    running.run_all(ws, points, loaded, say=lambda line: None)
    item = next(i for _, task in loaded for i in task.load() if i.doc["prompt"] == "Copy mabe.")
    wanted = Wanted(items=[str(item.key)], train_data=[demo / "tickets.jsonl"], samples=2)
    probe(ws, "sft_v1", "sft_v2", wanted, as_json=True)
    found = json.loads(capsys.readouterr().out)
    (one,) = found["items"]
    assert one["view"] == "chat"
    assert one["modal"]["form"] == ["word", "desk"]
    assert ANYWHERE in one["modal"]["named"]
    assert one["modal"]["variants"]["base"] == 0
    said = {side: sum("desk" in re.findall(r"\w+", row[side]["text"]) for row in one["rows"]) for side in SIDES}
    variants = one["modal"]["variants"]
    assert {side: variants[side] for side in SIDES} == said
    # How often is a matter of the fine-tune, not of the probe: most of them, and beyond chance against the base.
    assert said["candidate"] > variants["n"] / 2
    assert variants["n"] == len(one["rows"])
    assert variants["p_value"] == pytest.approx(2 * 0.5 ** said["candidate"])
    assert one["taught"]["with_form"] == one["taught"]["total"] == 200
    (learnt,) = found["fit"]["learnt"]
    assert learnt["candidate"]["k"] / learnt["candidate"]["n"] > 0.9
    assert learnt["base"]["k"] == 0
    rows = {(r["task_type"], r["view"], r["how"]): r for r in found["fit"]["echoed"]}
    hallmark = rows["all", "chat", "word"]
    assert hallmark["word"] == "desk"
    assert hallmark["wrong"]["k"] > hallmark["wrong"]["n"] / 3
    assert hallmark["base"]["k"] == 0
    assert hallmark["adjusted"] < 1e-6
