"""Fixtures that every part of the tests shares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Two spinning OpenMP threads made tiny models 20 times slower on shared cores; must be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real benchmarks. Missing: a failure in CI, a skip on a laptop that has no copy of them."""
    folder = Path(os.environ.get("FORGETBENCH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "mmlu").is_dir():
        message = f"no benchmark data in {folder}; set FORGETBENCH_DATA to a folder that has mmlu/, gsm8k/, ..."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real demo world: trained once a session (about five minutes), or the folder FORGETBENCH_DEMO."""
    given = os.environ.get("FORGETBENCH_DEMO")
    folder = Path(given) if given else tmp_path_factory.mktemp("demo")
    subprocess.run([sys.executable, "-m", "forgetbench.demo", "--out", str(folder)], check=True)
    return folder
