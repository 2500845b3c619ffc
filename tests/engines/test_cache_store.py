"""The file of the response cache: shared, killed, damaged, listed, made smaller."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forgetbench.engines import cache_store
from forgetbench.engines.cache_store import ResponseCache, Source
from forgetbench.errors import UsageError
from forgetbench.types import ContinuationScore, Generation, Response
from tests.runs.test_concurrent import start

REPOSITORY = Path(__file__).resolve().parents[2]
DAY = 86_400
pytestmark = pytest.mark.unit


def key(i: int) -> bytes:
    return f"key {i:05d}".encode()


def response(i: int, tokens: int = 40) -> Response:
    draw = random.Random(i)
    logprobs = tuple(draw.uniform(-5, 0) for _ in range(tokens))
    return Response(f"{i:024x}", (Generation(f"answer {i}", tuple(range(tokens)), "stop", logprobs),))


def source(alias: str = "base", checkpoint: str = "c0ffee0123456789", engine: str = '{"name":"fake"}') -> Source:
    return Source(checkpoint, alias, engine)


def fill(path: Path, numbers: range, who: Source, at: float = 0.0) -> None:
    with ResponseCache(path, clock=lambda: at) as cache:
        for i in numbers:
            cache.put(key(i), response(i), who)


def held(path: Path, numbers: range, at: float = 0.0) -> set[int]:
    """Which of the numbers are stored, each looked at."""
    with ResponseCache(path, clock=lambda: at) as cache:
        found = cache.get_many(key(i) for i in numbers)
    assert all(found[key(i)] == response(i) for i in numbers if key(i) in found)
    return {i for i in numbers if key(i) in found}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "responses.sqlite"


SHARE = """
import sys
from pathlib import Path
from forgetbench.engines.cache_store import ResponseCache
from tests.engines.test_cache_store import key, response, source
path, me = Path(sys.argv[1]), int(sys.argv[2])
mine = range(me * 400, me * 400 + 600)  # the last 200 are the next one's first
print("ready", flush=True); sys.stdin.readline()
with ResponseCache(path) as cache:
    for i in mine:
        cache.put(key(i), response(i), source(f"model{me}"))
        if i % 50 == 0:
            cache.flush()
            found = cache.get_many(key(j) for j in range(2000))
            assert all(found[k] == response(int(k[4:])) for k in found)
            assert {key(j) for j in range(mine[0], i + 1)} <= set(found)
"""


def test_processes_share_one_file_from_its_first_moment(file: Path) -> None:
    children = start([["-c", SHARE, str(file), str(n)] for n in range(3)])
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    assert held(file, range(2000)) == set(range(1400))
    with ResponseCache(file) as cache:
        assert sum(row.count for row in cache.ls()) == 1400  # each once


WRITE = """
import sys
from pathlib import Path
from forgetbench.engines import cache_store
from tests.engines.test_cache_store import key, response, source
cache_store.BATCH = 10
first = int(sys.argv[2])
with cache_store.ResponseCache(Path(sys.argv[1])) as cache:
    for i in range(first, first + 100000):
        cache.put(key(i), response(i), source())
        if i % 25 == 24:
            cache.flush()
            print(i, flush=True)
