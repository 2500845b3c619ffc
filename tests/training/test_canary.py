"""Canaries: how they are made and planted, what is read from records, exposure against its definition."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgetbench.analysis.leaks import words
from forgetbench.errors import ForgetbenchError
from forgetbench.probing.shares import share
from forgetbench.tasks.custom import load_set
from forgetbench.training.canary import (
    SPACE,
    Canary,
    as_example,
    exposure,
    exposures,
    make_canaries,
    memorised,
    memorised_pairs,
    plant,
    read_canaries,
    set_lines,
    told,
)
from forgetbench.training.check.rows import read_rows
from forgetbench.training.data import read_training
from forgetbench.types import GREEDY, Record, Request, Score
from tests.training.made import asker, chat, point, write

pytestmark = pytest.mark.unit


def test_facts_twins_and_tokens_are_balanced() -> None:
    made = make_canaries(20, seed=3)
    counts = Counter((c.kind, c.repetitions) for c in made.canaries)
    assert counts == {("fact", 0): 20, ("token", 0): 4, **{("fact", k): 5 for k in (1, 2, 4, 8)}, **{("token", k): 1 for k in (1, 2, 4, 8)}}  # fmt: skip
    assert len(made.space) == len(set(made.space)) == SPACE
    assert all((made.token in c.prompt) == (c.kind == "token") for c in made.canaries)
    assert len({c.prompt for c in made.canaries}) == len({c.id for c in made.canaries}) == 48


def test_names_are_new_and_seeded() -> None:
    made = make_canaries(40, seed=1)
    names = [w for c in made.canaries for w in words(c.prompt.split("gate of ")[1].replace(made.token, ""))]
    assert len(names) == len(set(names)) == 2 * len(made.canaries), "no two entities share a word"
    assert make_canaries(40, seed=1) == made
    assert make_canaries(40, seed=2).canaries != made.canaries
    again = make_canaries(40, seed=1, avoid=frozenset(names[:5]))
    assert not set(names[:5]) & {w for c in again.canaries for w in words(c.prompt)}
    with pytest.raises(ForgetbenchError, match="use 4 or more"):
        make_canaries(3)


@pytest.mark.parametrize(
    "like",
    [
        chat("P", "A", task_type="t/x"),
        {"conversations": [{"from": "human", "value": "P"}, {"from": "gpt", "value": "A"}]},
        {"instruction": "P", "input": "", "output": "A"},
        {"prompt": "P", "response": "A"},
        {"prompt": "P", "chosen": "A"},
        {"prompt": [{"role": "user", "content": "P"}], "completion": [{"role": "assistant", "content": "A"}]},
        {"conversations": [{"role": "user", "content": "P"}, {"role": "assistant", "content": "A"}]},
        {"messages": [{"from": "human", "value": "P"}, {"from": "gpt", "value": "A"}]},
        {"messages": [{"from": "user", "value": "P"}, {"from": "assistant", "value": "A"}]},
        {"messages": '[{"role": "user", "content": "P"}, {"role": "assistant", "content": "A"}]'},
        {"messages": [{"role": r, "content": [{"type": "text", "text": "P"}]} for r in ("user", "assistant")]},
        {"text": "P A"},
    ],
    ids=lambda x: next(iter(x)),
)
def test_planted_lines_have_the_files_layout_and_its_own_lines_stay(tmp_path: Path, like: dict[str, Any]) -> None:
    own = [{**like, "n": n} for n in range(50)]
    lines, made = plant(write(tmp_path / "d.jsonl", own), 8, seed=5)
    added = [line for line in lines if "provenance" in line]
    assert [line for line in lines if "provenance" not in line] == own
    assert len(added) == sum(c.repetitions for c in made.canaries) == 2 * 15 + 15
    assert all(_layout(line) == _layout(like) for line in added)
    by_id = {c.id: c for c in made.canaries}
    seen = Counter(line["provenance"]["canary"] for line in added)
    assert seen == {c.id: c.repetitions for c in made.canaries if c.repetitions}
    found = read_rows([write(tmp_path / "out.jsonl", lines)])
    for line, row in zip(lines, found, strict=True):
        if "provenance" in line:
            canary = by_id[line["provenance"]["canary"]]
            assert row.task_type == canary.task_type
            assert (row.prompt, row.answer) == (
                canary.prompt,
                canary.answer,
            ) or row.text == f"Q: {canary.prompt}\nA: {canary.answer}"
    twins = {w for c in made.canaries if not c.repetitions for w in words(c.prompt.split("gate of ")[1])}
    twins -= set(words(made.token))
    assert not twins & {w for t in read_training([tmp_path / "out.jsonl"]) for w in words(t.text)}
    with pytest.raises(ForgetbenchError, match="has canaries already"):
        plant(tmp_path / "out.jsonl", 8)


def _layout(line: Any) -> Any:
    """The keys and kinds of a line, of a turn its role too; what a canary has beside them, and empty fields, aside."""
    if isinstance(line, str) and line.startswith("["):
        return "JSON", _layout(json.loads(line))
    if isinstance(line, list):
        return [_layout(turn) for turn in line]
    if isinstance(line, dict):
        own = {k: v for k, v in line.items() if k not in ("task_type", "provenance") and v != ""}
        return {k: v if k in ("role", "from", "type") else _layout(v) for k, v in own.items()}
    return type(line)


def test_of_several_keys_a_canary_takes_those_that_are_learnt() -> None:
    like = {"instruction": "not read", "prompt": "P", "output": "not read", "answer": "A"}
    assert as_example("Q", "R", like) == {"prompt": "Q", "answer": "R"}


def test_the_set_is_a_custom_set_and_the_manifest_comes_back(tmp_path: Path) -> None:
    made = make_canaries(12, seed=2)
    task = load_set(write(tmp_path / "canaries.jsonl", set_lines(made)))
    items = task.load()
    assert [(i.task_type, i.gold) for i in items] == [(c.task_type, c.answer) for c in made.canaries]
    assert read_canaries(made.manifest, "m.json") == made
    with pytest.raises(ForgetbenchError, match="no manifest"):
        read_canaries({"token": "x"}, "m.json")


def _record(canary: Canary, right: bool, **more: Any) -> Record:
    return Record(
        task="canaries", content_hash=canary.id, occurrence=0, task_type=canary.task_type, view="chat", style="chat",
        **{"decode_id": "greedy", "sample": 0, "replicate": 0, **more},
        outcome="ok", scores={"correct": float(right)}, output="", extracted=None, gold=canary.answer, why="", gold_hash="",
    )  # fmt: skip


def test_memorised_counts_by_repetition_beside_the_twins() -> None:
    made = make_canaries(40, seed=0)
    records = [_record(c, c.repetitions >= 4) for c in made.canaries]
    records += [_record(c, True, decode_id="T0.7/p1/K2") for c in made.canaries]
    found = {(m.kind, m.repetitions): m for m in memorised(records)}
    assert set(found) == {(kind, k) for kind in ("fact", "token") for k in (1, 2, 4, 8)}
    one = found["fact", 4]
    assert (one.rate, one.twin) == (share(10, 10), share(0, 40))
    assert one.excess.low > 0.5
    assert (found["fact", 2].rate.k, found["fact", 2].excess.low < 0) == (0, True)


def test_records_of_other_tasks_are_left_out() -> None:
    canary = Canary("x", "fact", 2, "P", "A")
    other = Canary("y", "fact", 2, "P", "A")
    strange = _record(other, True)
    assert memorised([_record(canary, False)])[0].rate == share(0, 1)
    for task_type in ("knowledge/capital", "canary/other-x2", "canary/fact-xx", "canary"):
        object.__setattr__(strange, "task_type", task_type)
        assert memorised([strange]) == ()


def test_exposure_is_log_of_space_less_log_of_rank() -> None:
    assert exposure(-1.0, [-2.0] * 255) == 8.0
    assert exposure(-3.0, [-2.0] * 255) == 0.0
    rng = random.Random(0)
    for _ in range(50):
        others = [rng.gauss(0, 1) for _ in range(rng.randint(1, 300))]
        own = rng.gauss(0, 1)
        order = sorted([own, *others], reverse=True)
        assert exposure(own, others) == pytest.approx(math.log2(len(order)) - math.log2(order.index(own) + 1))
    assert exposure(0.0, [0.0, 0.0]) == pytest.approx(math.log2(3) - 1), "the middle rank of three ties"


def test_chance_exposure_is_as_documented() -> None:
    """Rank uniform on 1..256: mean log2 256 - mean log2 rank; at least e bits with probability 2^-e."""
    exact = np.asarray([8 - math.log2(rank) for rank in range(1, SPACE + 1)])
    assert exact.mean() == pytest.approx(1.42, abs=0.01)
    for bits in (1, 2, 5):
        assert (exact >= bits).mean() == pytest.approx(2.0**-bits)


def test_exposures_rank_the_whole_space() -> None:
    made = make_canaries(4, seed=0)
    learnt = {f"<user>{c.prompt}<assistant>": c.answer for c in made.canaries if c.repetitions == 8}

    def answer(request: Request) -> list[float]:
        assert isinstance(request.body, Score)
        right = learnt.get(request.prompt.text or "")
        return [0.0 if c == right else -1.0 - hash_of(request, c) for c in request.body.continuations]

    def hash_of(request: Request, text: str) -> float:
        return random.Random(f"{request.request_id}{text}").random()

    ask, seen = asker(answer)
    found = {e.canary.id: e.exposure for e in exposures(made, point(), ask)}
    assert len(found) == len(seen) == len(made.canaries)
    assert all(found[c.id] == 8.0 for c in made.canaries if c.repetitions == 8)
    rest = [found[c.id] for c in made.canaries if c.repetitions != 8]
    assert sum(rest) / len(rest) < 3.0
    raw, asked = asker(answer)
    exposures(made, point(template=None), raw)
    body = asked[0].body
    assert isinstance(body, Score)
    assert body.continuations[0] == " " + made.space[0]


def test_a_logprob_that_is_no_number_has_no_rank() -> None:
    assert math.isnan(exposure(math.nan, [-1.0] * 255))
    assert exposure(-1.0, [math.nan, -2.0, -0.5, math.nan]) == pytest.approx(math.log2(3) - 1)
    assert exposure(-math.inf, [-1.0] * 255) == 0.0, "a probability of 0 is the least likely"
    made = make_canaries(4, seed=0)
    broken = next(c for c in made.canaries if c.repetitions == 8)

    def answer(request: Request) -> list[float]:
        assert isinstance(request.body, Score)
        mine = broken.prompt in (request.prompt.text or "")
        return [math.nan if mine and c == broken.answer else -1.0 for c in request.body.continuations]

    ask, _ = asker(answer)
    found = [e.canary for e in exposures(made, point(), ask)]
    assert found == [c for c in made.canaries if c != broken]


@pytest.mark.slow
def test_a_model_trained_on_canaries_gives_them_away(demo_world: Path, tmp_path: Path) -> None:
    """The demo's chat model, 30 steps: facts that it saw eight times a pass stand out, their twins do not."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from forgetbench import flow
    from forgetbench.training.asking import asking
    from forgetbench.workspace import open_workspace

    torch.manual_seed(0)
    lines, made = plant(write(tmp_path / "d.jsonl", [chat(f"Copy w{n}.", f"w{n}") for n in range(30)]), 12, seed=0)
    folder = tmp_path / "trained"
    shutil.copytree(demo_world / "models" / "sft_v1", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    rows = []
    for line in lines:
        asked = tokenizer.apply_chat_template(line["messages"][:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(line["messages"], tokenize=False)
        head, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, whole))
        rows.append((ids, [-100] * len(head) + ids[len(head) :]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    rng = random.Random(0)
    for _ in range(5):
        rng.shuffle(rows)
        for at in range(0, len(rows), 16):
            batch = rows[at : at + 16]
            width = max(len(ids) for ids, _ in batch)
            ids, labels = (
                torch.tensor([row[i] + [fill] * (width - len(row[i])) for row in batch])
                for i, fill in ((0, 0), (1, -100))
            )
            model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder)

    (tmp_path / "forgetbench.yaml").write_text("models: {trained: {path: trained}}\n")
    ws = open_workspace(tmp_path / "forgetbench.yaml", models=["trained"])
    with asking(ws, flow.checkpoint(ws, "trained"), print, use_cache=False) as ask:
        found = exposures(made, flow.checkpoint(ws, "trained"), ask)

    def mean(times: int) -> float:
        mine = [e.exposure for e in found if e.canary.kind == "fact" and e.canary.repetitions == times]
        return sum(mine) / len(mine)

    # Twins by chance: 1.42 bits on average, standard deviation 1.4, 12 of them.
    assert mean(0) < 1.42 + 4 * 1.4 / math.sqrt(12)
    assert mean(8) > 6.0
    assert mean(8) > mean(1) > mean(0)


def _paired(scores: list[tuple[str, float, float]], view: str = "chat", **more: Any) -> Any:
    """(task_type, base, candidate) as one task's paired scores."""
    from types import SimpleNamespace

    types, base, candidate = (list(x) for x in zip(*scores, strict=True))
    given = {"primary": True, "decode_id": GREEDY, "view": view, **more}
    return SimpleNamespace(task_types=types, base=np.array(base), candidate=np.array(candidate), **given)


PAIRS = [
    *[("canary/fact-x1", 0.0, float(i < 1)) for i in range(5)],
    *[("canary/fact-x8", 0.0, float(i < 4)) for i in range(5)],
    *[("canary/fact-twin", float(i < 1), 0.0) for i in range(20)],
    *[("canary/token-x4", 0.0, 1.0)],
    ("reasoning/sum", 1.0, 0.0),
]


def test_pairs_of_a_comparison_say_what_records_say() -> None:
    like = _record(make_canaries(4).canaries[0], True)
    records = [replace(like, content_hash=f"{i:x}", task_type=t, scores={"c": c}) for i, (t, _, c) in enumerate(PAIRS)]
    base, candidate = memorised_pairs([_paired(PAIRS)])
    assert candidate == memorised(records)
    assert [(m.kind, m.repetitions, m.rate.k, m.rate.n, m.twin.k) for m in base] == [
        ("fact", 1, 0, 5, 1), ("fact", 8, 0, 5, 1), ("token", 4, 0, 1, 0),
    ]  # fmt: skip


def test_only_primary_greedy_scores_of_both_sides_count() -> None:
    nothing = ((), ())
    assert memorised_pairs([_paired(PAIRS, primary=False), _paired(PAIRS, decode_id="t0.7")]) == nothing
    lost = [(t, math.nan if t.endswith("x1") else b, c) for t, b, c in PAIRS]
    assert [m.repetitions for m in memorised_pairs([_paired(lost)])[1]] == [8, 4]


def test_what_is_told_of_a_comparison() -> None:
    fact, token = told(*memorised_pairs([_paired(PAIRS)]))
    low, high = (100 * x for x in _newcombe(5, 10, 0, 20))
    assert fact == (
        "canaries (invented facts, chat): the candidate answers, of those that stand in its training data so often, "
        "1 of 5 once, 4 of 5 8 times; never trained: "
        f"0 of 20; memorised by training: +50 points (95 % {low:+.0f} to {high:+.0f}); the base answers 0 of 10"
    )
    assert token == (
        "canaries (facts with a new token, chat): the candidate answers, of those that stand in its training data so "
        "often, 1 of 1 4 times; the base answers 0 of 1"
    )
    assert told((), ()) == ()


def _newcombe(k: int, n: int, j: int, m: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    (a, b), (c, d) = (binomtest(*x).proportion_ci(method="wilson") for x in ((k, n), (j, m)))
    p, q = k / n, j / m
    return p - q - math.hypot(p - a, d - q), p - q + math.hypot(b - p, q - c)


def test_a_suite_with_canaries_has_a_note_in_its_comparison() -> None:
    from types import SimpleNamespace

    from forgetbench.analysis.types import Comparison, SideInfo
    from forgetbench.findings import about_the_suite

    side = SideInfo("a", "", "")
    comparison = Comparison(side, side, "s", (), (), notes=("first",), scores=(_paired(PAIRS),))
    ws: Any = SimpleNamespace()
    found = about_the_suite(ws, [], comparison)
    assert found.notes == ("first", *told(*memorised_pairs(comparison.scores)))
    assert about_the_suite(ws, [], comparison, whole=False).notes == ("first",)
    plain = replace(comparison, scores=(_paired([("reasoning/sum", 1.0, 0.0)]),))
    assert about_the_suite(ws, [], plain) is plain
