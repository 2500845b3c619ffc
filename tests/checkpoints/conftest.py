"""A tiny checkpoint to copy, break and fingerprint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.engines import tiny


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("original") / "model", bos=True)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(original, tmp_path / "model"))
