"""The outputs for CI say what the exit code says, whatever the verdict, and are what their formats ask for."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from forgetbench import resources
from forgetbench.analysis.types import Interval
from forgetbench.errors import Exit
from forgetbench.gate.types import Verdict
from forgetbench.report.ci.document import document, verdict_json
from forgetbench.report.ci.github import MOST, annotate
from forgetbench.report.ci.gitlab import code_quality
from forgetbench.report.ci.junit import junit
from forgetbench.report.ci.markdown import COMMENT_MAX, MARKER, comment, summary
from forgetbench.report.ci.outcome import Outcome, decided, failed
from forgetbench.report.ci.schema import schema_text, verdict_schema
from tests.report import sample, verdicts
from tests.report.hostile import hostile

pytestmark = pytest.mark.unit

KINDS = verdicts.all_kinds()
OUTCOMES = [*(decided(v) for v in KINDS), failed(2, ["policy.yaml:3: `margn` is not a known key; did you mean ...?"])]
OUTCOMES += [failed(12, ["the runs cannot be compared"]), failed(1, []), failed(130, ["interrupted"])]
OUTCOMES += [decided(sample.demo()[1]), decided(hostile(huge=False)[1])]


def _colour(text: str) -> bool:
    """Whether a reader of JUnit takes the file for red."""
    top = ET.fromstring(text)
    return bool(top.findall(".//failure") or top.findall(".//error"))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=range(len(OUTCOMES)))
def test_every_output_is_green_exactly_where_the_exit_code_is_0(outcome: Outcome) -> None:
    green = int(outcome.exit_code) == 0
    assert _colour(junit(outcome)) == (not green)
    severe = {f["severity"] for f in json.loads(code_quality(outcome, "policy.yaml"))} & {"blocker", "major"}
    assert bool(severe) == (not green)
    told = json.loads(verdict_json(outcome))
    assert (told["exit_code"] == 0, told["state"] == "PASS") == (green, green)
    assert ("✓ Pass" in comment(outcome).splitlines()[1]) == green
    assert ("✓ Pass" in summary(outcome).splitlines()[0]) == green
    errors = [line for line in annotate(outcome) if line.startswith("::error")]
    assert bool(errors) == (int(outcome.exit_code) not in (0, 11))
    if int(outcome.exit_code) == 11:
        assert any(line.startswith("::warning") for line in annotate(outcome))


def test_an_outcome_without_a_verdict_never_passes() -> None:
    assert failed(0, []).exit_code == Exit.INTERNAL
    assert failed(0, []).state == "ERROR"


# verdict.json


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The same with unknown keys forbidden: what the published schema allows for later versions."""
    made = copy.deepcopy(schema)
    for node in (made, *made["$defs"].values()):
        if "properties" in node:
            node["additionalProperties"] = False
    return made


def test_the_published_schema_is_the_one_made_from_the_types() -> None:
    published = resources.path("configs", "schemas", "verdict.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), (
        "run: python -m forgetbench.report.ci.schema > configs/schemas/verdict.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=range(len(OUTCOMES)))
def test_verdict_json_fits_its_schema(outcome: Outcome) -> None:
    jsonschema.Draft202012Validator(_strict(verdict_schema())).validate(json.loads(verdict_json(outcome)))


def test_a_figure_that_is_not_finite_is_null_and_fits() -> None:
    odd = verdicts.result("odd", "INCONCLUSIVE", delta=float("nan"), interval=Interval(float("-inf"), float("nan")))
    told = json.loads(verdict_json(decided([verdicts.verdict("INCONCLUSIVE", odd)])))
    assert told["verdicts"][0]["rules"][0]["interval"]["low"] is None
    jsonschema.Draft202012Validator(_strict(verdict_schema())).validate(told)


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 10},
        {"state": "FAIL"},
        {"state": "ERROR"},
        {"verdicts": []},
        {"exit_code": 3},
        {"schema_version": 2},
        {"errors": "none"},
    ],
    ids=str,
)
def test_the_schema_refuses_what_contradicts_itself(change: dict[str, Any]) -> None:
    told = document(decided(KINDS[0])) | change
    assert not jsonschema.Draft202012Validator(verdict_schema()).is_valid(told)


