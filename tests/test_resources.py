"""The shipped folders are found in a checkout and in a wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from forgetbench import resources

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.unit
def test_checkout_folders_are_found() -> None:
    assert resources.path("suites", "quick.yaml").is_file()
    assert resources.path("configs", "forgetbench.yaml").is_file()


@pytest.mark.slow
def test_wheel_carries_the_folders_and_finds_them_from_anywhere(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(REPOSITORY)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "from forgetbench import resources as r; import forgetbench;"
        "assert str(r.path('suites')).startswith(forgetbench.__path__[0]), r.path('suites');"
        "[print(r.path(f).is_dir()) for f in ('suites', 'judges', 'reports', 'configs')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr
