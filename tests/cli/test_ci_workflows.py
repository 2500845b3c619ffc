"""configs/ci: the workflows parse, ask for what they need, and their shell steps do what docs/ci.md says.

The steps run as the runners run them (GitHub: bash with errexit and pipefail; GitLab: one shell for before_script and
script), in a workspace of the scripted engine; `pip`, `gh` and `curl` are stand-ins that write down what they are asked.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench import resources

from . import workspace

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).resolve().parents[2]
GITHUB = resources.path("configs", "ci", "github.yml")
GITLAB = resources.path("configs", "ci", "gitlab-ci.yml")
WRITTEN = ("verdict.json", "junit.xml", "comment.md", "report.html")


def _load(file: Path) -> Any:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true; GitHub does not.
    return {("on" if key is True else key): value for key, value in data.items()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A workspace whose candidate lost 30 points, and stand-ins for the programs that reach out."""
    workspace.write(tmp_path, sft__json=workspace.script(wrong=range(60)))
    programs = tmp_path / "bin"
    programs.mkdir()
    log = 'printf "%s\\n" "$(basename "$0") $*" >> "$CALLS"\n'
    scripts = {
        "forgetbench": f'exec "{sys.executable}" -m forgetbench "$@"\n',
        "python": f'exec "{sys.executable}" "$@"\n',
        "pip": f'{log}test "$*" = "install forgetbench"\n',
        "gh": f'{log}case "$*" in *--jq*) printf "%s" "$KNOWN";; esac\n',
        "curl": f'{log}case "$*" in *per_page*) printf "%s" "$KNOWN";; esac\n',
    }
    for name, body in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
        (programs / name).chmod(stat.S_IRWXU)
    return tmp_path


def _run(place: Path, shell: list[str], script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "CI", "FORGETBENCH_"))}
    known = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "CALLS": str(place / "calls"),
    }
    return subprocess.run(
        [*shell, script], cwd=place, env=keep | known | environment, capture_output=True, text=True, timeout=120
    )


def _calls(place: Path) -> list[str]:
    file = place / "calls"
    found = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
"""What `shell: bash` means on GitHub."""


