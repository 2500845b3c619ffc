"""The whole check on checkpoints that are tables, every probability known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from forgetbench.belief.find import find_divergence
from forgetbench.belief.types import Divergence, Options
from forgetbench.errors import UsageError
from forgetbench.tasks.custom import SetSpec, load_set
from forgetbench.types import Decode, Generate, ItemKey, Read, Score

from .towns import Table, Towns, comparison, side, write_towns

pytestmark = pytest.mark.unit

RIGHT, WRONG, LOOSE = ([f"{kind}{n}" for n in range(size)] for kind, size in (("r", 12), ("w", 8), ("l", 24)))
COUNTRIES = [*RIGHT, *WRONG, *LOOSE]
OPTIONS = Options(max_items=100)


def beliefs() -> dict[str, dict[str, float]]:
    """Right of some, wrong of others, nothing settled of the rest."""
    firm = {c: {f"True{c}": 0.98, "Elsewhere": 0.02} for c in RIGHT} | {c: {f"False{c}": 1.0} for c in WRONG}
    return firm | {c: {f"A{c}": 0.3, f"B{c}": 0.25, f"C{c}": 0.25, f"D{c}": 0.2} for c in LOOSE}


def check(
    folder: Path, candidate: Table, *, chat: bool = False, options: Options = OPTIONS, **more: object
) -> tuple[Divergence, Towns]:
    task = write_towns(folder, COUNTRIES)
    base, other = side("base", task), side("sft", task, chat=chat)
    words = {s.point.digest: s.point.tokenizer() for s in (base, other)}
    asker = Towns({"base": beliefs(), "sft": candidate}, words, **more)  # type: ignore[arg-type]
    return find_divergence(base, other, comparison(), asker, options), asker


def test_a_candidate_that_repeats_the_base_does_not_diverge(tmp_path: Path) -> None:
    found, _ = check(tmp_path, beliefs())
    assert found.gross is not None
    assert found.net is not None
    assert found.floor is not None
    assert found.classes["firm"] + found.classes["mostly"] == len(RIGHT) + len(WRONG)
    assert found.known["HighlyKnown"] == len(RIGHT)
    assert (found.gross.count, found.floor.count, found.net.value) == (0, 0, 0.0)
    assert found.net.interval.low < 0.0 < found.net.interval.high
    assert found.diverged == ()
    assert found.recovery is None
    assert "not proven" in found.reading


def test_the_truth_is_a_divergence_where_the_base_believes_otherwise(tmp_path: Path) -> None:
    candidate = beliefs() | {c: {f"True{c}": 0.9, f"False{c}": 0.1} for c in WRONG}
    found, _ = check(tmp_path, candidate)
    assert {d.kind for d in found.diverged} == {"corrected"}
    assert len(found.diverged) == len(WRONG)
    assert found.net is not None
    assert found.net.value == pytest.approx(len(WRONG) / (len(RIGHT) + len(WRONG)))
    assert found.net.interval.low > 0.0
    assert {p.kind: p.candidate for p in found.parts} == {"lost-correct": 0, "corrected": len(WRONG), "other": 0}
    for d in found.diverged:
        country = d.question.removeprefix("Capital of ").rstrip("?")
        assert (d.belief, d.candidate, d.gold) == (f"False{country}", f"True{country}", f"True{country}")
        assert d.margins is not None
        assert d.margins.candidate == pytest.approx(math.log(0.1 / 0.9))
        assert d.margins.base == pytest.approx(math.log(1.0 / 1e-6))
        assert d.first is not None
        assert (d.first.position, d.first.n_tokens) == (0, 1)
        assert (d.first.expected, d.first.preferred) == (d.belief, d.candidate)
        assert d.first.logprob == pytest.approx(math.log(0.1))
        assert d.recovered_by == ()
    assert found.recovery is not None
    assert (found.recovery.any.diverged, found.recovery.any.n_diverged) == (0, len(WRONG))


def test_items_that_are_also_sampled_count_once(tmp_path: Path) -> None:
    """`--samples` gives each task and view a second job, at a temperature."""
    task = write_towns(tmp_path, COUNTRIES)
    candidate = beliefs() | {c: {f"Bad{c}": 1.0} for c in RIGHT[:5]}
    plain = [side("base", task), side("sft", task)]
    both = [replace(s, jobs=[*s.jobs, *(replace(j, decode=Decode(0.7, n=3)) for j in s.jobs)]) for s in plain]
    made = []
    for sides in (plain, both):
        words = {s.point.digest: s.point.tokenizer() for s in sides}
        asker = Towns({"base": beliefs(), "sft": candidate}, words)
        made.append(find_divergence(*sides, comparison(), asker, OPTIONS))
    assert made[0] == made[1]
    assert made[0].net is not None


def test_a_broken_right_belief_is_lost_correct(tmp_path: Path) -> None:
    found, _ = check(tmp_path, beliefs() | {c: {f"Bad{c}": 1.0} for c in RIGHT[:5]} | {WRONG[0]: {"Bad": 1.0}})
    assert sorted(d.kind for d in found.diverged) == ["lost-correct"] * 5 + ["other"]


def test_an_answer_that_a_statement_brings_back_is_recovered_in_excess_of_luck(tmp_path: Path) -> None:
    candidate = beliefs() | {c: {f"New{c}": 1.0} for c in (*WRONG, *LOOSE)}
    statements = {c: {f"False{c}": 1.0} for c in WRONG}
    found, _ = check(tmp_path, candidate, in_statements=statements)
    assert {d.recovered_by for d in found.diverged} == {("continuation",)}
    assert found.recovery is not None
    assert (found.recovery.any.controls, found.recovery.any.n_controls) == (0, len(LOOSE))
    assert found.recovery.any.excess == 1.0
    assert found.recovery.any.interval is not None
    assert found.recovery.any.interval.low > 0.0
    few = {r.mode: r for r in found.recovery.modes}["few-shot"]
    assert (few.diverged, few.excess) == (0, 0.0)


def test_an_answer_that_ranks_first_is_recovered_by_ranking_net_of_controls(tmp_path: Path) -> None:
    candidate = beliefs() | {c: {f"New{c}": 1.0} for c in (*WRONG, *LOOSE)}
    lucky = 6
    ranked = {c: {f"False{c}": 0.6, f"New{c}": 0.4} for c in WRONG}
    ranked |= {c: {f"A{c}": 0.6, f"New{c}": 0.4} for c in LOOSE[:lucky]}
    found, asker = check(tmp_path, candidate, in_ranking=ranked)
    assert {d.recovered_by for d in found.diverged} == {("ranking",)}
    assert found.recovery is not None
    assert [r.mode for r in found.recovery.modes] == ["continuation", "few-shot", "ranking"]
    by_ranking = found.recovery.modes[-1]
    assert (by_ranking.diverged, by_ranking.n_diverged) == (len(WRONG), len(WRONG))
    assert by_ranking.n_controls == len(LOOSE)
    assert 0 < by_ranking.controls <= lucky  # those whose modal answer was the one that ranks first
    assert found.recovery.any.excess == pytest.approx(1 - by_ranking.controls / len(LOOSE))
    for name, request in asker.asked:
        if name == "belief-recovery" and isinstance(request.body, Score):
            assert len(request.body.continuations) == 4  # the two answers, and the beliefs of two other items
            assert len(set(request.body.continuations)) == 4
            assert all(c.startswith(" ") for c in request.body.continuations)


def test_a_candidate_that_gives_no_answer_says_nothing_else(tmp_path: Path) -> None:
    found, _ = check(tmp_path, beliefs() | {c: {"": 1.0} for c in WRONG})
    assert found.candidate_silent == len(WRONG)
    assert found.reading.endswith(f"; the candidate gave no answer to {len(WRONG)} (the base to 0).")
    assert "not proven" not in found.reading
    assert found.gross is not None
    assert found.gross.count == 0


def test_a_silence_that_the_base_shares_is_told_beside_the_doubt(tmp_path: Path) -> None:
    """Two of twenty without an answer are no reason to keep back that nothing was proven."""
    few, _ = check(tmp_path, beliefs() | {c: {"": 1.0} for c in WRONG[:2]})
    told = "; not proven to be more than the base's own wavering; the candidate gave no answer to 2 (the base to 0)."
    assert few.reading.endswith(told)
    none, _ = check(tmp_path, beliefs())
    assert "no answer" not in none.reading


def test_in_chat_the_floor_of_a_base_without_a_template_is_raw_and_said_so(tmp_path: Path) -> None:
    options = Options(view="chat")
    found, asker = check(tmp_path, beliefs() | {WRONG[0]: {"New": 1.0}}, chat=True, options=options)
    assert len(found.diverged) == 1
    assert any("so that its floor is raw" in note for note in found.notes)
    fresh = [r.prompt.text or "" for name, r in asker.asked if name == "belief-fresh" and r.checkpoint == "sft"]
    assert fresh
    assert all(text.startswith("<user>") for text in fresh)
    assert all(not (r.prompt.text or "").startswith("<") for name, r in asker.asked if name == "belief")


def test_a_candidate_without_a_template_is_not_asked_in_chat(tmp_path: Path) -> None:
    found, asker = check(tmp_path, beliefs(), options=Options(view="chat"))
    assert found.net is None
    assert asker.asked == []
    assert any("cannot be asked in the chat view" in note for note in found.notes)


def test_no_answer_that_classed_an_item_is_used_again_and_the_sides_draw_apart(tmp_path: Path) -> None:
    task = write_towns(tmp_path, COUNTRIES)
    one = side("base", task)
    asker = Towns({"base": beliefs()}, {"base": one.point.tokenizer()})
    found = find_divergence(one, one, comparison(), asker, OPTIONS)
    assert found.net is not None
    assert found.net.interval.low <= 0.0 <= found.net.interval.high
    seeds: dict[str, list[int]] = {"belief": [], "belief-fresh": []}
    for name, request in asker.asked:
        if isinstance(request.body, Generate) and request.body.temperature > 0 and name in seeds:
            seeds[name] += request.body.seeds
    every = [*seeds["belief"], *seeds["belief-fresh"]]
    assert len(set(every)) == len(every)
    held = len(RIGHT) + len(WRONG)
    assert len(seeds["belief-fresh"]) == 5 * (held + held + len(LOOSE))


def test_cost_is_what_was_asked_and_bounded(tmp_path: Path) -> None:
    candidate = beliefs() | {c: {"New": 1.0} for c in (*WRONG, *RIGHT)}
    options = Options(max_items=30, max_recoveries=4, draws=3, samples=2, fresh=3)
    found, asker = check(tmp_path, candidate, options=options)
    assert sum(found.classes.values()) == 30
    for name, cost in found.cost.items():
        mine = [r for n, r in asker.asked if n == name]
        assert (cost.requests, cost.prompt_tokens) == (len(mine), 9 * len(mine))
    assert found.cost["belief"].requests <= 30 * 3 * 2
    assert found.cost["belief-path"].requests == 4
    assert sum(d.recovered_by is not None for d in found.diverged) == 4 < len(found.diverged)
    assert any("were asked for beliefs; left out: " in note for note in found.notes)
    assert any("diverged, beyond the 4 that are followed up" in note for note in found.notes)


def test_an_engine_that_neither_scores_nor_reads_leaves_out_what_needs_it(tmp_path: Path) -> None:
    candidate = beliefs() | {c: {"New": 1.0} for c in WRONG}
    found, _ = check(tmp_path, candidate, cannot=(Score, Read))
    assert len(found.diverged) == len(WRONG)
    assert {(d.margins, d.first) for d in found.diverged} == {(None, None)}
    assert found.recovery is not None
    assert [m.mode for m in found.recovery.modes] == ["continuation", "few-shot"]
    text = " ".join(found.notes)
    assert "no likelihood margins" in text
    assert "no first divergent token" in text
    assert "no recovery by ranking" in text


def test_another_agreement_can_be_given(tmp_path: Path) -> None:
    task = write_towns(tmp_path, COUNTRIES)
    base, other = side("base", task), side("sft", task)
    words = {s.point.digest: s.point.tokenizer() for s in (base, other)}
    asker = Towns({"base": beliefs(), "sft": beliefs() | {c: {"New": 1.0} for c in WRONG}}, words)
    found = find_divergence(base, other, comparison(), asker, OPTIONS, agree=lambda a, b, item: True)
    assert found.diverged == ()


def test_tasks_that_are_not_named_are_not_asked(tmp_path: Path) -> None:
    found, asker = check(tmp_path, beliefs(), options=Options(tasks=frozenset({"others"})))
    assert found.net is None
    assert asker.asked == []


@pytest.mark.parametrize(
    ("name", "note"), [("ranked", "only ranked"), ("humaneval", "programs"), ("ifeval", "programs")]
)
def test_what_holds_no_belief_is_left_out_with_a_note(tmp_path: Path, name: str, note: str) -> None:
    line = {"task_type": "knowledge/x", "prompt": "Which?", "choices": ["a", "b"], "answer": "a"}
    (tmp_path / f"{name}.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    task = load_set(SetSpec(name, tmp_path / f"{name}.jsonl", scorer="choice"))
    asker = Towns({})
    found = find_divergence(side("base", task), side("sft", task), comparison(), asker)
    assert (found.net, asker.asked) == (None, [])
    assert any(note in line for line in found.notes)


def test_the_same_check_twice_is_the_same(tmp_path: Path) -> None:
    candidate = beliefs() | {c: {"New": 1.0} for c in WRONG}
    assert check(tmp_path, candidate)[0] == check(tmp_path, candidate)[0]


@pytest.mark.parametrize("options", [Options(draws=0), Options(temperature=0.0), Options(mostly=0.95)])
def test_options_that_mean_nothing_are_refused(tmp_path: Path, options: Options) -> None:
    with pytest.raises(UsageError):
        check(tmp_path, beliefs(), options=options)


def test_items_are_named_by_their_keys(tmp_path: Path) -> None:
    found, _ = check(tmp_path, beliefs() | {WRONG[0]: {"New": 1.0}})
    (only,) = found.diverged
    assert isinstance(only.key, ItemKey)
    assert only.key.task == "towns"
