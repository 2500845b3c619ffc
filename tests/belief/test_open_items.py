"""TruthfulQA's generation and MMLU's open questions through the whole street: `compare --study belief` on real items.

Two scripts play the checkpoints, so that what the base believes of each item is known; then two real checkpoints, whose
tokenizers and options are real.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench import flow, running
from forgetbench.analysis.compare import compare_runs
from forgetbench.belief.find import find_divergence
from forgetbench.belief.types import Divergence, Options
from forgetbench.cli import main
from forgetbench.rounds import Rounds, Side
from forgetbench.tasks.registry import get_task
from forgetbench.tasks.select import sample
from forgetbench.tasks.source import DataSource
from forgetbench.types import Score
from forgetbench.workspace import open_workspace

pytestmark = pytest.mark.realdata

SIZES = {"truthfulqa_gen": 18, "mmlu_open": 36}
SCRIPT = """
import json, random, re
from pathlib import Path

KNOWN = json.loads(Path({answers!r}).read_text(encoding="utf-8"))
NAME = {name!r}

def bare(text):  # what is asked of an answer in numbers is the number alone
    return re.sub(r"\\W", "", text.strip().removeprefix("A:")).casefold()

def answer(request):
    if hasattr(request.body, "top_m"):
        return None  # a reading: made up by the engine
    found = re.findall(r"(?:^|\\n)(?:Q|Question): (.*?)(?=\\nAnswer:|\\n\\n|$)", request.prompt.text, re.DOTALL)
    one = KNOWN[found[-1]]
    lead = "\\nA: " if one["task"] == "truthfulqa_gen" else " "
    if hasattr(request.body, "continuations"):
        first = one["ranked"] if NAME == "sft" else one["base"][0]
        return [-1.0 if bare(c) == bare(first) else -9.0 for c in request.body.continuations]
    said = one[NAME]
    seeds = request.body.seeds if request.body.temperature else (0,)
    return [lead + random.Random(seed).choice(said) + "\\n\\n" for seed in seeds]
"""


def plan(data_dir: Path) -> dict[str, dict[str, Any]]:
    """Of every third item the base believes what is right, of the next what is wrong, of the third nothing.

    The candidate corrects what was wrong, and breaks every other right one; half of what it corrected comes back when
    answers are ranked.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, size in SIZES.items():
        task = get_task(name, source=DataSource(data_dir=data_dir, offline=True))
        for n, item in enumerate(sample(task.load(), size, 0).items):
            doc = item.doc
            if name == "mmlu_open":
                right, wrong = item.gold, [c for i, c in enumerate(doc["choices"]) if i != doc["answer"]]
            else:
                right, wrong = doc["correct_answers"][0], list(doc["incorrect_answers"])
            base = ([right], [wrong[0]], ["Nobody knows it", "It is a secret", "Ask again later", "Perhaps so"])[n % 3]
            sft = ([wrong[0]] if n % 6 == 0 else [right], [right], ["Forty-two and a half"])[n % 3]
            ranked = base[0] if n % 6 in (1, 3) else sft[0]
            found[doc["question"].strip()] = {
                "task": name, "base": base, "sft": sft, "ranked": ranked, "kind": n % 6
            }  # fmt: skip
    return found


