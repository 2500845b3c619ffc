from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.analysis.compare import compare_frames
from forgetbench.analysis.pairing import Selection, pair_frames
from forgetbench.analysis.significance import mcnemar_midp
from forgetbench.analysis.types import Change, Comparison
from forgetbench.errors import Exit, IncomparableError
from forgetbench.types import ItemKey
from tests.analysis.made import BASE, CANDIDATE, compared, flipped, frame, sampled, table, toy

pytestmark = pytest.mark.unit


def change(comparison: Comparison, kind: str, group: str, **wanted: str) -> Change:
    found = [c for c in comparison.changes if (c.kind, c.group) == (kind, group)]
    found = [c for c in found if all(getattr(c, k) == v for k, v in wanted.items())]
    assert len(found) == 1, [(c.kind, c.group, c.metric) for c in comparison.changes]
    return found[0]


def refused(base: pd.DataFrame, candidate: pd.DataFrame, **options: Any) -> list[str]:
    with pytest.raises(IncomparableError) as caught:
        compared(base, candidate, **options)
    assert caught.value.exit_code is Exit.INCOMPARABLE
    return caught.value.differences


def test_figures_of_a_small_table() -> None:
    found = change(toy(30, 10, 400), "task", "toy")
    assert (found.n, found.n_clusters) == (400, 400)
    assert found.base == pytest.approx(0.525)
    assert found.candidate == pytest.approx(0.475)
    assert found.delta == pytest.approx(-0.05)
    assert (found.forgotten, found.gained, found.discordance) == pytest.approx((0.075, 0.025, 0.1))
    assert found.rel_forgotten == pytest.approx(30 / 210)
    assert found.p_value == mcnemar_midp(30, 10)
    assert found.interval.method == "Tango score"
    assert found.interval.low < found.lower < found.delta < found.upper < found.interval.high
    assert found.severity.band == "moderate"


def test_pairs_are_evidence() -> None:
    pairs = toy(2, 1, 10).pairs
    assert [p.flip for p in pairs[:4]] == ["lost", "lost", "gained", "same"]
    assert (pairs[0].base.output, pairs[0].candidate.output) == ("answer 1.0", "answer 0.0")
    assert (pairs[0].base.n_output_tokens, pairs[0].prompt) == (3, "Question?")
    assert pairs[0].candidate_prompt is None
    assert pairs[0].anchor == "toy-000000-0-ability"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40), st.randoms())
@settings(max_examples=25, deadline=None)
def test_permuting_rows_and_swapping_sides(answers: list[tuple[bool, bool]], random: Any) -> None:
    base, candidate = (frame([float(a[i]) for a in answers]) for i in (0, 1))
    straight = compared(base, candidate)
    order = list(range(len(answers)))
    random.shuffle(order)
    shuffled = compared(base.iloc[order], candidate.iloc[order[::-1]])
    assert shuffled.changes == straight.changes
    assert shuffled.pairs == straight.pairs
    swapped = compared(candidate, base)
    for a, b in zip(straight.changes, swapped.changes, strict=True):
        assert a.delta == -b.delta
        assert (a.forgotten, a.gained) == (b.gained, b.forgotten)
        assert a.p_value == b.p_value
        assert a.lower == pytest.approx(-b.upper, abs=1e-9)


def test_every_difference_is_listed_at_once() -> None:
    base, candidate = frame([1.0] * 6), frame([1.0] * 6)
    candidate.loc[0, "gold_hash"] = "other"
    candidate.loc[1, "prompt_text_hash"] = "other"
    candidate.loc[2, "task_type"] = "reasoning/other"
    candidate.loc[3, "content_hash"] = "ffffff"
    found = refused(base, candidate)
    joined = "\n".join(found)
    assert "toy (ability): 1 of 6 items only in base (000003#0)" in joined
    assert "toy (ability): 1 of 6 items only in sft (ffffff#0)" in joined
    assert "the reference answer differs on 1 of 5 items (000000#0)" in joined
    assert "the rendered prompt differs on 1 of 5 items (000001#0)" in joined
    assert "the task_type differs on 1 of 5 items (000002#0)" in joined
    assert len(found) == 5


def test_shared_items_on_request() -> None:
    base, candidate = frame([1.0] * 6), frame([1.0] * 4)
    found = compared(base, candidate, selection=Selection(shared_only=True))
    assert change(found, "task", "toy").n == 4
    assert any("2 of 6 items only in base" in note for note in found.notes)
    chosen = frozenset({ItemKey("toy", "000001", 0), ItemKey("toy", "000002", 0)})
    assert change(compared(base, candidate, selection=Selection(items=chosen)), "task", "toy").n == 2