def test_the_schema_refuses_what_is_incomplete() -> None:
    for path in (("state",), ("verdicts", 0, "rules", 0, "state"), ("verdicts", 0, "policy", "rules", 0, "margin")):
        told: Any = json.loads(verdict_json(decided(KINDS[1])))
        here = told
        for part in path[:-1]:
            here = here[part]
        del here[path[-1]]
        assert not jsonschema.Draft202012Validator(verdict_schema()).is_valid(told), path


# JUnit

_INSIDE = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "property": set[str](),
    "testcase": {"failure", "error", "skipped", "system-out"},
    "failure": set[str](),
    "error": set[str](),
    "skipped": set[str](),
    "system-out": set[str](),
}
_ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped"},
    "property": {"name", "value"},
    "testcase": {"name", "classname"},
    **{key: {"type", "message"} for key in ("failure", "error", "skipped")},
}


@pytest.mark.parametrize("outcome", OUTCOMES, ids=range(len(OUTCOMES)))
def test_junit_has_the_elements_that_its_readers_know(outcome: Outcome) -> None:
    top = ET.fromstring(junit(outcome).encode())
    assert top.tag == "testsuites"
    for element in top.iter():
        assert {child.tag for child in element} <= _INSIDE[element.tag]
        assert set(element.attrib) == _ATTRIBUTES.get(element.tag, set()), element.tag
    for suite in (top, *top.findall("testsuite")):
        cases = suite.findall(".//testcase")
        assert suite.get("tests") == str(len(cases))
        for tag, name in (("failure", "failures"), ("error", "errors")):
            assert suite.get(name) == str(sum(c.find(tag) is not None for c in cases))
    wanted = sum(1 + len(v.rules) + len(v.waivers) + len(v.alarms) for v in outcome.verdicts) or len(outcome.errors)
    assert len(top.findall(".//testcase")) == wanted


def test_junit_tells_a_loss_from_a_doubt_and_from_advice() -> None:
    rules = [verdicts.result("lost", "FAIL"), verdicts.result("open", "INCONCLUSIVE"), verdicts.result("kept", "PASS")]
    rules.append(verdicts.result("aside", "FAIL", required=False))
    top = ET.fromstring(junit(decided([verdicts.verdict("FAIL", *rules)])))
    kinds = {c.get("name"): [(e.tag, e.get("type")) for e in c] for c in top.iter("testcase")}
    assert kinds == {
        "verdict": [("failure", "FAIL")],
        "lost": [("failure", "FAIL")],
        "open": [("failure", "INCONCLUSIVE")],
        "kept": [("system-out", None)],
        "aside": [("skipped", "ADVISORY")],
    }
    figures = {p.get("name"): p.get("value") for p in top.iter("property")}
    assert (figures["lost.delta"], figures["lost.n"], figures["verdict.exit_code"]) == ("-0.06", "400", "10")


def test_a_sequential_rule_says_how_many_items_it_took() -> None:
    outcome = decided([verdicts.verdict("PASS", verdicts.result("one", "PASS", n=320, total=1_319))])
    assert "| 320 of 1,319 |" in comment(outcome)
    figures = {p.get("name"): p.get("value") for p in ET.fromstring(junit(outcome)).iter("property")}
    assert (figures["one.n"], figures["one.total"]) == ("320", "1319")


def test_a_waived_loss_is_seen_and_does_not_block() -> None:
    (outcome,) = [decided(v) for v in KINDS if v[0].waivers and v[0].state == "PASS"]
    top = ET.fromstring(junit(outcome))
    (case,) = [c for c in top.iter("testcase") if c.get("name") == "two"]
    assert case[0].tag == "skipped"
    assert "Waived by ann until 2999-01-01: known." in (case[0].get("message") or "")
    assert "(waived)" in comment(outcome)
    assert any("waived: two, by ann" in line for line in annotate(outcome))


# Text that means harm

