"""GitLab's Code Quality report: what a merge request shows beside its changes. An empty list where all passed.

A fingerprint tells the same finding from a new one between the two branches of a merge request, so it holds the
rule and its state and neither figures nor the candidate's name, which change with every push.
SOURCE: docs.gitlab.com, "Code Quality", report format.
"""

from __future__ import annotations

import hashlib
import json

from forgetbench.report.ci.outcome import Outcome, Standing, cases
from forgetbench.report.text import one_line

_SEVERITY: dict[Standing, str] = {"blocked": "blocker", "error": "blocker", "undecided": "major", "shown": "info"}
_LONGEST = 1_000


def code_quality(outcome: Outcome, file: str) -> str:
    """The whole file. file: what the findings are pinned to, relative to the repository: the policy, or the config."""
    taken: dict[str, int] = {}
    found = []
    for case in cases(outcome):
        if case.standing not in _SEVERITY:
            continue
        key = json.dumps([case.name, case.standing])
        taken[key] = taken.get(key, 0) + 1  # several candidates, one rule: GitLab drops what has the same print
        found.append(
            {
                "description": one_line(f"{case.group}: {case.name}: {case.text}", _LONGEST),
                "check_name": f"forgetbench/{one_line(case.name, 100)}",
                "fingerprint": hashlib.sha256(f"{key} {taken[key]}".encode("utf-8", "surrogatepass")).hexdigest(),
                "severity": _SEVERITY[case.standing],
                "location": {"path": one_line(file, 500), "lines": {"begin": 1}},
            }
        )
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"
