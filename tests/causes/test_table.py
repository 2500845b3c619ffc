"""The figures of docs/causes.md: against a loop, and as they move."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.causes import LABELS, Row, figures, lines_of, merged, rows_of
from forgetbench.causes.find import find_causes
from forgetbench.tasks.questions import question_of
from tests.causes.planted import CAUSE_OF, World, mixed_base, mixed_sft, number_of

pytestmark = pytest.mark.unit


def made(n: int, error: float, seed: int) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        truth = rng.choice(LABELS)
        found = rng.choice((*LABELS, "undetermined")) if rng.random() < error else truth
        rows.append(Row(truth, found, f"{i % 3}/{i // 4}", i % 3, i % 10 == 0))
    return rows


def test_recall_precision_and_f1_by_a_loop() -> None:
    rows = made(400, 0.3, 1)
    table = figures(rows, draws=200)
    ones = []
    for label in LABELS:
        right = sum(r.truth == r.found == label for r in rows)
        true, found = sum(r.truth == label for r in rows), sum(r.found == label for r in rows)
        recall, precision = right / true, right / found
        s = table.labels[label]
        assert (s.n, s.n_found) == (true, found)
        assert s.recall[0] == pytest.approx(recall)
        assert s.precision[0] == pytest.approx(precision)
        assert s.f1[0] == pytest.approx(2 * recall * precision / (recall + precision))
        assert s.f1[1] <= s.f1[0] <= s.f1[2]
        ones.append(s.f1[0])
    assert table.macro[0] == pytest.approx(sum(ones) / len(ones))
    assert table.macro[1] <= table.macro_lower <= table.macro[0] <= table.macro[2]


def test_clusters_widen_the_interval() -> None:
    rows = made(300, 0.3, 2)
    alone = figures([r._replace(cluster=str(i)) for i, r in enumerate(rows)], draws=800)
    copies = [r._replace(cluster=str(i // 6)) for i, r in enumerate(r for r in rows for _ in range(6))]
    widths = [t.macro[2] - t.macro[1] for t in (alone, figures(copies, draws=800))]
    assert widths[1] == pytest.approx(widths[0], rel=0.25)
    as_if_alone = figures([r._replace(cluster=str(i)) for i, r in enumerate(copies)], draws=800)
    assert as_if_alone.macro[2] - as_if_alone.macro[1] < 0.6 * widths[1]


def test_a_perfect_search_has_an_f1_of_one() -> None:
    table = figures([r._replace(found=r.truth) for r in made(100, 0.5, 3)], draws=100)
    assert table.macro == (1.0, 1.0, 1.0)


def test_a_search_on_the_made_up_task_becomes_a_table(tmp_path: Path) -> None:
    world = World(tmp_path, mixed_base, mixed_sft)
    causes = find_causes(*world.sides, world.comparison, world)
    items = world.task.load()
    prompts = {i.key: question_of(world.task, i).text for i in items}
    planted = {i.key: {"style": "access", "loop": "unclear", "wrong_language": "unclear"}.get(
        CAUSE_OF[number_of(world, i)], CAUSE_OF[number_of(world, i)]) for i in items}  # fmt: skip
    truth = [{"prompt": prompts[key], "truth": cause, "near_edge": False} for key, cause in planted.items()]
    rows = rows_of(causes, prompts, truth, 0)
    lost = [f for f in causes.found if f.view == "chat" and f.direction == "lost"]
    assert len(rows) == len(lost)
    assert figures([r for r in rows if r.truth in LABELS]).macro[0] >= 0.85
    text = "\n".join(lines_of(rows, {0: causes}, "make it", "abc"))
    assert "`make it` at commit `abc`" in text
    assert "| overwritten | 10 (10) |" in text
    assert merged(replace(lost[0], cause="style")) == "access"
    assert merged(replace(lost[0], cause="not_recovered", overwritten=False)) == "not recovered"
    assert merged(replace(lost[0], cause="loop")) == "other"