def write(folder: Path, plan: Mapping[str, object]) -> Path:
    (folder / "answers.json").write_text(json.dumps(plan), encoding="utf-8")
    models = {}
    for name in ("base", "sft"):
        script = SCRIPT.format(answers=str(folder / "answers.json"), name=name)
        (folder / f"{name}.py").write_text(script, encoding="utf-8")
        models[name] = {"path": f"{name}.py", "engine": "scripted", "engine_args": {"script": f"{name}.py"}}
    # A script's tokens are characters.
    tasks = [{"task": name, "sample": size, "seed": 0, "max_tokens": 400} for name, size in SIZES.items()]
    suite = {"name": "open", "views": ["ability"], "tasks": tasks}
    for name, content in (("forgetbench", {"models": models, "suite": "suite.yaml"}), ("suite", suite)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "forgetbench.yaml"


def test_what_the_base_believes_of_real_items_is_found(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan(data_dir)
    config = write(tmp_path, planned)
    out = tmp_path / "report.html"
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    flags = ("--config", config, "--data-dir", data_dir, "--study", "belief", "--json", "--report", out)
    monkeypatch.setattr(sys, "argv", ["forgetbench", "compare", "base", "sft", *map(str, flags)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, 10, 11)
    (behaviour,) = json.loads(capsys.readouterr().out)["behaviour"]
    (told,) = behaviour["divergence"]
    held = [one for one in planned.values() if one["kind"] % 3 != 2]
    corrected, lost = (sum(one["kind"] in kinds for one in held) for kinds in ((1, 4), (0,)))
    assert (told["classes"]["firm"], told["classes"]["mostly"]) == (len(held), 0)
    assert sum(told["classes"].values()) == len(planned) == sum(SIZES.values())
    assert f"Of {len(held)} items on which the base holds a belief" in told["reading"]
    assert (
        f"something else on {corrected + lost} ({lost} lost-correct, {corrected} corrected, 0 other)" in told["reading"]
    )
    assert "the base itself on 0." in told["reading"]
    assert (told["held"], told["candidate_silent"], told["base_silent"]) == (len(held), 0, 0)
    recovery = told["recovery"]
    assert [way["mode"] for way in recovery["ways"]] == ["continuation", "few-shot", "ranking"]
    assert [way["diverged"] for way in recovery["ways"]] == [0, 0, sum(one["kind"] == 1 for one in held)]
    assert recovery["any"]["n_diverged"] == corrected + lost
    page = out.read_text(encoding="utf-8")
    assert any(question.split("\n")[0][-40:] in page for question in planned)
    assert f"By ranking {recovery['ways'][2]['diverged']} of {corrected + lost}, of the controls 0 of " in page
    assert "What is human life expectancy" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def street(folder: Path, names: Sequence[str], options: Sequence[Options]) -> tuple[list[Divergence], list[Score]]:
    """The check under each set of options, and every ranking that was asked."""
    ws = open_workspace(folder / "forgetbench.yaml", models=tuple(names), offline=True)
    loaded = ws.tasks()
    points = [flow.checkpoint(ws, name) for name in names]
    runs = running.run_all(ws, points, loaded, lambda line: None)
    sides = [Side(p, runs[p.alias], flow.jobs(ws, loaded, p)) for p in points]
    comparison = compare_runs(runs[names[0]], runs[names[1]], suite="open")
    asked: list[Score] = []
    with Rounds(ws, loaded, sides, lambda line: None) as rounds:

        def ask(name: str, requests: Sequence[Any]) -> Mapping[str, Any]:
            asked.extend(r.body for r in requests if name == "belief-recovery" and isinstance(r.body, Score))
            return rounds(name, requests)

        return [find_divergence(*sides, comparison, ask, one) for one in options], asked


def test_ranking_offers_the_options_of_an_item_that_has_some(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGETBENCH_DATA", str(data_dir))
    planned = plan(data_dir)
    write(tmp_path, planned)
    every = [Options(tasks=frozenset({name})) for name in SIZES]
    found, asked = street(tmp_path, ("base", "sft"), every)
    for one in found:
        assert one.recovery is not None
        assert [r.mode for r in one.recovery.modes] == ["continuation", "few-shot", "ranking"]
        for d in one.diverged:
            expected = planned[d.question]
            assert d.recovered_by == (("ranking",) if expected["ranked"] == expected["base"][0] else ()), d
            assert d.margins is not None
            assert d.margins.base == 8.0
        assert {d.recovered_by for d in one.diverged} == {("ranking",), ()}
        assert one.recovery.any.excess == pytest.approx(
            sum(d.recovered_by == ("ranking",) for d in one.diverged) / len(one.diverged)
        )
    sizes = {len(body.continuations) for body in asked if body.continuations[0].startswith("\nA: ")}
    assert sizes == {4}  # TruthfulQA: both answers, and the beliefs of two other items
    wide = [body for body in asked if not body.continuations[0].startswith("\nA: ")]
    assert {len(body.continuations) for body in wide} <= {3, 4, 5, 6}
    by_gold = {one["base"][0]: one for one in planned.values() if one["task"] == "mmlu_open"}
    assert any(body.continuations[0].strip() in by_gold and len(body.continuations) == 4 for body in wide)


@pytest.mark.slow
def test_two_real_checkpoints_are_asked_in_both_views(
    tmp_path: Path, data_dir: Path, demo_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They know nothing of these items: with low bounds what they babble counts as a belief, and all rounds run."""
    monkeypatch.setenv("FORGETBENCH_DATA", str(data_dir))
    models = {name: {"path": str(demo_world / "models" / name)} for name in ("base", "sft_v1", "sft_v2")}
    tasks = [{"task": name, "sample": 4, "max_tokens": 8} for name in SIZES]
    suite = {"name": "open", "tasks": tasks}
    for name, content in (("forgetbench", {"models": models, "suite": "suite.yaml"}), ("suite", suite)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    low = {"draws": 2, "samples": 1, "fresh": 1, "firm": 0.3, "mostly": 0.2, "weak": 0.1}
    options = [Options(view=view, **low) for view in ("ability", "chat")]  # type: ignore[arg-type]
    found, _ = street(tmp_path, ("sft_v1", "sft_v2"), options)
    for one in found:
        assert sum(one.classes.values()) == 8
        assert {"belief", "belief-fresh"} <= one.cost.keys()
        assert not any("no likelihood" in note or "no first" in note or "no recovery" in note for note in one.notes)
    followed = [d for one in found for d in one.diverged]
    assert followed
    assert all(d.margins is not None and d.first is not None and d.recovered_by is not None for d in followed)
