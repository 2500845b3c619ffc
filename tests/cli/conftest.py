"""The command line run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from forgetbench.cli import main

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("compare", "base", "sft")` -> the exit code of `forgetbench compare base sft`."""
    monkeypatch.delenv("FORGETBENCH_DATA", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["forgetbench", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0)

    return call