def test_the_github_workflow_asks_for_what_it_needs() -> None:
    flow = _load(GITHUB)
    assert flow["on"] == {"pull_request": None}
    assert flow["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert flow["defaults"]["run"]["shell"] == "bash"
    steps = flow["jobs"]["gate"]["steps"]
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        # An expression inside a script would be pasted into it, whatever it says.
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
    names = [step.get("name") or step["uses"].split("@")[0] for step in steps]
    order = ["actions/checkout", "actions/setup-python", "install", "actions/cache", "compare", "comment"]
    assert names == [*order, "actions/upload-artifact"]
    after = {name: step.get("if", "") for name, step in zip(names, steps, strict=True)}
    assert "!cancelled()" in after["comment"], "it comes also where the gate blocks"
    assert "!cancelled()" in after["actions/upload-artifact"]
    assert not steps[names.index("compare")].get("continue-on-error"), "the gate's exit code is the job's"


def test_the_github_steps_block_and_comment(place: Path) -> None:
    steps = {s["name"]: s for s in _load(GITHUB)["jobs"]["gate"]["steps"] if "run" in s}
    assert _run(place, BASH, steps["install"]["run"]).returncode == 0
    assert _calls(place) == ["pip install forgetbench"]
    summary = place / "summary.md"
    told = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_REPOSITORY": "org/repo"}
    done = _run(place, BASH, steps["compare"]["run"], **told)
    assert done.returncode == 10, done.stderr
    assert "\n::error title=sft against base%3A sums blocked::" in done.stdout
    assert summary.read_text(encoding="utf-8").startswith("### ✕ Blocked: sft against base")
    assert sorted(p.name for p in (place / "out").iterdir()) == sorted(WRITTEN)
    assert json.loads((place / "out" / "verdict.json").read_text(encoding="utf-8"))["exit_code"] == 10
    asked = set(steps["comment"]["env"])
    assert asked == {"GH_TOKEN", "PULL_REQUEST"}
    for known, last in (
        ("", "gh api --method POST repos/org/repo/issues/7/comments --field body=@out/comment.md"),
        ("41\n42\n", "gh api --method PATCH repos/org/repo/issues/comments/42 --field body=@out/comment.md"),
    ):
        comment = _run(place, BASH, steps["comment"]["run"], **told, PULL_REQUEST="7", GH_TOKEN="t", KNOWN=known)
        assert comment.returncode == 0, comment.stderr
        first, second = _calls(place)
        assert first.startswith("gh api --paginate repos/org/repo/issues/7/comments --jq ")
        assert second == last
    marker = re.search(r'startswith\("(.*?)"\)', steps["comment"]["run"])
    assert marker is not None
    assert (place / "out" / "comment.md").read_text(encoding="utf-8").startswith(marker[1])


def test_the_gitlab_job_keeps_its_reports_whatever_happens() -> None:
    (job,) = _load(GITLAB).values()
    assert job["artifacts"]["when"] == "always"
    reports = job["artifacts"]["reports"]
    assert reports == {"junit": "out/junit.xml", "codequality": "out/gl-code-quality.json"}
    assert all(path in " ".join(job["script"]) for path in reports.values())
    assert "allow_failure" not in job, "a blocked checkpoint would only be a warning"
    assert all(isinstance(line, str) for part in ("before_script", "script", "after_script") for line in job[part])


def test_the_gitlab_script_blocks_and_leaves_a_note(place: Path) -> None:
    (job,) = _load(GITLAB).values()
    project = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(place)}
    done = _run(place, ["bash", "-eo", "pipefail", "-c"], "\n".join([*job["before_script"], *job["script"]]), **project)
    assert done.returncode == 10, done.stderr
    assert "::" not in done.stdout
    assert sorted(p.name for p in (place / "out").iterdir()) == sorted([*WRITTEN, "gl-code-quality.json"])
    (first, *_) = json.loads((place / "out" / "gl-code-quality.json").read_text(encoding="utf-8"))
    assert (first["severity"], first["location"]["path"]) == ("blocker", "forgetbench.yaml")
    assert _calls(place) == ["pip install forgetbench"]

    after = "\n".join(job["after_script"])
    project |= {"CI_API_V4_URL": "https://gitlab.test/api/v4", "CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "9"}
    notes = "https://gitlab.test/api/v4/projects/5/merge_requests/9/notes"
    mine = {"id": 77, "body": (place / "out" / "comment.md").read_text(encoding="utf-8")}
    for known, method, where in (
        ([{"id": 1, "body": "hello"}], "POST", notes),
        ([{"id": 1, "body": "hello"}, mine], "PUT", f"{notes}/77"),
    ):
        done = _run(place, ["bash", "-c"], after, **project, FORGETBENCH_TOKEN="t", KNOWN=json.dumps(known))
        assert done.returncode == 0, done.stderr
        look, write = _calls(place)
        assert look == f"curl -fsS -H PRIVATE-TOKEN: t {notes}?per_page=100"
        assert write == f"curl -fsS -X {method} -H PRIVATE-TOKEN: t --data-urlencode body@out/comment.md {where}"
    assert _run(place, ["bash", "-c"], after, **project).returncode == 0
    assert _calls(place) == [], "without a token nothing is sent"


def test_the_page_shows_the_files_that_are_tested() -> None:
    """docs/ci.md names the files and flags that there are."""
    page = (REPOSITORY / "docs" / "ci.md").read_text(encoding="utf-8")
    for file in ("configs/ci/github.yml", "configs/ci/gitlab-ci.yml", "configs/schemas/verdict.schema.json"):
        assert file in page
        assert (REPOSITORY / file).is_file()
    from forgetbench.cli.outputs import SUFFIXES

    assert all(f"`{flag}" in page for flag in (*SUFFIXES, "--github"))
