"""The hub's cache, made by hand as huggingface_hub lays it out; and offline that is offline."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetbench.errors import UsageError
from forgetbench.tasks.gsm8k import Gsm8k
from forgetbench.tasks.mmlu import Mmlu
from forgetbench.tasks.source import HUB_REVISIONS, DataSource

pytestmark = pytest.mark.unit

MMLU_TEST = [
    {"question": "Later subject?", "subject": "virology", "choices": ["a", "b", "c", "d"], "answer": 3},
    {"question": "First?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 0},
    {"question": "Second?", "subject": "anatomy", "choices": ["e", "f", "g", "h"], "answer": 2},
]
MMLU_DEV = [
    {"question": f"Shot {n}?", "subject": s, "choices": ["a", "b", "c", "d"], "answer": n % 4}
    for s in ("anatomy", "virology")
    for n in range(5)
]
GSM_TEST = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(3)]
GSM_TRAIN = [{"question": f"{n} + 2?", "answer": f"#### {n + 2}"} for n in range(20)]


def put(cache: Path, dataset: str, filename: str, rows: list[dict[str, Any]], revision: str) -> Path:
    path = cache / f"datasets--{dataset.replace('/', '--')}" / "snapshots" / revision / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A hub cache that holds both datasets at their pinned revisions."""
    for dataset, folder, splits in (
        ("cais/mmlu", "all", {"test": MMLU_TEST, "dev": MMLU_DEV}),
        ("openai/gsm8k", "main", {"test": GSM_TEST, "train": GSM_TRAIN}),
    ):
        for split, rows in splits.items():
            put(tmp_path, dataset, f"{folder}/{split}-00000-of-00001.parquet", rows, HUB_REVISIONS[dataset])
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("offline, and a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_pinned_files_come_from_the_cache_without_a_look_up(cache: Path) -> None:
    """Online too: a pinned commit cannot have changed."""
    for offline in (True, False):
        source = DataSource(offline=offline, cache_dir=cache)
        mmlu = Mmlu(source)
        items = mmlu.load()
        assert [(i.stratum, i.doc["question"]) for i in items] == [
            ("anatomy", "First?"),
            ("anatomy", "Second?"),
            ("virology", "Later subject?"),
        ]
        assert items[0].gold == "A. a"
        assert [s.answer for s in mmlu.prompt(items[0], 5).shots] == ["A", "B", "C", "D", "A"]
        gsm8k = Gsm8k(source)
        assert [i.gold for i in gsm8k.load()] == ["1", "2", "3"]
        assert len(gsm8k.prompt(gsm8k.load()[2], 5).shots) == 5


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_with_an_empty_cache_fails_at_once_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "environment" else "0")
    source = DataSource(offline=how == "argument", cache_dir=tmp_path)
    import huggingface_hub  # noqa: F401  (its import is not part of the wait)

    started = time.monotonic()
    for task in (Mmlu(source), Gsm8k(source)):
        with pytest.raises(UsageError) as caught:
            task.load()
        assert "not in the hub's cache, and offline was asked for" in str(caught.value)
        assert "--data-dir" in caught.value.cure
        assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 1.0


def test_another_revision_is_another_file(cache: Path) -> None:
    mine = "0" * 40
    put(cache, "openai/gsm8k", "main/test-00000-of-00001.parquet", GSM_TEST[:1], mine)
    source = DataSource(offline=True, cache_dir=cache, revisions={"openai/gsm8k": mine})
    assert len(Gsm8k(source).load()) == 1
    assert len(Gsm8k(DataSource(offline=True, cache_dir=cache)).load()) == 3


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("cannot reach the server\nTraceback ...")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UsageError) as caught:
        Gsm8k(DataSource(cache_dir=tmp_path)).load()
    assert "ConnectionError: cannot reach the server)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_is_asked_for_at_the_pinned_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[Any, ...]] = []
    path = put(tmp_path, "x/y", "z.parquet", GSM_TEST, "r")

    def download(dataset: str, filename: str, **options: Any) -> str:
        asked.append((dataset, filename, options["revision"], options["repo_type"]))
        return str(path)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert len(Gsm8k(DataSource(cache_dir=tmp_path / "empty")).load()) == 3
    revision = HUB_REVISIONS["openai/gsm8k"]
    assert asked == [("openai/gsm8k", "main/test-00000-of-00001.parquet", revision, "dataset")]


def test_damaged_cache_files(cache: Path) -> None:
    folder = cache / "datasets--openai--gsm8k" / "snapshots" / HUB_REVISIONS["openai/gsm8k"] / "main"
    (folder / "test-00000-of-00001.parquet").write_bytes(b"PAR1 nonsense")
    source = DataSource(offline=True, cache_dir=cache)
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        Gsm8k(source).load()
    put(cache, "openai/gsm8k", "main/test-00000-of-00001.parquet", [{"q": "x"}], HUB_REVISIONS["openai/gsm8k"])
    with pytest.raises(UsageError, match="no column 'question'"):
        Gsm8k(source).load()
    bad = [{**MMLU_TEST[0], "subject": "astrology"}]
    put(cache, "cais/mmlu", "all/test-00000-of-00001.parquet", bad, HUB_REVISIONS["cais/mmlu"])
    with pytest.raises(UsageError, match="astrology"):
        Mmlu(source).load()


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder mmlu/"):
        Mmlu(DataSource(data_dir=tmp_path)).load()
    (tmp_path / "gsm8k").mkdir()
    with pytest.raises(UsageError, match=r"there is no test\.jsonl"):
        Gsm8k(DataSource(data_dir=tmp_path)).load()
    with pytest.raises(UsageError, match="switched off"):
        Gsm8k(DataSource(hub=False)).load()


@pytest.mark.slow
def test_a_fresh_process_finds_the_cache_through_hf_home(cache: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "hub").symlink_to(cache, target_is_directory=True)
    code = (
        "import sys; from forgetbench.tasks.registry import get_task;"
        "from forgetbench.tasks.source import DataSource;"
        "heavy = {'huggingface_hub', 'pyarrow', 'torch'}; assert not heavy & set(sys.modules);"
        "print(len(get_task('gsm8k', source=DataSource()).load())); assert 'torch' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