"""


def test_kill_9_while_writing_leaves_a_usable_file(file: Path) -> None:
    rng, promised = random.Random(4), set[int]()
    for attempt in range(5):
        first = attempt * 10_000
        command = [sys.executable, "-c", WRITE, str(file), str(first)]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == f"{first + 24}\n"
            time.sleep(rng.uniform(0, 0.15))
            os.kill(child.pid, signal.SIGKILL)
            flushed = [first + 24, *(int(line) for line in child.stdout.read().splitlines())]
        promised |= set(range(first, flushed[-1] + 1))
        assert promised <= held(file, range(60_000))
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert (
            connection.execute("SELECT count(*) FROM entries").fetchall()
            == connection.execute("SELECT count(*) FROM entries e JOIN payloads p ON p.id = e.id").fetchall()
        )


def test_what_waits_is_stored_after_a_moment_without_being_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_store, "INTERVAL", 0.05)
    with ResponseCache(file) as cache:
        cache.put(key(1), response(1), source())
        end = time.monotonic() + 20
        while not held(file, range(2)) and time.monotonic() < end:
            time.sleep(0.01)
        assert held(file, range(2)) == {1}


def test_the_first_answer_of_a_key_stays(file: Path) -> None:
    fill(file, range(3), source())
    with ResponseCache(file) as cache:
        cache.put(key(1), response(7), source("other"))
    assert held(file, range(3)) == {0, 1, 2}


@pytest.mark.parametrize("tokens", [0, 40])  # stored as it is, and compressed
def test_a_changed_byte_is_never_served(file: Path, tokens: int) -> None:
    with ResponseCache(file) as cache:
        cache.put(key(0), response(0, tokens), source())
        cache.put(key(1), response(1, tokens), source())
    with contextlib.closing(sqlite3.connect(file)) as connection:
        ((payload,),) = connection.execute("SELECT payload FROM payloads WHERE id=1").fetchall()
        for at in range(len(payload)):
            spoilt = bytes([*payload[:at], payload[at] ^ 4, *payload[at + 1 :]])
            with pytest.raises(ValueError, match="checksum"):
                cache_store.unpack(spoilt)
        connection.execute("UPDATE payloads SET payload=? WHERE id=1", (spoilt,))
        connection.commit()
    with ResponseCache(file) as cache:
        assert list(cache.get_many([key(0), key(1)])) == [key(1)]
        cache.put(key(0), response(0), source())  # the damaged one is out of the way
        cache.flush()
        assert set(cache.get_many([key(0), key(1)])) == {key(0), key(1)}


def test_small_answers_are_not_blown_up() -> None:
    score = Response("r", scores=(ContinuationScore(-0.5, True, 1),))
    line = cache_store.encode(score)
    assert len(cache_store.pack(score)) <= len(line) + 5
    assert len(cache_store.pack(response(1, 200))) < 0.6 * len(cache_store.encode(response(1, 200)))


def test_ls_tells_who_answered_what_and_when_it_was_last_used(file: Path) -> None:
    fill(file, range(10), source("base"), at=10 * DAY)
    fill(file, range(10, 30), source("sft", "bad0123456789abc"), at=11 * DAY + 5)
    fill(file, range(30, 35), source("sft", "bad0123456789abc"), at=12 * DAY + 7)
    fill(file, range(35, 36), source("base", engine='{"name":"fake","dtype":"bfloat16"}'), at=9 * DAY)
    held(file, range(5), at=20 * DAY + 100)
    with ResponseCache(file) as cache:
        rows = cache.ls()
    assert [(r.alias, r.engine, r.count, r.first_written, r.last_written, r.last_used) for r in rows] == [
        ("base", {"name": "fake"}, 10, 10 * DAY, 10 * DAY, 20 * DAY),
        ("sft", {"name": "fake"}, 25, 11 * DAY + 5, 12 * DAY + 7, 12 * DAY),
        ("base", {"name": "fake", "dtype": "bfloat16"}, 1, 9 * DAY, 9 * DAY, 9 * DAY),
    ]
    assert [r.bytes for r in rows] == [
        sum(len(cache_store.pack(response(i))) for i in numbers) for numbers in (range(10), range(10, 35), [35])
    ]


def test_hits_write_once_a_day(file: Path) -> None:
    fill(file, range(100), source(), at=5 * DAY)
    now = [5.5 * DAY]
    with ResponseCache(file, clock=lambda: now[0]) as cache:

        def writes() -> int:
            before = cache._connection.total_changes
            cache.get_many(key(i) for i in range(100))
            return cache._connection.total_changes - before

        assert writes() == 0
        now[0] = 6.1 * DAY
        assert writes() == 100
        now[0] = 6.9 * DAY
        assert writes() == 0


def test_prune_takes_what_was_not_used_for_long(file: Path) -> None:
    fill(file, range(20), source(), at=0)
    fill(file, range(20, 30), source("sft"), at=10 * DAY)
    held(file, range(5), at=20 * DAY)
    with ResponseCache(file, clock=lambda: 40.5 * DAY) as cache:
        assert cache.prune(older_than=41).removed == 0
        assert cache.prune(older_than=31, dry_run=True).removed == 15
        assert cache.prune(older_than=31).removed == 15
        assert cache.prune(older_than=30).removed == 10
        assert [r.alias for r in cache.ls()] == ["base"]
    assert held(file, range(30)) == set(range(5))


def test_prune_of_one_model_by_alias_or_digest(file: Path) -> None:
    fill(file, range(5), source("base"), at=0)
    fill(file, range(5, 10), source("base", "feed0123456789ab"), at=9 * DAY)
    fill(file, range(10, 15), source("sft", "feed0123456789ab"), at=9 * DAY)
    with ResponseCache(file, clock=lambda: 10 * DAY) as cache:
        assert cache.prune(checkpoint="feed01", dry_run=True).removed == 10
        assert cache.prune(checkpoint="base", older_than=5, dry_run=True).removed == 5
        assert cache.prune(checkpoint="sft", older_than=5).removed == 0
        for unknown in ("feed", "nobody", ""):
            with pytest.raises(UsageError, match="aliases in it: base, sft"):
                cache.prune(checkpoint=unknown)
        assert cache.prune(checkpoint="base").removed == 10
    assert held(file, range(15)) == set(range(10, 15))


def test_prune_to_a_size_takes_the_longest_unused_and_gives_the_space_back(file: Path) -> None:
    for day in range(4):
        fill(file, range(day * 500, day * 500 + 500), source(f"m{day}"), at=day * DAY)
    held(file, range(250), at=9 * DAY)  # of the oldest, half is used again
    before = file.stat().st_size
    limit = before // 2
    with ResponseCache(file, clock=lambda: 10 * DAY) as cache:
        foretold = cache.prune(max_bytes=limit, dry_run=True)
        assert foretold.removed > 0
        done = cache.prune(max_bytes=limit)
        assert done.file_before >= before
        assert abs(done.removed - foretold.removed) <= 100
        assert cache.prune(max_bytes=limit).removed == 0
    assert 0.8 * limit < file.stat().st_size <= limit
    left = held(file, range(2000), at=9 * DAY)
    gone = sorted((i // 500 if i >= 250 else 9, i) for i in set(range(2000)) - left)
    kept = sorted((i // 500 if i >= 250 else 9, i) for i in left)
    assert gone[-1] < kept[0]


def test_prune_all_empties_the_file(file: Path) -> None:
    fill(file, range(2000), source())
    with ResponseCache(file) as other:  # another process that has it open loses nothing but answers
        assert len(other.get_many([key(1)])) == 1
        with ResponseCache(file) as cache:
            done = cache.prune(all=True)
            assert (done.removed, cache.ls()) == (2000, [])
        assert file.stat().st_size <= 64 * 1024 < 400_000 < done.file_before
        assert other.get_many([key(1)]) == {}
        other.put(key(1), response(1), source())
    assert held(file, range(5)) == {1}


def test_a_put_after_the_file_broke_says_why_and_close_does_too(file: Path) -> None:
    cache = ResponseCache(file)
    cache._connection.execute("DROP TABLE payloads")
    cache.put(key(1), response(1), source())
    with pytest.raises(UsageError, match="no such table: payloads"):
        cache.flush()
    with pytest.raises(UsageError, match="no such table"):
        cache.put(key(2), response(2), source())
    with pytest.raises(UsageError, match="no such table"):
        cache.close()
    cache.close()
