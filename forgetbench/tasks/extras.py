"""What several benchmarks ask for before they run: optional packages, and no shots where there are none."""

from __future__ import annotations

from importlib.util import find_spec

from forgetbench.errors import UsageError


def require(task: str, *packages: str) -> None:
    """Raises UsageError naming every package that is not installed; imports none."""
    missing = [p for p in packages if find_spec(p) is None]
    if missing:
        problem = f"needs {', '.join(missing)} for its scores, not installed"
        raise UsageError(f"task '{task}'", problem, "install forgetbench[bench]")


def no_shots(task: str, num_fewshot: int) -> None:
    """For benchmarks that have no examples to draw from."""
    if num_fewshot:
        raise UsageError(f"{task} num_fewshot", f"{num_fewshot} shots asked for, it has none", "leave it out or use 0")