def test_nothing_shared_is_no_comparison() -> None:
    other = frame([1.0], content_hash="ffffff")
    assert refused(frame([1.0]), other, selection=Selection(shared_only=True)) == ["no item is in both runs"]
    assert refused(frame([1.0]), frame([]))[0].startswith("sft has no records")
    assert refused(frame([1.0]), frame([1.0], view="chat")) == ["no view in common: base has ability; sft has chat"]


def test_copies_of_a_content_are_told_apart() -> None:
    """Two copies with different answers: pairing by content alone would mix them up."""
    columns = {"content_hash": "same", "occurrence": [0, 1]}
    found = compared(frame([1.0, 0.0], **columns), frame([1.0, 0.0], **columns))
    assert [p.flip for p in found.pairs] == ["same", "same"]
    swapped = compared(frame([1.0, 0.0], **columns), frame([0.0, 1.0], **columns))
    assert [p.flip for p in swapped.pairs] == ["lost", "gained"]


def test_a_set_of_copies_counts_once() -> None:
    hashes = [f"{i // 10:04x}" for i in range(1000)]
    occurrences = [i % 10 for i in range(1000)]
    columns = {"content_hash": hashes, "occurrence": occurrences}
    found = compared(frame([1.0] * 1000, **columns), frame([1.0] * 1000, **columns))
    task = change(found, "task", "toy")
    assert (task.n, task.n_clusters) == (1000, 100)
    assert task.lower < -0.02
    assert any("copies count as one cluster" in note for note in found.notes)


def test_decodings_never_mix() -> None:
    greedy = frame([1.0, 1.0, 0.0])
    rates = [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert "decoding differs: base greedy; sft T0.7/p1/K2" in refused(greedy, sampled(rates))[0]
    both = pd.concat([greedy, sampled(rates)])
    found = compared(both, both)
    assert {c.decode_id: c.base for c in found.changes if c.kind == "task"} == pytest.approx(
        {"greedy": 2 / 3, "T0.7/p1/K2": 0.5}
    )
    assert len(found.pairs) == 6


def test_k_samples_are_averaged_per_item() -> None:
    base = sampled([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]] * 20)
    candidate = sampled([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]] * 20)
    found = compared(base, candidate)
    task = change(found, "task", "toy")
    assert (task.n, task.n_clusters) == (60, 60)
    assert (task.base, task.candidate) == pytest.approx((1.25 / 3, 1.25 / 3))
    assert task.test == "cluster bootstrap"
    assert task.forgotten == pytest.approx((0.75 * 0.75 + 0.5 * 0.25) / 3)
    assert [p.flip for p in found.pairs[:3]] == ["lost", "changed", "changed"]
    shown = found.pairs[0]
    assert (shown.base.score, shown.base.output, shown.candidate.output) == (0.75, "answer 1.0", "answer 0.0")


def test_continuous_scores_have_no_flips() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200)
    found = compared(frame(base.tolist(), metric="mc2"), frame((base * 0.9).tolist(), metric="mc2"))
    task = change(found, "task", "toy")
    assert task.forgotten is None
    assert task.discordance is None
    assert task.interval.method.startswith("cluster bootstrap")
    assert task.delta == pytest.approx(-0.1 * base.mean())
    assert {p.flip for p in found.pairs} == {"changed"}


def test_infra_errors_are_dropped_and_counted() -> None:
    outcome = ["infra_error"] + ["ok"] * 9
    base, candidate = frame([1.0] * 10), frame([0.0] + [1.0] * 9, outcome=outcome)
    found = compared(base, candidate)
    task = change(found, "task", "toy")
    assert (task.n, task.dropped_infra, task.delta) == (9, 1, 0.0)
    assert (task.base_rates.infra_error, task.candidate_rates.infra_error) == (0.0, 0.1)
    assert found.pairs[0].flip == "dropped"
    assert found.pairs[0].candidate.score is None
    assert found.pairs[0].candidate.outcome == "infra_error"


def test_one_failed_sample_of_k_leaves_the_others() -> None:
    base = sampled([[1.0, 0.0]] * 5)
    candidate = sampled([[1.0, 0.0]] * 5, outcome=["ok", "infra_error"] + ["ok"] * 8)
    task = change(compared(base, candidate), "task", "toy")
    assert (task.n, task.dropped_infra) == (5, 0)
    assert task.candidate == pytest.approx((1.0 + 4 * 0.5) / 5)


def test_all_infra_errors_make_no_change() -> None:
    found = compared(frame([1.0] * 3), frame([1.0] * 3, outcome="infra_error"))
    assert found.changes == ()
    assert any("not one pair without infra_error" in note for note in found.notes)


