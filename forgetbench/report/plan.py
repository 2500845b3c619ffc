"""What `compare --plan` prints: the cost of each checkpoint's run, and what the policy could see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from forgetbench.gate.alarms import AlarmChance
from forgetbench.gate.power import PowerTable
from forgetbench.planning.estimate import Estimate


def plan_to_dict(
    costs: Sequence[tuple[str, Estimate]], power: PowerTable, alarms: Sequence[AlarmChance] = ()
) -> dict[str, Any]:
    """The same as one JSON object; probabilities and drops are fractions of 1."""
    return {
        "models": [{"model": alias, **asdict(cost)} for alias, cost in costs],
        "rules": [
            {
                "rule": row.rule.name,
                "n": row.n,
                "margin": row.rule.margin,
                "minimum_detectable_drop": row.minimum_detectable_drop,
                "p_pass_no_change": row.p_pass,
                "p_inconclusive_no_change": row.p_inconclusive,
                "p_fail_no_change": row.p_fail,
                "psi": row.psi,
            }
            for row in power.rules
        ],
        "joint": {
            "p_pass_no_change": power.p_pass,
            "p_inconclusive_no_change": power.p_inconclusive,
            "p_fail_no_change": power.p_fail,
        },
        "alarms": [
            {
                "alarm": a.alarm.name,
                "n": a.n,
                "points": a.alarm.margin,
                "fires_no_change": [{"psi": psi, "p": p} for psi, p in a.by_chance],
            }
            for a in alarms
        ],
        "suggestion": power.suggestion,
        "assumption": power.assumption,
    }


def print_plan(
    console: Console,
    costs: Sequence[tuple[str, Estimate]],
    power: PowerTable,
    alarms: Sequence[AlarmChance] = (),
) -> None:
    """Two tables: cost by checkpoint, power by rule and jointly."""
    cost_table = _table("model", "requests", "prompt tokens", "computed", "new tokens <=", "time <=", "memory")
    for alias, c in costs:
        cost_table.add_row(
            alias,
            f"{c.requests:,}",
            f"{c.prompt_tokens:,}",
            f"{c.computed_prompt_tokens:,}",
            f"{c.max_new_tokens:,}",
            _duration(c.seconds),
            "?" if c.memory_bytes is None else f"{c.memory_bytes / 2**30:.2f} GiB",
        )
    console.print(cost_table)
    counted = " and of prompt tokens" if all(c.tokens_counted for _, c in costs) else ""
    console.print(
        f"Counts of requests{counted} are exact; the rest are estimates. Computed: prompt tokens where common "
        "beginnings are read once. What is on disk already is not run again."
    )
    console.print()
    power_table = _table("rule", "items", "margin", "detectable", "P(pass)", "P(inconcl.)", "P(fail)")
    for row in power.rules:
        power_table.add_row(
            row.rule.name,
            f"{row.n:,}",
            f"{100 * row.rule.margin:g}",
            f"{100 * row.minimum_detectable_drop:.1f}",
            *(f"{p:.2f}" for p in (row.p_pass, row.p_inconclusive, row.p_fail)),
        )
    joint = (power.p_pass, power.p_inconclusive, power.p_fail)
    power_table.add_row("jointly", "", "", "", *(f"{p:.2f}" for p in joint), style="bold")
    console.print(power_table)
    psi = sorted({row.psi for row in power.rules})
    shown = ", ".join(f"{100 * p:.0f} %" for p in psi)
    console.print(
        f"Probabilities if nothing changed and {shown or '?'} of the items flip by noise; margins and the smallest "
        "drop found with power .80 in points."
    )
    console.print(f"{power.suggestion[:1].upper()}{power.suggestion[1:]}.")
    for alarm in alarms:
        console.print(f"{alarm.line[:1].upper()}{alarm.line[1:]}.", markup=False)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
    return table


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
