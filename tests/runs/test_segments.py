"""Segments: what is torn or flipped is dropped and reported, all else is read; acknowledged means durable."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forgetbench.runs import segments
from forgetbench.runs.files import DiskFullError
from forgetbench.runs.segments import SegmentWriter, Stored, pack, scan_folder, scan_segment
from forgetbench.types import Generation, Response
from tests.runs.test_codec import responses

pytestmark = pytest.mark.unit


def response(i: int, text: str = "plain") -> Response:
    return Response(f"id{i}", (Generation(text, (1, 2), "stop", (-0.5, -0.25)),))


# Text that tries to look like lines of a segment.
TEXTS = ["plain", 'deadbeef {"id":"forged","final":true,', "two\nlines", "日本 é \ud800", ""]
RESPONSES = [response(i, t) for i, t in enumerate(TEXTS)]
LINES = [pack(r) for r in RESPONSES]
ENDS = [sum(map(len, LINES[: i + 1])) for i in range(len(LINES))]


def read_all(path: Path) -> tuple[list[Response], list[segments.Damage]]:
    found, damage = scan_segment(path)
    assert len({i for i, _ in found}) == len(found), "a line is doubled or invented"
    index = segments.ResponseIndex(dict(found))
    with index.reader() as read:
        return [read(i) for i, _ in found], damage


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    blob = b"".join(LINES)
    path = tmp_path / "s.jsonl"
    for cut in range(len(blob) + 1):
        path.write_bytes(blob[:cut])
        got, damage = read_all(path)
        # A line that lacks nothing but its newline is whole: its crc proves it.
        complete = sum(end - 1 <= cut for end in ENDS)
        assert got == RESPONSES[:complete], cut
        inside = cut not in (0, *ENDS, *(end - 1 for end in ENDS))
        assert [d.kind for d in damage] == (["torn"] if inside else []), cut


@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF, "newline"])
def test_any_flipped_byte_costs_its_line_and_is_reported(tmp_path: Path, flip: int | str) -> None:
    blob = b"".join(LINES)
    path = tmp_path / "s.jsonl"
    for at in range(len(blob)):
        damaged = bytearray(blob)
        damaged[at] = 0x0A if flip == "newline" else damaged[at] ^ int(flip)
        if damaged == blob:
            continue
        path.write_bytes(damaged)
        got, damage = read_all(path)
        hit = next(i for i, end in enumerate(ENDS) if at < end)
        others = RESPONSES[:hit] + RESPONSES[hit + 1 :]
        if at == ENDS[hit] - 1 and hit + 1 < len(ENDS):  # two lines joined, both intact
            assert got == RESPONSES, at
        else:
            assert got == others, at
        assert len(damage) >= 1, at
        assert damage[0].line == hit + 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(responses, min_size=1, max_size=4), st.data())
def test_torn_tail_of_any_responses(tmp_path: Path, stored: list[Response], data: st.DataObject) -> None:
    stored = [dataclasses.replace(r, request_id=f"{i} {r.request_id}") for i, r in enumerate(stored)]
    lines = [pack(r) for r in stored]
    blob = b"".join(lines)
    cut = data.draw(st.integers(0, len(blob)))
    path = tmp_path / "h.jsonl"
    path.write_bytes(blob[:cut])
    got, damage = read_all(path)
    assert got == stored[: len(got)]
    kept = sum(len(line) for line in lines[: len(got)])
    assert kept - 1 <= cut
    assert len(got) == len(stored) or cut < kept + len(lines[len(got)]) - 1
    assert len(damage) <= 1


def test_first_final_response_wins_and_failures_only_until_then(tmp_path: Path) -> None:
    failed = Response("a", error="first"), Response("a", error="second")
    first, second = response(0, "first"), response(0, "second")
    good = Response("a", first.generations)
    late = Response("a", second.generations)
    (tmp_path / "1.jsonl").write_bytes(b"".join(map(pack, failed)))
    index = scan_folder(tmp_path)
    assert not index.has_final("a")
    with index.reader() as read:
        assert read("a").error == "second"
    (tmp_path / "2.jsonl").write_bytes(pack(good) + pack(late) + pack(failed[0]))
    index = scan_folder(tmp_path)
    assert index.has_final("a")
    with index.reader() as read:
        assert read("a") == good


def test_scan_of_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert scan_folder(tmp_path / "none").locations == {}


def test_acknowledged_only_after_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def sync(fd: int) -> None:
        os.fdatasync(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(segments, "fdatasync", sync)
    acknowledged: list[str] = []

    def stored(batch: list[Stored]) -> None:
        assert synced
        assert batch[-1].where.offset + batch[-1].where.length < synced[-1]
        found, _ = scan_segment(batch[0].where.path)
        assert {s.request_id for s in batch} <= {i for i, _ in found}
        acknowledged.extend(s.request_id for s in batch)

    writer = SegmentWriter(stored)
    for i in range(250):
        writer.put([tmp_path], response(i))
    writer.close()
    assert acknowledged == [f"id{i}" for i in range(250)]
    # Batches of at most 100: a kill never loses more.
    assert len(synced) >= 3


def test_a_response_is_stored_within_the_interval_without_further_calls(tmp_path: Path) -> None:
    done = threading.Event()
    writer = SegmentWriter(lambda batch: done.set())
    try:
        start = time.monotonic()
        writer.put([tmp_path], response(0))
        assert done.wait(5)
        assert time.monotonic() - start < 2  # 0.2 s on a quiet machine
    finally:
        writer.close()


def test_flush_does_not_wait_for_the_interval(tmp_path: Path) -> None:
    got: list[str] = []
    writer = SegmentWriter(lambda batch: got.extend(s.request_id for s in batch), interval=60)
    writer.put([tmp_path], response(0))
    writer.flush()
    assert got == ["id0"]
    writer.close()
    writer.close()


def test_several_folders_get_the_same_response(tmp_path: Path) -> None:
    writer = SegmentWriter(lambda batch: None)
    writer.put([tmp_path / "a", tmp_path / "b"], response(0))
    writer.put([tmp_path / "b"], response(1))
    writer.close()
    assert set(scan_folder(tmp_path / "a").locations) == {"id0"}
    assert set(scan_folder(tmp_path / "b").locations) == {"id0", "id1"}


def test_a_new_writer_never_touches_an_old_segment(tmp_path: Path) -> None:
    torn = tmp_path / "00000000000000000001-1-abc.jsonl"
    torn.write_bytes(LINES[0] + LINES[1][:-9])
    before = torn.read_bytes()
    writer = SegmentWriter(lambda batch: None)
    writer.put([tmp_path], RESPONSES[1])
    writer.close()
    assert torn.read_bytes() == before
    index = scan_folder(tmp_path)
    assert set(index.locations) == {"id0", "id1"}
    assert [d.kind for d in index.damage] == ["torn"]


def test_a_full_disk_is_one_line_and_what_was_acknowledged_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []
    writer = SegmentWriter(lambda batch: got.extend(s.request_id for s in batch))
    writer.put([tmp_path], response(0))
    writer.flush()
    real = os.write

    def write(fd: int, blob: memoryview) -> int:  # half of it fits
        if len(blob) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, bytes(blob[: len(blob) // 2]))

    monkeypatch.setattr(os, "write", write)
    writer.put([tmp_path], response(1))
    with pytest.raises(DiskFullError, match="no space left on the disk") as caught:
        writer.flush()
    assert "\n" not in str(caught.value)
    with pytest.raises(DiskFullError):
        writer.close()
    monkeypatch.undo()
    assert got == ["id0"]
    assert scan_folder(tmp_path).has_final("id0")


def test_an_error_of_the_callback_reaches_the_caller(tmp_path: Path) -> None:
    def stored(batch: list[Stored]) -> None:
        raise ZeroDivisionError

    writer = SegmentWriter(stored)
    writer.put([tmp_path], response(0))
    with pytest.raises(ZeroDivisionError):
        writer.flush()
    with pytest.raises(ZeroDivisionError):
        writer.close()
