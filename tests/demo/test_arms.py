"""The proof of `ab`: its data (2 s), and a small version of it, trained for real (one seed, three arms, some 100 CPU seconds)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from benchmarks.arms_table import page
from forgetbench.arms.config import load_experiment
from forgetbench.arms.frontier import Frontier
from forgetbench.arms.run import Results, grader_call, run
from forgetbench.config import load_policy, load_suite
from forgetbench.demo.abilities import ABILITIES
from forgetbench.demo.arms import ARMS, SETTINGS, arms, write_arms
from forgetbench.demo.arms_data import HERBS, TARGETS, Target, general_items, herb_items, herbs, target_items
from forgetbench.demo.build import paths
from forgetbench.demo.sets import REQUIRED
from forgetbench.demo.tokenizer import chat_text, make_tokenizer, save
from forgetbench.demo.world import World, make_world
from forgetbench.report.frontier_words import headline
from forgetbench.report.numbers import points
from forgetbench.training.tokenise import Reading, Source, read_samples


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arms")
    write_arms(folder, folder / "base")
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.unit
@pytest.mark.parametrize("target", get_args(Target))
def test_no_question_is_in_two_splits(world: World, target: Target) -> None:
    asked = [{item.prompt for item in target_items(target, split, world)} for split in ("train", "dev", "test")]
    assert all(asked)
    assert len(set.union(*asked)) == sum(map(len, asked))
    assert len(asked[2]) >= 80


@pytest.mark.unit
def test_every_herb_is_learnt_and_asked_and_every_phrasing_too() -> None:
    learnt, asked = herb_items("train"), herb_items("test")
    assert {i.cluster for i in learnt} == {i.cluster for i in asked} == set(herbs())
    assert len(learnt) == 3 * HERBS
    assert len(asked) == 2 * HERBS

    def phrasings(items: list[Any]) -> set[str]:
        return {item.prompt.replace(item.cluster, "{}") for item in items}

    assert phrasings(learnt) == phrasings(asked)
    assert len(phrasings(learnt)) == 6
    assert all(item.answer == herbs()[item.cluster] for item in [*learnt, *asked])


@pytest.mark.unit
def test_general_items_are_of_every_ability_and_of_their_split(world: World) -> None:
    test = [item for name in REQUIRED for item in general_items(name, "test", world, 20)]
    dev = [item for name in REQUIRED for item in general_items(name, "dev", world, 20)]
    assert {item.task_type for item in test} == set(ABILITIES)
    assert len(test) == 20 * len(ABILITIES)
    assert not {item.prompt for item in test} & {item.prompt for item in dev}


@pytest.mark.unit
def test_nothing_that_is_trained_on_is_asked(files: Path) -> None:
    """Facts and sums of the world are learnt by its base and may come again in replay; skills may not."""
    asked = {line["prompt"] for file in (files / "sets").glob("*.jsonl") for line in lines(file)}
    memory = ("knowledge", "reasoning")
    for file in (*(files / "train").iterdir(), files / "replay" / "chats.jsonl"):
        learnt = {
            line["messages"][0]["content"] for line in lines(file) if line["task_type"].split("/")[0] not in memory
        }
        assert learnt
        assert not learnt & asked, file.name


@pytest.mark.unit
def test_chats_are_learnt_as_the_template_renders_them(world: World, files: Path, tmp_path: Path) -> None:
    """The blank before an answer belongs to the assistant's turn; a second one would be another token."""
    from transformers import AutoTokenizer

    save(make_tokenizer(world), tmp_path, chat=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    file = files / "train" / "herb.jsonl"
    samples = read_samples([Source(file)], tokenizer, Reading(256, need_task_type=True))
    for sample, line in zip(samples, lines(file), strict=True):
        asked, answered = chat_text(*(message["content"] for message in line["messages"]))
        assert tokenizer.decode(sample.ids) == asked + answered
        assert tokenizer.decode(sample.ids[sample.mask > 0]) == answered
    replay = [Source(files / "replay" / name) for name in ("chats.jsonl", "pages.jsonl")]
    tokens = [sum(len(s.ids) for s in read_samples([one], tokenizer, Reading(256))) for one in replay]
    assert 0.5 < tokens[0] / tokens[1] < 2.0, "replay is about half chats and half pages"


@pytest.mark.unit
@pytest.mark.parametrize("target", get_args(Target))
def test_the_experiment_has_fourteen_arms_and_can_be_read(files: Path, target: Target) -> None:
    plan = load_experiment(files / f"experiment-{target}.yaml")
    assert list(plan.experiment.arms) == list(arms(SETTINGS[target])) == list(ARMS)
    assert len(plan.experiment.arms) == 14
    assert plan.experiment.seeds == (0, 1, 2)
    suite, _ = load_suite(str(files / f"suite-{target}.yaml"), files)
    assert len(suite.tasks) == 7
    policy = load_policy(str(files / "policy.yaml"), files)
    assert {rule.task_type for rule in policy.rules if rule.required} == set(REQUIRED)
    assert TARGETS[target] in plan.experiment.target.task_types


@pytest.fixture(scope="module")
def small(demo_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("small")
    base = paths(demo_world).sft_v1
    made = write_arms(folder, base, per_type=40, seeds=(0,), only=("full", "replay-20", "no-op"))
    plan = load_experiment(made["route"])
    return run(plan, folder / "out", grader_call(plan))


@pytest.fixture(scope="module")
def front(small: Results) -> Frontier:
    return small.frontier()


@pytest.mark.slow
def test_every_arm_ends_and_the_no_op_changes_nothing(small: Results, front: Frontier) -> None:
    assert not small.failed
    (noop,) = [s for s in front.stands if s.noop]
    assert (noop.target.value, noop.general.value) == (0.0, 0.0)
    assert (noop.general.both.low, noop.general.both.high) == (0.0, 0.0)
    assert noop.states == ("PASS",)
    assert not noop.acceptable, "it has gained nothing"


@pytest.mark.slow
def test_both_learn_the_target_and_full_pays_for_it(front: Frontier) -> None:
    stands = {s.arm: s for s in front.stands}
    assert front.base_target < 0.05
    assert front.at is not None
    assert front.at > 0.6
    assert stands["full"].reaches
    assert stands["replay-20"].reaches
    assert stands["full"].states == ("FAIL",)
    assert stands["full"].general.both.high < -0.1


@pytest.mark.slow
def test_replay_keeps_more_at_the_same_target(front: Frontier) -> None:
    """Paired on the same items: the 95 % interval of the difference lies above ten points."""
    (found,) = [v for v in front.versus if (v.arm, v.other) == ("replay-20", "full")]
    assert found.beats
    assert found.general.both.low > 0.1
    assert "full" not in front.unbeaten
    assert any("One seed" in note for note in front.notes)


@pytest.mark.slow
def test_the_page_has_a_row_for_each_arm_with_the_figures_of_the_frontier(small: Results, front: Frontier) -> None:
    text = page({"route": small}, {"route": front}, "make it", "at commit `abc`")
    rows = [line for line in text.split("Points against the base")[1].splitlines() if line.startswith("| `")]
    for stand in front.stands:
        table, abilities = [row for row in rows if row.startswith(f"| `{stand.arm}` |")]
        assert points(stand.general.value) in table
        assert len(abilities.split("|")) == 2 + 1 + len(REQUIRED)
    assert headline(front) in text
    assert "Made by `make it` at commit `abc`." in text
