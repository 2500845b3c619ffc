"""The one object behind every output for CI, and the cases that it is told in: one for each verdict, rule, waiver and
alarm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from forgetbench.errors import Exit
from forgetbench.gate.types import RuleResult, State, Verdict
from forgetbench.report import numbers
from forgetbench.report.reasons import reason_sentence

OutcomeState = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]
Standing = Literal["passed", "blocked", "undecided", "shown", "error"]

WORDS: dict[OutcomeState, str] = {
    "PASS": "Pass",
    "FAIL": "Blocked",
    "INCONCLUSIVE": "Inconclusive",
    "ERROR": "No verdict",
}
MARKS: dict[OutcomeState, str] = {"PASS": "✓", "FAIL": "✕", "INCONCLUSIVE": "?", "ERROR": "!"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: with verdicts, or with the lines of an error and none."""

    exit_code: Exit
    verdicts: tuple[Verdict, ...] = ()
    """In the order of the candidates; the last one's exit code is the command's."""
    errors: tuple[str, ...] = ()

    @property
    def state(self) -> OutcomeState:
        return self.verdicts[-1].state if self.verdicts else "ERROR"

    @property
    def reason(self) -> str:
        """One sentence."""
        return self.verdicts[-1].reason if self.verdicts else "no verdict: " + "; ".join(self.errors)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a test report."""

    group: str
    """Which candidate against what."""
    name: str
    standing: Standing
    """passed; blocked and undecided: why the exit code is 10 or 11; shown: seen and not decisive (an advisory
    rule, an earlier candidate, a waived loss, a waiver, an alarm that fired); error: there is no verdict.
    """
    text: str
    figures: tuple[tuple[str, str], ...] = ()


def decided(verdicts: Sequence[Verdict]) -> Outcome:
    """The outcome of a command that came to verdicts (at least one)."""
    return Outcome(verdicts[-1].exit_code, tuple(verdicts))


def failed(code: int, lines: Sequence[str]) -> Outcome:
    """The outcome of a command that ended before there was a verdict; never one that passed."""
    return Outcome(Exit(code) if code else Exit.INTERNAL, errors=tuple(lines) or ("no verdict was reached",))


def cases(outcome: Outcome) -> list[Case]:
    """Every verdict, each followed by its rules; the errors where there is no verdict."""
    if not outcome.verdicts:
        return [Case("forgetbench", "verdict", "error", line) for line in outcome.errors]
    return [case for v in outcome.verdicts for case in _cases(v, deciding=v is outcome.verdicts[-1])]


def _cases(verdict: Verdict, *, deciding: bool) -> Iterator[Case]:
    group = f"{verdict.candidate} against {verdict.base}"
    sentence = reason_sentence(verdict)
    later = "" if deciding or verdict.exit_code == Exit.PASS else "a later candidate decides; "
    yield Case(group, "verdict", _verdict_standing(verdict, deciding), f"{later}{sentence}", _verdict_figures(verdict))
    for result in verdict.rules:
        yield Case(group, result.rule.name, _standing(result, verdict, deciding), why(result), _figures(result))
    for use in verdict.waivers:
        yield Case(group, f"waiver of {use.waiver.subject}", "passed" if use.state == "unused" else "shown", use.line)
    for alarm in verdict.alarms:
        yield Case(group, f"alarm {alarm.alarm.name}", "shown" if alarm.fired else "passed", alarm.line)


def _verdict_standing(verdict: Verdict, deciding: bool) -> Standing:
    if verdict.exit_code == Exit.PASS:
        return "passed"
    if not deciding:
        return "shown"
    return "blocked" if verdict.exit_code == Exit.REGRESSION else "undecided"


def _standing(result: RuleResult, verdict: Verdict, deciding: bool) -> Standing:
    if result.state == "PASS":
        return "passed"
    if not deciding or verdict.exit_code == Exit.PASS or not decides(result) or result.waived is not None:
        return "shown"
    return "blocked" if result.state == "FAIL" else "undecided"


def why(result: RuleResult) -> str:
    """Why a rule came out as it did, with what a reader must not miss: that it is waived, or a proven drop."""
    waiver = result.waived
    waived = f"Waived by {waiver.owner} until {waiver.until}: {waiver.reason}. " if waiver is not None else ""
    return f"{waived}{result.reason}" + (f" Notice: {result.notice}." if result.notice else "")


def decides(result: RuleResult) -> bool:
    """Whether a rule counts towards the verdict."""
    return result.rule.required and result.rule.view != "as_used"


def _verdict_figures(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    return (
        ("state", verdict.state),
        ("exit_code", str(int(verdict.exit_code))),
        ("policy", verdict.policy.name),
        *((f"note {i}", note) for i, note in enumerate(verdict.notes, start=1)),
    )


def _figures(result: RuleResult) -> tuple[tuple[str, str], ...]:
    """Fractions of 1, as verdict.json has them; empty where there is none."""
    interval = result.interval
    rule = result.rule
    values = {
        "margin": rule.margin,
        "base": result.base,
        "candidate": result.candidate,
        "delta": result.delta,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "lower": result.lower,
        "p_fail": result.p_fail,
        "p_fail_holm": result.p_fail_holm,
    }
    about = (("view", rule.view), ("against", rule.against), ("required", "true" if rule.required else "false"))
    items = (("n", str(result.n)), *((("total", str(result.total)),) if result.total is not None else ()))
    return (("state", result.state), *about, *items, *((k, numbers.figure(v)) for k, v in values.items()))


def state_word(state: State | OutcomeState) -> str:
    """'✕ Blocked', as in the terminal."""
    return f"{MARKS[state]} {WORDS[state]}"