def test_rates_count_samples() -> None:
    outcome = ["truncated", "unparsed", "refused", "timeout", *["ok"] * 6]
    task = change(compared(frame([1.0] * 10), frame([0.0] * 10, outcome=outcome)), "task", "toy")
    rates = task.candidate_rates
    assert (rates.truncated, rates.unparsed, rates.refused, rates.timeout) == (0.1, 0.1, 0.1, 0.1)
    assert task.n == 10  # only infra_error leaves the scores


def test_a_missing_score_is_never_taken_as_wrong() -> None:
    candidate = frame([1.0] * 4)
    candidate.loc[1, "scores"] = "{}"
    assert refused(frame([1.0] * 4), candidate) == [
        "toy (ability): 1 records of sft have no score 'acc' and no infra_error"
    ]
    candidate.loc[1, "scores"] = '{"acc": NaN}'
    assert "1 records of sft" in refused(frame([1.0] * 4), candidate)[0]
    candidate.loc[1, "scores"] = "[1]"
    assert "no JSON object" in refused(frame([1.0] * 4), candidate)[0]


def test_doubled_records_are_refused() -> None:
    base = frame([1.0] * 3)
    doubled = pd.concat([base, base.iloc[:1]])
    assert refused(base, doubled) == ["sft has 1 records twice (same item, view, decoding, sample)"]


def test_unknown_outcomes_and_missing_columns() -> None:
    base = frame([1.0])
    assert "unknown outcomes: fine" in refused(base, frame([1.0], outcome="fine"))[0]
    assert "lack the columns gold_hash" in refused(base, base.drop(columns="gold_hash"))[0]


def test_chat_view_keeps_both_prompts() -> None:
    base = pd.concat([frame([1.0] * 4), frame([1.0] * 4, view="chat")])
    own = frame([0.0] * 4, view="chat", prompt_text_hash="own", prompt="<user>Question?")
    found = compared(base, pd.concat([frame([1.0] * 4), own]))
    chat = [p for p in found.pairs if p.view == "chat"]
    assert (chat[0].base.prompt_text_hash, chat[0].candidate.prompt_text_hash) == ("prompt", "own")
    assert (chat[0].prompt, chat[0].candidate_prompt) == ("Question?", "<user>Question?")
    assert any("rendered prompt differs (each has its own template) on 4 of 4" in n for n in found.notes)


def test_a_view_of_one_side_is_a_note() -> None:
    found = compared(frame([1.0] * 4), pd.concat([frame([1.0] * 4), frame([1.0] * 4, view="chat")]))
    assert {c.view for c in found.changes} == {"ability"}
    assert any("chat view not compared: base has no records of it" in note for note in found.notes)


def test_provenance_may_be_missing() -> None:
    imported = frame([1.0] * 4).drop(columns=["prompt_text_hash", "prompt", "source", "round"], errors="ignore")
    found = compared(frame([1.0] * 4), imported)
    assert any("4 items without a prompt hash" in note for note in found.notes)


def test_successes_out_of_trials() -> None:
    columns = {"scores": "{}", "trials": 10.0, "decode_id": "T0.8/p1/K10"}
    base = frame([0.0] * 3, successes=[10.0, 5.0, 0.0], **columns)
    candidate = frame([0.0] * 3, successes=[9.0, 0.0, 0.0], **columns)
    found = compared(base, candidate)
    task = change(found, "task", "toy")
    assert (task.base, task.candidate) == pytest.approx((0.5, 0.3))
    assert task.test == "cluster bootstrap"
    assert [p.flip for p in found.pairs] == ["changed", "lost", "same"]


def test_later_rounds_and_other_replicates_stay_out() -> None:
    base = frame([1.0] * 3)
    triage = frame([0.0] * 3, sample=[1, 2, 3], round=1)
    replicate = frame([0.0] * 3, replicate=1)
    assert change(compared(base, pd.concat([base, triage, replicate])), "task", "toy").candidate == 1.0
    floor = compared(base, pd.concat([base, replicate]), selection=Selection(replicates=(0, 1)))
    assert change(floor, "task", "toy").candidate == 0.0


def test_second_metric_stands_beside_the_first() -> None:
    def both(values: list[float]) -> pd.DataFrame:
        scores = [json.dumps({"flexible": v, "strict": 0.0}) for v in values]
        return frame(values, scores=scores)

    found = compared(both([1.0, 1.0]), both([1.0, 0.0]))
    assert change(found, "task", "toy", metric="flexible").delta == -0.5
    assert change(found, "task", "toy", metric="strict").delta == 0.0
    assert change(found, "task_type_1", "reasoning").metric == "flexible"
    other = compared(both([1.0, 1.0]), both([1.0, 0.0]), metrics={"toy": "strict"})
    assert change(other, "task_type_1", "reasoning").metric == "strict"
    assert {p.metric for p in other.pairs} == {"strict"}
    assert "no record has the metric 'em'" in refused(frame([1.0]), frame([1.0]), metrics={"toy": "em"})[0]