NAMES = (
    "a|b",
    "new\nline ::error::x",
    "::add-mask::secret",
    "##[error]x",
    "100%0A::stop-commands::t",
    "a:b,c=d",
    "]]><testcase name='x'/>",
    "<script>alert(1)</script>",
    "`code` ```",
    "<!-- forgetbench-verdict -->",
    "@everyone #1 !2 org/repo#3",
    "[click](https://example.com) https://example.com www.example.com",
    "![x](https://example.com/x.png)",
    "*bold* _it_ ~~no~~ $x^2$ \\| \\",
    "| --- |",
    "</details></sub>",
    "&lt;b&gt; &amp;",
    "bell\x07 nul\x00 esc\x1b[2J \x85 \ufffe \uffff",
    "half \ud83d",
    "right \u202e left",
    "- item",
    "# head",
    "1. one",
    "漢字 é",
)


def _hostile(name: str) -> list[Verdict]:
    rule = verdicts.result(name, "FAIL", reason=f"{name} lost")
    rule = replace(rule, notice=name)
    return [
        verdicts.verdict("FAIL", rule, candidate=name, base=name, reason=f"blocked: {name}", notes=(name, name)),
        verdicts.verdict("FAIL", rule, candidate="last", reason=f"blocked: {name}", notes=(name,)),
    ]


def _folded(text: str) -> str:
    from forgetbench.report.text import visible

    return visible(" ".join(text.split()))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_xml_holds_any_text(name: str) -> None:
    text = junit(decided(_hostile(name)))
    top = ET.fromstring(text.encode("utf-8"))
    assert len(top.findall(".//testcase")) == 4
    from forgetbench.report.text import visible

    kept = visible(name).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    assert [c.get("name") for c in top.iter("testcase")] == ["verdict", kept, "verdict", kept]
    assert top.findall(".//failure")[-1].text == f"{kept} lost Notice: {kept}."


