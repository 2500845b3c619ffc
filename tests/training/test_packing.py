"""Rows and batches: nothing lost, nothing cut, the same order for the same seed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.training.packing import Layout, batches_of, lay_out, pack

pytestmark = pytest.mark.unit
LENGTHS = st.lists(st.integers(1, 16), min_size=1, max_size=40)


def _documents(batches: Any) -> list[int]:
    return [d for b in batches for row in b.rows for d in row]


@given(LENGTHS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_document_is_in_one_row_that_has_room(lengths: list[int], random: Any) -> None:
    order = list(range(len(lengths)))
    random.shuffle(order)
    rows = pack(lengths, order, 16)
    assert sorted(d for row in rows for d in row) == list(range(len(lengths)))
    assert all(sum(lengths[d] for d in row) <= 16 for row in rows)


def test_rows_are_filled() -> None:
    assert len(pack([8] * 100, range(100), 16)) == 50


def test_a_document_that_fits_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="17 tokens"):
        pack([3, 17], [0, 1], 16)


@given(LENGTHS, st.booleans(), st.sampled_from(["tokens", "samples"]), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_batches_hold_each_document_once_and_keep_their_size(
    lengths: list[int], packing: bool, unit: Any, size: int
) -> None:
    batches = list(batches_of(lengths, range(len(lengths)), Layout(size, unit, packing, 16)))
    assert sorted(_documents(batches)) == list(range(len(lengths)))
    for batch in batches:
        rows = [sum(lengths[d] for d in row) for row in batch.rows]
        assert packing or all(len(row) == 1 for row in batch.rows)
        if unit == "samples":
            assert sum(len(row) for row in batch.rows) <= size
        else:
            assert len(rows) == 1 or len(rows) * max(rows) <= size


def test_steps_and_epochs_give_whole_steps() -> None:
    layout = Layout(2, "samples", False, 16, seed=3)
    lengths = [4] * 10
    assert len(lay_out(lengths, range(10), layout, per_step=4, steps=7)) == 28
    whole = lay_out(lengths, range(10), layout, per_step=2, epochs=2)
    assert len(whole) == 10
    first = _documents(whole[:5])
    assert sorted(first) == list(range(10))
    assert first != _documents(whole[5:])
    assert len(lay_out(lengths, range(10), layout, per_step=1, epochs=0.4)) == 2


def test_the_order_depends_on_the_seed_alone() -> None:
    def order(seed: int, steps: int) -> list[int]:
        return _documents(lay_out([3] * 9, range(9), Layout(2, "samples", True, 16, seed), per_step=1, steps=steps))

    assert order(1, 12) == order(1, 12)
    assert order(1, 12)[:8] == order(1, 4)
    assert order(1, 12) != order(2, 12)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_replay_makes_up_its_share_of_the_tokens_of_each_epoch(share: float) -> None:
    lengths = [10] * 200 + [7] * 90
    batches = lay_out(
        lengths, range(200), Layout(10, "samples", False, 16), per_step=1, epochs=3, replay=range(200, 290), share=share
    )
    for epoch in range(3):
        read = _documents([b for b in batches if b.epoch == epoch])
        replayed = sum(lengths[d] for d in read if d >= 200)
        assert replayed / sum(lengths[d] for d in read) == pytest.approx(share, abs=0.003)


def test_replay_goes_through_all_of_its_documents_before_any_comes_again() -> None:
    lengths = [10] * 50 + [10] * 30
    batches = lay_out(
        lengths, range(50), Layout(5, "samples", False, 16), per_step=1, epochs=3, replay=range(50, 80), share=1 / 6
    )
    seen = [d for d in _documents(batches) if d >= 50]
    assert len(seen) == 30
    assert len(set(seen)) == 30


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"steps": 1, "epochs": 1}, "either"),
        ({}, "either"),
        ({"steps": 1, "share": 0.1}, "share"),
        ({"steps": 1, "share": 1.0, "replay": [0]}, "share"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lay_out([3], [0], Layout(1, "samples", False, 16), per_step=1, **settings_)
    with pytest.raises(ValueError, match="nothing"):
        lay_out([3], [], Layout(1, "samples", False, 16), per_step=1, steps=1)


@pytest.mark.parametrize("repeat", [0.1, 0.25])
def test_the_beginning_of_the_first_epoch_is_seen_twice_and_nothing_else(repeat: float) -> None:
    layout = Layout(1, "samples", False, 16, seed=1)
    plain = lay_out([4] * 40, range(40), layout, per_step=1, epochs=2)
    found = lay_out([4] * 40, range(40), layout, per_step=1, epochs=2, repeat_first=repeat)
    n = int(40 * repeat)
    once, twice = _documents(plain), _documents(found)
    assert twice[:n] == once[:n]
    assert sorted(twice[n : 2 * n]) == sorted(once[:n])
    assert twice[2 * n :] == once[n:]


@pytest.mark.parametrize("size", [64, 100, 256, 2048])
def test_a_batch_of_tokens_holds_no_more_with_packing_than_without(size: int) -> None:
    lengths = [50] * 40 + [200]
    order = list(range(len(lengths)))
    for packing in (True, False):
        batches = list(batches_of(lengths, order, Layout(size, "tokens", packing, 2048)))
        assert sorted(d for b in batches for row in b.rows for d in row) == order
        for batch in batches:
            rows = [sum(lengths[d] for d in row) for row in batch.rows]
            assert max(rows) * len(rows) <= size or rows == [200]  # a document that is longer stands alone
