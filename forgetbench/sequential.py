"""`compare --sequential`: a candidate is asked block by block until every deciding rule is decided.

The base (and a locked release) is run whole first: its answers serve every later candidate, and lie on disk or in the
response cache most of the time. What is saved is what the candidate need not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from forgetbench import flow
from forgetbench.errors import UsageError
from forgetbench.gate.sequential import (
    Asking,
    Order,
    block_size,
    check_sequential,
    estimates,
    next_block,
    open_rules,
    sequence,
    wanted,
)
from forgetbench.runs.store import Run
from forgetbench.types import ItemKey
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from forgetbench.analysis.types import Comparison
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.gate.types import Against, Policy, Rule, RuleResult


@dataclass(frozen=True, slots=True)
class Part(Run):
    """A run of which only some items are shown: those that the other side was asked too."""

    asked: frozenset[Asking] = frozenset()

    def records(
        self, task: str | None = None, view: str | None = None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        # Not super(): a dataclass with slots is another class than the one that the method was written in.
        return _only(Run.records(self, task, view, columns), self.asked)


@dataclass(frozen=True, slots=True)
class Sequential:
    """What came of it: the runs to compare, each showing the items that the candidate was asked, and their order."""

    runs: Mapping[str, Run]
    order: Order
    policy: Policy
    """Without its alarms."""
    notes: tuple[str, ...]


def order_of(ws: Workspace, loaded: flow.Loaded) -> Order:
    """The order of the suite's scored items."""
    return sequence(item for entry, task in loaded if task.metrics for item in flow.selected(ws, entry, task))


def run(
    ws: Workspace,
    point: Checkpoint,
    references: Mapping[Against, Run],
    loaded: flow.Loaded,
    policy: Policy,
    say: flow.Say,
    *,
    use_cache: bool = True,
) -> Sequential:
    """Ask the candidate until all is decided, or nothing is left to ask.

    references: complete runs that rules are against. Raises UsageError for a policy that bets cannot decide, else as
    `execute_together` does; the same command resumes.
    """
    from forgetbench import running
    from forgetbench.engines.pool import EnginePool
    from forgetbench.growing import growing
    from forgetbench.runs.records import to_table
    from forgetbench.runs.spent import Spent

    check_sequential(policy)
    order = order_of(ws, loaded)
    rules = open_rules(policy, (), references.keys())
    if not rules:
        cure = "require a rule against base or locked, or leave out --sequential"
        raise UsageError(f"policy '{policy.name}'", "has no required rule that could be decided here", cure)
    target = running.target(ws, point, loaded)
    for line in target.plan.skipped:
        say(line)

    def told(spent: Spent) -> None:
        if (line := spent.line()) is not None:
            say(line)

    looks = _Looks(ws, loaded, policy, order, references)
    with EnginePool() as pool:
        make = running.engine_maker(ws, pool, [point], loaded, say, use_cache)
        with growing(target, make, say, told) as grown:
            total = [a for a in wanted(rules, order) if a in grown.askable]
            asked: set[Asking] = set()
            tables: list[pa.Table] = []
            while left := [a for a in wanted(rules, order) if a in grown.askable and a not in asked]:
                block = next_block(left, order, block_size(len(total)))
                tables.append(to_table(grown.ask(block)))
                asked |= set(block)
                results = looks.decide(point.alias, tables, asked)
                rules = open_rules(policy, results, references.keys())
                say(f"{point.alias}: {len(asked):,} of {len(total):,} questions asked; {_standing(results, rules)}")
            found = grown.finish()
    spared = f"sequential: {len(asked):,} of {len(total):,} questions were asked of {point.alias}"
    rest = ", the others were not needed" if len(asked) < len(total) else ""
    shown: dict[str, Run] = {
        r.alias: Part(r.path, r.manifest, r.selection, frozenset(asked)) for r in references.values()
    }
    notes = [f"{spared}{rest}; every interval, bound and p value of a change holds at this stopping time"]
    if policy.alarms:
        notes.append("sequential: alarms are not looked at, as a threshold in points errs at a stopping time")
    return Sequential({**shown, point.alias: found}, order, replace(policy, alarms=()), tuple(notes))


class _Looks:
    """The rules looked at after each block, by the same code that makes the verdict."""

    def __init__(
        self,
        ws: Workspace,
        loaded: flow.Loaded,
        policy: Policy,
        order: Order,
        references: Mapping[Against, Run],
    ) -> None:
        from forgetbench.findings import scored_metrics

        self._suite, self._policy = ws.suite.name, policy
        self._metrics = scored_metrics(ws, loaded)
        self._references = {against: (run.alias, run.records()) for against, run in references.items()}
        self._estimate = estimates(policy, order)

    def decide(self, alias: str, tables: Sequence[pa.Table], asked: set[Asking]) -> Sequence[RuleResult]:
        from forgetbench.gate.verdict import decide
        from forgetbench.runs.records import to_frame

        mine = to_frame(tables)
        against = {
            name: self._paired(_only(frame, asked), mine, (other, alias))
            for name, (other, frame) in self._references.items()
        }
        return decide(against, self._policy, estimate=self._estimate).rules

    def _paired(self, base: pd.DataFrame, candidate: pd.DataFrame, aliases: tuple[str, str]) -> Comparison:
        """Only the scores: tables, evidence and report are made once, at the end."""
        from forgetbench.analysis.pairing import Selection, pair_frames
        from forgetbench.analysis.types import Comparison, SideInfo

        pairing = pair_frames(
            base,
            candidate,
            selection=Selection(tasks=frozenset(self._metrics)),
            metrics=self._metrics,
            aliases=aliases if aliases[0] != aliases[1] else ("base", "candidate"),
        )
        one, other = (SideInfo(alias, "", "") for alias in aliases)
        return Comparison(one, other, self._suite, (), (), scores=pairing.scores)


def _only(frame: pd.DataFrame, asked: frozenset[Asking] | set[Asking]) -> pd.DataFrame:
    """The records of some items."""
    rows = zip(frame["view"], frame["task"], frame["content_hash"], frame["occurrence"], strict=True)
    mask = [(view, ItemKey(task, content, int(copy))) in asked for view, task, content, copy in rows]
    return frame[mask].reset_index(drop=True)


def _standing(results: Sequence[RuleResult], left: Sequence[Rule]) -> str:
    decided = [f"{r.rule.name} {r.state} after {r.n:,}" for r in results if r.state != "INCONCLUSIVE"]
    undecided = f"undecided: {', '.join(r.name for r in left)}" if left else "all decided"
    return "; ".join([*decided, undecided])