def _command(line: str) -> tuple[str, dict[str, str], str]:
    """As the runner reads it (actions/runner, ActionCommand.TryParseV2)."""
    assert line.startswith("::")
    head, _, data = line[2:].partition("::")
    name, _, rest = head.partition(" ")
    properties = dict(part.split("=", 1) for part in rest.split(",") if part)

    def back(text: str, more: Sequence[tuple[str, str]] = ()) -> str:
        for code, sign in (*more, ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            text = text.replace(code, sign)
        return text

    return name, {k: back(v, (("%3A", ":"), ("%2C", ","))) for k, v in properties.items()}, back(data)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_annotations_hold_any_text_and_are_one_command_each(name: str) -> None:
    lines = annotate(decided(_hostile(name)))
    assert len(lines) == 4
    for line in lines:
        assert len(line.splitlines()) == 1
        kind, properties, _ = _command(line)
        assert kind in ("error", "warning")
        assert set(properties) == {"title"}
    told = [_command(line) for line in lines if line.startswith("::error")]
    assert told[1][1]["title"] == f"last against base: {_folded(name)} blocked"
    assert told[1][2] == f"{_folded(f'{name} lost Notice: {name}.')}"


def _tokens(text: str) -> list[Any]:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def _shown(children: Sequence[Any]) -> str:
    """The text of an inline token as a reader sees it; anything but text is an error."""
    shown = ""
    for child in children:
        if child.type == "html_inline":
            assert child.content == "<!-- -->" or child.content in ("<sub>", "</sub>"), child.content
            continue
        assert child.type in ("text", "text_special", "strong_open", "strong_close"), child.type
        shown += child.content
    return shown


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_markdown_shows_any_text_and_obeys_none(name: str) -> None:
    text = comment(decided(_hostile(name)))
    assert text.startswith(f"{MARKER}\n")
    assert text.count(MARKER) == 1
    tokens = _tokens(text)
    blocks = [t.content.strip() for t in tokens if t.type == "html_block"]
    assert all(re.fullmatch(r"(<!-- forgetbench-verdict -->|</?details>|<details>\n<summary>Notes \(\d\)</summary>)", b) for b in blocks)  # fmt: skip
    assert [t.type for t in tokens].count("table_open") == 2
    assert [t.type for t in tokens].count("tr_open") == 4
    assert [t.type for t in tokens].count("list_item_open") == 3
    inline = [_shown(t.children) for t in tokens if t.type == "inline"]
    cells = [_shown(tokens[i + 1].children) for i, t in enumerate(tokens) if t.type == "td_open"]
    assert [c.strip() for c in cells[1::9]] == [_folded(name)] * 2
    assert cells[8] == _folded(f"{name} lost Notice: {name}.")
    assert inline.count(_folded(name)) >= 5  # three notes, two rules
    for pattern in (r"@\w", r"(?<!&)#\d", "https://", r"www\."):
        assert not re.search(pattern, text), pattern


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_json_holds_any_text(name: str) -> None:
    told = json.loads(verdict_json(decided(_hostile(name))).encode("utf-8"))
    from forgetbench.report.text import visible

    assert told["verdicts"][0]["rules"][0]["rule"]["name"] == visible(name)
    for finding in json.loads(code_quality(decided(_hostile(name)), name).encode("utf-8")):
        assert "\n" not in finding["description"]


# Limits and formats


def _many(n: int) -> Outcome:
    rules = [verdicts.result(f"rule {i} {'x' * 90}", "PASS", reason="y" * 2_000) for i in range(n - 12)]
    rules += [verdicts.result(f"lost {i}", "FAIL") for i in range(12)]
    return decided([verdicts.verdict("FAIL", *rules, notes=tuple("z" * 3_000 for _ in range(200)))])


def test_a_comment_and_a_summary_are_never_too_long() -> None:
    text = comment(_many(2_000))
    assert len(text) <= COMMENT_MAX
    assert all(f"| lost {i} |" in text for i in range(12)), "what blocks comes first"
    assert re.search(r"\d+ more lines are left out here; verdict.json has them all", text)
    assert "exit code 10" in text.splitlines()[-1]
    assert len(summary(_many(5_000)).encode()) < 900_000
    open_notes = comment(_many(40))
    assert open_notes.count("<details>") == open_notes.count("</details>")
    emoji = decided([verdicts.verdict("FAIL", *(verdicts.result("😀" * 90, "FAIL", reason="😀" * 900),) * 3_000)])
    assert len(summary(emoji).encode()) < 900_000


def test_annotations_are_at_most_ten_and_count_the_rest() -> None:
    lines = annotate(_many(50))
    assert len(lines) == MOST
    assert lines[-1] == "::warning title=forgetbench::and 4 more: see the step's summary"  # 13 in all
    assert all(line.startswith("::error") for line in lines[:-1])


def test_a_proven_drop_inside_the_margin_is_annotated() -> None:
    (line,) = annotate(decided(KINDS[9]))
    assert line.startswith("::warning title=sft against base%3A one passes with a notice::")
    assert annotate(decided(KINDS[0])) == []


def test_code_quality_has_what_gitlab_asks_for() -> None:
    for outcome in OUTCOMES:
        found = json.loads(code_quality(outcome, "configs/policy.yaml"))
        for finding in found:
            assert set(finding) == {"description", "check_name", "fingerprint", "severity", "location"}
            assert finding["severity"] in ("info", "minor", "major", "critical", "blocker")
            assert finding["location"] == {"path": "configs/policy.yaml", "lines": {"begin": 1}}
            assert re.fullmatch("[0-9a-f]{64}", finding["fingerprint"])
        prints = [f["fingerprint"] for f in found]
        assert len(set(prints)) == len(prints)


def test_a_finding_stays_the_same_while_only_figures_change() -> None:
    """Otherwise every push of a merge request would show the same loss as new."""

    def prints(verdict: Verdict) -> list[str]:
        return [f["fingerprint"] for f in json.loads(code_quality(decided([verdict]), "p.yaml"))]

    first = verdicts.verdict("FAIL", verdicts.result("knowledge", "FAIL"))
    second = verdicts.verdict("FAIL", verdicts.result("knowledge", "FAIL", delta=-0.3, reason="worse"), candidate="b")
    other = verdicts.verdict("FAIL", verdicts.result("reasoning", "FAIL"))
    assert prints(first) == prints(second)
    assert prints(first) != prints(other)
    assert code_quality(decided(KINDS[0]), "p.yaml") == "[]\n"


def test_a_file_is_utf8_whatever_it_holds(tmp_path: Path) -> None:
    for outcome in OUTCOMES:
        for text in (verdict_json(outcome), junit(outcome), comment(outcome), code_quality(outcome, "p")):
            (tmp_path / "f").write_text(text, encoding="utf-8")
