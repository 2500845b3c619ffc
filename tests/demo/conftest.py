"""The real demo world: trained once a session (about five minutes), or the folder FORGETBENCH_DEMO."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("FORGETBENCH_DEMO")
    folder = Path(given) if given else tmp_path_factory.mktemp("demo")
    subprocess.run([sys.executable, "-m", "forgetbench.demo", "--out", str(folder)], check=True)
    return folder
