"""The outcome as Markdown: a step's summary on GitHub, and a comment on a pull or merge request.

Names come from data files and say what they like: everything that Markdown, HTML or the forge would act on (markup,
links, mentions, references) is escaped, and a rule is one line of a table whatever its name holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from forgetbench import __version__
from forgetbench.gate.types import RuleResult, Verdict
from forgetbench.report import numbers
from forgetbench.report.ci.outcome import Outcome, Standing, decides, state_word, why
from forgetbench.report.reasons import reason_sentence
from forgetbench.report.text import one_line

MARKER = "<!-- forgetbench-verdict -->"
"""First line of a comment, unseen: by it the next run finds the comment and replaces it."""
COMMENT_MAX = 60_000
"""Characters; GitHub refuses a comment above 65,536."""
SUMMARY_MAX = 200_000
"""Characters, at most 800,000 bytes; GitHub refuses a summary above 1 MiB."""
_SENTENCE, _CELL = 2_000, 400
_NOTES = 50


def comment(outcome: Outcome) -> str:
    """comment.md: the marker, then the same as the summary, shorter where it has to be."""
    return f"{MARKER}\n{_fitted(outcome, COMMENT_MAX - len(MARKER) - 1)}"


def summary(outcome: Outcome) -> str:
    """What is appended to $GITHUB_STEP_SUMMARY."""
    return _fitted(outcome, SUMMARY_MAX)


def _fitted(outcome: Outcome, limit: int) -> str:
    """The deciding verdict first. What does not fit is left out from the end and counted."""
    if not outcome.verdicts:
        lines = [f"- {_text(line, _SENTENCE)}" for line in outcome.errors]
        return _joined([f"### {state_word('ERROR')}", "", *lines, "", _end(outcome)], limit)
    last, *earlier = reversed(outcome.verdicts)
    blocks = _verdict(last, f"### {state_word(last.state)}: {_text(_sides(last), 300)}")
    for verdict in reversed(earlier):
        title = f"#### Earlier candidate, not decisive: {state_word(verdict.state)}: {_text(_sides(verdict), 300)}"
        blocks += ["", *_verdict(verdict, title)]
    return _joined([*blocks, "", _end(outcome)], limit)


def _joined(lines: Sequence[str], limit: int) -> str:
    """Joined, with lines left out before the last one where all would be too long."""
    *body, end = lines
    text = "\n".join([*body, end, ""])
    if len(text) <= limit:
        return text
    # A table may end here, and an open <details> is closed by it: blank line, tag, blank line.
    room = limit - len(end) - 200
    kept, used = 0, 0
    for line in body:
        used += len(line) + 1
        if used > room:
            break
        kept += 1
    close = "</details>\n" if body[:kept].count("<details>") > body[:kept].count("</details>") else ""
    cut = f"{close}\n{len(body) - kept} more lines are left out here; verdict.json has them all."
    return "\n".join([*body[:kept], "", cut, "", end, ""])


def _verdict(verdict: Verdict, title: str) -> list[str]:
    lines = [title, "", f"**Why:** {_text(reason_sentence(verdict), _SENTENCE)}", ""]
    lines += ["| | Rule | Items | Base | Candidate | Change | 95 % interval | Margin | Why |"]
    lines += ["|---|---|--:|--:|--:|--:|---|--:|---|"]
    order: list[Standing] = ["blocked", "undecided", "shown", "passed"]
    results = sorted(verdict.rules, key=lambda r: (order.index(_rank(r)), not r.rule.required))
    lines += [_row(r) for r in results]
    for head, told in (("Waivers", [w.line for w in verdict.waivers]), ("Alarms", [a.line for a in verdict.alarms])):
        if told:
            lines += ["", f"**{head}**", "", *(f"- {_text(line, _SENTENCE)}" for line in told)]
    if verdict.notes:
        lines += ["", "<details>", f"<summary>Notes ({len(verdict.notes)})</summary>", ""]
        lines += [f"- {_text(note, _SENTENCE)}" for note in verdict.notes[:_NOTES]]
        if len(verdict.notes) > _NOTES:
            lines += [f"- and {len(verdict.notes) - _NOTES} more"]
        lines += ["", "</details>"]
    return lines


def _rank(result: RuleResult) -> Standing:
    if result.state == "PASS":
        return "passed"
    if not decides(result) or result.waived is not None:
        return "shown"
    return "blocked" if result.state == "FAIL" else "undecided"


def _row(result: RuleResult) -> str:
    rule = result.rule
    aside = " (waived)" if result.waived is not None else "" if decides(result) else " (advisory)"
    cells = [
        state_word(result.state),
        f"{_text(rule.name, 200)}{aside}",
        numbers.count(result.n) + (f" of {numbers.count(result.total)}" if result.total is not None else ""),
        numbers.score(result.base),
        numbers.score(result.candidate),
        numbers.points(result.delta),
        numbers.interval(result.interval),
        numbers.plain_points(rule.margin),
        _text(why(result), _CELL),
    ]
    return f"| {' | '.join(cells)} |"


def _sides(verdict: Verdict) -> str:
    return f"{verdict.candidate} against {verdict.base}"


def _end(outcome: Outcome) -> str:
    policy = f"policy {_text(outcome.verdicts[-1].policy.name, 200)}, " if outcome.verdicts else ""
    return f"<sub>{policy}exit code {int(outcome.exit_code)}, forgetbench {__version__}</sub>"


_BREAK = "<!-- -->"
"""Comes between two characters so that a forge no longer sees a mention, a reference or an address."""


def _text(text: str, limit: int) -> str:
    """One line that reads as it was and does nothing."""
    shown = one_line(text, limit)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", shown)
    shown = re.sub(r"^(\d*)([#+\-.)])", r"\1\\\2", shown)  # a heading or a list, where it opens a line
    shown = re.sub(r"([@#!%])(?=\w)", rf"\1{_BREAK}", shown)
    shown = shown.replace("://", f":{_BREAK}//")
    return re.sub(r"(?i)(www)\.", rf"\1{_BREAK}.", shown)
