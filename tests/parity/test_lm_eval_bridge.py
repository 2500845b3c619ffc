"""The bridge against lm-eval's own run of the same tasks: prompts, log-probabilities, texts and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forgetbench.tasks.lm_eval_bridge import LmEvalTask
from forgetbench.tasks.lm_eval_prompts import OWN_SHOTS
from forgetbench.types import Style

from .bridged import check, made_up_answers, made_up_samples, metric_values, own, write_tasks

pytestmark = [pytest.mark.parity, pytest.mark.realdata]
STYLES: tuple[Style, ...] = ("raw", "chat")


@pytest.fixture(scope="module")
def yamls(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm_eval_bridge")
    write_tasks(folder, data_dir)
    return folder


@pytest.fixture(scope="module")
def manager(yamls: Path) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=False, include_path=str(yamls))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("name", "limit", "shots"), [
    ("arc_easy", 8, None),
    ("arc_easy", 6, 3),
    ("hellaswag", 6, 2),
    ("winogrande", 8, 1),
    ("arc_information", 5, None),
    ("last_word", 3, None),
    ("pages", 3, None),
    ("begun_choice", 5, None),
])  # fmt: skip
def test_ranked(
    yamls: Path, manager: Any, qwen_folder: Path, style: Style, name: str, limit: int, shots: int | None
) -> None:
    task = LmEvalTask(name, include=yamls)
    check(task, manager, name, qwen_folder, style, limit, num_fewshot=shots)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("name", "limit", "tokens"), [("bbh_cot_fewshot", 3, 24), ("bbh_zeroshot", 4, 24), ("begun", 5, None)]
)
def test_generated(
    yamls: Path, manager: Any, qwen_folder: Path, style: Style, name: str, limit: int, tokens: int | None
) -> None:
    task = LmEvalTask(name, include=yamls)
    check(task, manager, name, qwen_folder, style, limit, max_tokens=tokens)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["arc_easy", "winogrande", "arc_information", "begun"])
def test_a_tokenizer_that_adds_bos(yamls: Path, manager: Any, llama_folder: Path, style: Style, name: str) -> None:
    check(LmEvalTask(name, include=yamls), manager, name, llama_folder, style, 4)


BOTH_ENDS = {
    "arc_easy",
    "hellaswag",
    "winogrande",
    "arc_information",
    "begun_choice",
    "last_word",
    "bbh_zeroshot",
    "any_of",
}


@pytest.mark.parametrize("name", [
    "arc_easy", "hellaswag", "winogrande", "arc_information", "last_word", "pages", "begun_choice",
    "bbh_cot_fewshot", "bbh_zeroshot", "begun", "any_of",
])  # fmt: skip
def test_scores_of_made_up_answers(yamls: Path, manager: Any, name: str) -> None:
    """The same answers to every item, scored by lm-eval's evaluator and by the bridge: right ones and wrong ones."""
    task = LmEvalTask(name, include=yamls)
    ours, theirs = made_up_answers(task), made_up_samples(manager, name)
    assert set(ours) == set(theirs)
    seen = set()
    for source, samples in theirs.items():
        expected = {k: v for s in samples for k, v in metric_values(task, s).items()}
        assert ours[source].scores == pytest.approx(expected, abs=1e-12)
        assert set(expected) == set(task.metrics)
        seen |= set(expected.values())
        canonical = task.canonical(samples[0]["doc"])
        assert canonical is not None
        assert canonical == next(i.key for i in task.load() if i.source == source)
    if name in BOTH_ENDS:
        assert {0.0, 1.0} <= seen


def test_options_that_are_shuffled_while_loading(data_dir: Path, tmp_path: Path, qwen_folder: Path) -> None:
    """With lm-eval's seeds: in folders of their own, since `datasets` would remember the other's order."""
    import random

    from lm_eval.tasks import TaskManager

    docs = [{"q": f"Which is {n}?", "options": [str(n + i) for i in range(6)]} for n in range(6)]
    folders = [tmp_path / "ours", tmp_path / "theirs"]
    for folder in folders:
        folder.mkdir()
        own(
            folder, "shuffled", docs, output_type="multiple_choice", doc_to_text="{{q}}", doc_to_target="{{right}}",
            doc_to_choice="{{options}}", metric_list=[{"metric": "acc"}], process_docs="HERE",
        )  # fmt: skip
        file = folder / "shuffled.yaml"
        file.write_text(file.read_text(encoding="utf-8").replace("HERE", "!function mixing.mix"), encoding="utf-8")
        (folder / "mixing.py").write_text(
            "import random\n\n\ndef one(doc):\n    order = random.sample(range(6), 6)\n"
            "    return {'options': [doc['options'][i] for i in order], 'right': order.index(0)}\n\n\n"
            "def mix(docs):\n    return docs.map(one)\n",
            encoding="utf-8",
        )
    random.seed(99)
    before = random.getstate()
    task = LmEvalTask("shuffled", include=folders[0])
    assert random.getstate() == before  # what the user's own program draws stays as it was
    theirs = TaskManager(include_defaults=False, include_path=str(folders[1]))
    check(task, theirs, "shuffled", qwen_folder, "raw", 6)
    orders = {tuple(i.doc["options"]) != tuple(sorted(i.doc["options"])) for i in task.load()}
    assert orders == {True}


def test_a_prompt_never_depends_on_what_else_is_asked(yamls: Path) -> None:
    """Shots are drawn over the whole split: asked backwards, or alone, an item has the same prompt."""
    whole = LmEvalTask("arc_easy", include=yamls)
    prompts = [whole.prompt(item, 4).question for item in reversed(whole.load())][::-1]
    assert len({p.rsplit("\n\n", 1)[0] for p in prompts}) == len(prompts)  # drawn anew for each item
    alone = LmEvalTask("arc_easy", include=yamls)
    assert alone.prompt(alone.load()[7], 4).question == prompts[7]
    assert alone.prompt(alone.load()[7], OWN_SHOTS).question in prompts[7]