def test_groups_at_both_levels_and_strata() -> None:
    n = 40
    types = ["reasoning/a"] * 20 + ["reasoning/b"] * 20
    one = frame([1.0] * n, task="one", task_type=types, stratum=["x", "y"] * 20)
    two = frame([1.0] * n, task="two", task_type="knowledge")
    worse = frame([0.0] * 20 + [1.0] * 20, task="one", task_type=types, stratum=["x", "y"] * 20)
    found = compared(pd.concat([one, two]), pd.concat([worse, two]))
    deltas = {(c.kind, c.group): c.delta for c in found.changes}
    assert deltas == {
        ("task", "one"): -0.5,
        ("task", "two"): 0.0,
        ("task_type_1", "reasoning"): -0.5,
        ("task_type_1", "knowledge"): 0.0,
        ("task_type_2", "reasoning/a"): -1.0,
        ("task_type_2", "reasoning/b"): 0.0,
        ("stratum", "one/x"): -0.5,
        ("stratum", "one/y"): -0.5,
    }


def test_strata_are_no_clusters_and_clusters_are() -> None:
    base, candidate = table(40, 20, 400)
    order = np.random.default_rng(0).permutation(400)
    strata = compared(
        frame(np.array(base)[order].tolist(), stratum=[f"s{i % 10}" for i in range(400)]),
        frame(np.array(candidate)[order].tolist(), stratum=[f"s{i % 10}" for i in range(400)]),
    )
    assert change(strata, "task", "toy").n_clusters == 400
    clusters = [f"fact {i // 4}" for i in range(400)]  # flips come in whole clusters here
    clustered = compared(frame(base, cluster=clusters), frame(candidate, cluster=clusters))
    task = change(clustered, "task", "toy")
    assert task.n_clusters == 100
    plain = change(strata, "task", "toy")
    assert task.interval.high - task.interval.low > 1.7 * (plain.interval.high - plain.interval.low)


def test_a_cluster_may_span_tasks() -> None:
    parts = [frame([1.0] * 10, task=t, cluster=[f"f{i}" for i in range(10)]) for t in ("one", "two")]
    both = pd.concat(parts)
    assert change(compared(both, both), "task_type_1", "reasoning").n_clusters == 10
    other = pd.concat([parts[0].assign(cluster="all"), parts[1]])
    assert "the cluster differs on 10 of 10 items" in refused(both, other)[0]


def test_identical_runs() -> None:
    same = frame([1.0, 0.0] * 100)
    task = change(compared(same, same), "task", "toy")
    assert (task.delta, task.p_value) == (0.0, 1.0)
    assert task.interval.low == pytest.approx(-3.8416 / 203.8416, abs=1e-4)
    assert task.severity.band == "none"


def test_same_seed_same_result() -> None:
    rng = np.random.default_rng(0)
    base, candidate = rng.random(100), rng.random(100)
    runs = [compared(frame(base.tolist()), frame(candidate.tolist()), seed=s).changes for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.slow
def test_full_mmlu_in_three_seconds() -> None:
    """14,042 items in 57 subjects, 10,000 draws, with and without clusters."""
    import time

    rng = np.random.default_rng(0)
    base, candidate = flipped(rng, 14_042, 0.15, -0.01)
    subjects = [f"subject {i % 57}" for i in range(14_042)]
    types = [f"knowledge/{i % 57 % 4}" for i in range(14_042)]
    for clusters in (None, [f"c{i // 2}" for i in range(14_042)]):
        columns = {"stratum": subjects, "task_type": types, "cluster": clusters, "task": "mmlu"}
        frames = frame(base.tolist(), **columns), frame(candidate.tolist(), **columns)
        seconds = math.inf
        for _ in range(3):  # the cores are shared: the best of three is what the code takes
            start = time.perf_counter()
            found = compare_frames(*frames, base=BASE, candidate=CANDIDATE, suite="mmlu", bootstrap=10_000)
            seconds = min(seconds, time.perf_counter() - start)
        assert len(found.changes) == 1 + 1 + 4 + 57
        assert len(found.pairs) == 14_042
        assert seconds <= 3.0


def test_pairing_is_sorted_by_item() -> None:
    base = frame([1.0, 0.0, 1.0])
    pairing = pair_frames(base.iloc[::-1], base)
    (scores,) = pairing.scores
    assert scores.base.tolist() == scores.candidate.tolist() == [1.0, 0.0, 1.0]
