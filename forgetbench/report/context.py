"""Comparisons and verdicts -> the plain dict that the templates show.

Only chooses, orders and names: no figure is computed here beyond counting what is listed. Every string that
comes from outside is made visible (`text.clean`) once, at the end; escaping is the template's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forgetbench.analysis.types import Change, Comparison
from forgetbench.gate.types import Rule, RuleResult, Verdict
from forgetbench.report.behaviour import behaviour_context
from forgetbench.report.decodings import deciding_here, decodings_of
from forgetbench.report.figures import (
    flip_matrix,
    heat_map,
    leak_table,
    moves,
    rate_table,
    subjects_of,
    view_gaps,
    views_of,
)
from forgetbench.report.numbers import GAINED, LOST, direction
from forgetbench.report.reasons import note, reason_sentence, rule_notice, rule_reason
from forgetbench.report.speed import speed_and_length
from forgetbench.report.text import clean, cut
from forgetbench.report.words import Words
from forgetbench.types import GREEDY, View

VIEWS: tuple[View, ...] = ("ability", "chat", "as_used")
TYPE_1, TYPE_2 = "task_type_1", "task_type_2"

Context = dict[str, Any]


def slug(text: str) -> str:
    """Letters that survive in a URL fragment and in an id."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-") or "x"


def candidates_in_order(comparisons: Sequence[Comparison], verdicts: Sequence[Verdict]) -> list[str]:
    """Aliases as they were given; the last one is the one that decides."""
    names = [v.candidate for v in verdicts] + [c.candidate.alias for c in comparisons]
    return list(dict.fromkeys(names))


def root_alias(comparisons: Sequence[Comparison], verdicts: Sequence[Verdict]) -> str:
    """The reference that all is held against."""
    if verdicts:
        return verdicts[-1].base
    return comparisons[0].base.alias if comparisons else "base"


def comparison_ids(comparisons: Sequence[Comparison]) -> list[str]:
    """Stable ids for links: `sft_v2-vs-base`, numbered only where two are the same."""
    ids: list[str] = []
    for c in comparisons:
        name = slug(f"{c.candidate.alias}-vs-{c.base.alias}")
        ids.append(name if name not in ids else f"{name}-{len(ids) + 1}")
    return ids


def rule_subject(rule: Rule) -> str:
    """What a rule is about, as the groups of changes are named."""
    return rule.task_type or rule.task or " + ".join(rule.tasks) or rule.name


def rule_for(change: Change, rules: Iterable[Rule], primary: bool = True) -> Rule | None:
    """The rule that a row's margin comes from; required ones first. Without a metric it means the primary."""
    subject = "task" if change.kind == "task" else "task_type"
    found = [
        r
        for r in rules
        if r.view == change.view
        and getattr(r, subject) == change.group
        and (r.metric == change.metric or (r.metric is None and primary))
    ]
    return min(found, key=lambda r: not r.required) if found else None


def _level(change: Change) -> int:
    return 2 if change.kind == TYPE_2 else 1


def ordered_types(changes: Iterable[Change]) -> list[Change]:
    """Two levels, gains first: parents by change, under each its children by change.

    A child that is its parent's only one stands alone, since both rows would say the same.
    """
    changes = list(changes)
    parents = sorted((c for c in changes if c.kind == TYPE_1), key=_by_change)
    out: list[Change] = []
    placed: set[int] = set()
    for parent in parents:
        # Not by metric: a parent that pools tasks bears the joined names of its children's metrics.
        children = [
            c
            for c in changes
            if c.kind == TYPE_2
            and id(c) not in placed
            and c.group.split("/")[0] == parent.group
            and (c.view, c.decode_id) == (parent.view, parent.decode_id)
        ]
        children.sort(key=_by_change)
        placed.update(id(c) for c in children)
        out.append(parent)
        if not (len(children) == 1 and children[0].n == parent.n):
            out.extend(children)
    out.extend(c for c in changes if c.kind == TYPE_2 and id(c) not in placed)
    return out


def _name_of(change: Change, changes: Sequence[Change]) -> str:
    """The full path where a lone child gave way to its parent, else the last part under its parent."""
    if change.kind == TYPE_1:
        children = {c.group for c in changes if c.kind == TYPE_2 and c.group.split("/")[0] == change.group}
        return children.pop() if len(children) == 1 else change.group
    return change.group.split("/", 1)[-1] if change.kind == TYPE_2 else change.group


def _sections(changes: Sequence[Change], rules: Sequence[Rule], decided_on: set[tuple[str, str]]) -> list[Context]:
    """Rows of one view and decoding: abilities in two levels, tasks, strata.

    decided_on: the (task, metric) pairs that pairs were judged by; a task's other metrics have no margin.
    """
    groups = [(c.kind, c.group) for c in changes]
    repeated = {g for g in groups if groups.count(g) > 1}
    known = {task for task, _ in decided_on}

    def row(c: Change) -> Context:
        primary = c.kind != "task" or c.group not in known or (c.group, c.metric) in decided_on
        return {
            "change": c,
            "name": _name_of(c, changes),
            "level": _level(c),
            "direction": direction(c),
            "path": c.group.split("/")[0] + "/" if c.kind == TYPE_2 and "/" in c.group else "",
            "rule": rule_for(c, rules, primary),
            "metric": c.metric if (c.kind, c.group) in repeated else "",
        }

    types = ordered_types(changes)
    tasks = sorted((c for c in changes if c.kind == "task"), key=_by_change)
    strata = sorted((c for c in changes if c.kind == "stratum"), key=_by_change)
    said = {(c.n, c.base, c.candidate) for c in types}
    tasks_repeat = all((c.n, c.base, c.candidate) in said for c in tasks)
    sections = []
    for title, listed, folded in (
        ("By ability", types, False),
        ("By task", tasks, tasks_repeat),  # one task per ability: the same figures under other names
        ("By subject", strata, True),
    ):
        if listed:
            sections.append({"title": title, "rows": [row(c) for c in listed], "folded": folded})
    return sections


def _by_change(change: Change) -> tuple[float, str]:
    return -change.delta, change.group


def rules_about(verdict: Verdict | None, comparison: Comparison, root: str, before: str | None) -> list[Rule]:
    """The rules that this comparison feeds; where it does not tell itself, as far as the names let guess."""
    if verdict is None:
        return []
    if comparison.against:
        return [r for r in verdict.policy.rules if r.against in comparison.against]
    base = comparison.base.alias

    def feeds(rule: Rule) -> bool:
        if rule.against == "base":
            return base == root
        if rule.against == "previous":
            return base == (before or root)
        return base not in (root, before)

    return [r for r in verdict.policy.rules if feeds(r)]


def headline_changes(comparison: Comparison) -> list[Change]:
    """What the page's top speaks of: abilities at the finer level, else tasks."""
    for kind in (TYPE_2, TYPE_1, "task"):
        found = [c for c in comparison.changes if c.kind == kind]
        if found:
            return found
    return []


def _news(changes: Sequence[Change], wanted: str) -> list[Context]:
    """Groups that moved that way, largest first; the views (and metrics) that say so under one name."""
    groups: dict[str, list[Change]] = {}
    for c in sorted(changes, key=lambda c: VIEWS.index(c.view)):
        if direction(c) == wanted:
            groups.setdefault(c.group, []).append(c)
    return [
        {"group": group, "changes": moved}
        for group, moved in sorted(groups.items(), key=lambda item: -max(abs(c.delta) for c in item[1]))
    ]


def _comparison(found: Comparison, ident: str, rules: Sequence[Rule], verdict: Verdict | None, words: Words) -> Context:
    news = headline_changes(found)
    decided_on = {(p.task, p.metric) for p in found.pairs}
    views = []
    subjects = subjects_of(found.pairs)
    by_view = views_of(found.pairs)
    for view in VIEWS:
        decodings = decodings_of(found.changes, view)
        for decode in decodings:
            mine = [c for c in found.changes if c.view == view and c.decode_id == decode]
            sections = _sections(mine, deciding_here(rules, decode, decodings), decided_on)
            views.append(
                {
                    "view": view,
                    "decode_id": decode,
                    "sections": sections,
                    "heat": heat_map(mine, subjects),
                    "matrix": flip_matrix(by_view.get((view, decode), ())),
                    "rates": rate_table(mine),
                    "has_margin": any(r["rule"] for s in sections for r in s["rows"]),
                    "intervals": [
                        f"{level} {words.sentence(method)}".strip()
                        for level, method in sorted({(f"{c.interval.level:.0%}", c.interval.method) for c in mine})
                    ],
                    "tests": sorted({words.sentence(c.test) for c in mine}),
                }
            )
    flips = [p.flip for p in found.pairs]
    return {
        "id": ident,
        "base": found.base.alias,
        "candidate": found.candidate.alias,
        "notes": [note(line, verdict, words) for line in found.notes],
        "gained": _news(news, GAINED),
        "lost": _news(news, LOST),
        "several_views": len({c.view for c in news}) > 1,
        "steady": sum(direction(c) not in (GAINED, LOST) for c in news),
        "groups": len(news),
        "n_pairs": len(flips),
        "flips": {name: flips.count(name) for name in ("gained", "lost", "changed", "same", "dropped")},
        "views": views,
        "gaps": view_gaps(
            found, [(c, _name_of(c, found.changes)) for c in ordered_types(found.changes) if c.view == "ability"]
        ),
        "leaks": leak_table(found, [*ordered_types(found.changes), *(c for c in found.changes if c.kind == "task")]),
        "speed": speed_and_length(found, words),
        "behaviour": behaviour_context(found, words),
        "decodings": sorted({c.decode_id for c in found.changes}),
        "differences": [list(d) for d in found.manifest_differences],
        "sides": [
            {
                "role": role,
                "alias": side.alias,
                "path": side.run_path,
                "fingerprint": side.fingerprint,
                "manifest": cut(
                    json.dumps(_differing_first(side.manifest, found), indent=2, ensure_ascii=False, default=str),
                    60_000,
                    0,
                ),
            }
            for role, side in (("base", found.base), ("candidate", found.candidate))
        ],
    }


def _differing_first(manifest: Mapping[str, object], found: Comparison) -> dict[str, object]:
    """A manifest with the parts first that the other side has otherwise."""
    others = found.base.manifest, found.candidate.manifest
    return {k: manifest[k] for k in sorted(manifest, key=lambda k: others[0].get(k) == others[1].get(k))}


def rules_in_order(results: Iterable[RuleResult]) -> list[RuleResult]:
    """Required before advisory, what blocks before what passes."""
    weight = {"FAIL": 0, "INCONCLUSIVE": 1, "PASS": 2}
    return sorted(results, key=lambda r: (not r.rule.required, weight.get(r.state, 3)))


def own_notes(verdict: Verdict, comparisons: Iterable[Comparison]) -> list[str]:
    """The verdict's notes that stand nowhere else: not a rule's notice, not a comparison's note."""
    elsewhere = {note for c in comparisons for note in c.notes} | {r.notice for r in verdict.rules if r.notice}
    return [note for note in verdict.notes if not any(note.endswith(known) for known in elsewhere)]


def _verdict(verdict: Verdict, comparisons: Sequence[Comparison], words: Words) -> Context:
    required = [r for r in verdict.rules if r.rule.required]
    drops = [r.minimum_detectable_drop for r in required if r.minimum_detectable_drop is not None]
    return {
        "state": verdict.state,
        "reason": reason_sentence(verdict, words),
        "exit_code": int(verdict.exit_code),
        "policy": verdict.policy.name,
        "alpha": verdict.policy.alpha,
        "rules": [
            {
                "result": r,
                "subject": rule_subject(r.rule),
                "reason": rule_reason(r, words),
                "notice": rule_notice(r, words),
            }
            for r in rules_in_order(verdict.rules)
        ],
        "n_required": len(required),
        "drops": [min(drops), max(drops)] if drops else [],
        "fewest": min((r.n for r in required), default=0),
        "notes": [note(line, verdict, words) for line in own_notes(verdict, comparisons)],
    }


def chain(comparisons: Sequence[Comparison], aliases: Sequence[str]) -> list[Context]:
    """Scores along base, v1, v2, ...: one table per view. A cell no comparison has stays unknown.

    Comparisons against the root come first, so that a score is the one its verdict was made with.
    """
    tables = []
    root = aliases[0]
    for view in VIEWS:
        cells: dict[tuple[str, str, str, str], dict[str, float]] = {}
        for found in sorted(comparisons, key=lambda c: c.base.alias != root):
            for c in found.changes:
                if c.view == view and c.kind in (TYPE_1, TYPE_2):
                    row = cells.setdefault((c.kind, c.group, c.metric, c.decode_id), {})
                    row.setdefault(found.base.alias, c.base)
                    row.setdefault(found.candidate.alias, c.candidate)
        if not cells:
            continue
        rows = []
        for kind, group, metric, decode in sorted(cells, key=lambda k: (k[1].split("/")[0], k[0], k[1])):
            siblings = [k for k in cells if k[0] == TYPE_2 and k[1].split("/")[0] == group.split("/")[0]]
            if kind == TYPE_2 and len(siblings) == 1 and (TYPE_1, group.split("/")[0], metric, decode) in cells:
                continue
            name = siblings[0][1] if kind == TYPE_1 and len(siblings) == 1 else group
            sampled = "" if decode == GREEDY else f" ({decode})"
            scores = [cells[kind, group, metric, decode].get(a) for a in aliases]
            rows.append(
                {
                    "name": (name.split("/", 1)[1] if kind == TYPE_2 and "/" in name else name) + sampled,
                    "path": group.split("/")[0] + "/" if kind == TYPE_2 and "/" in name else "",
                    "level": 2 if kind == TYPE_2 else 1,
                    "scores": scores,
                    "moved": moves(scores),
                }
            )
        tables.append({"view": view, "rows": rows})
    return tables


def build_context(
    comparisons: Sequence[Comparison],
    verdicts: Sequence[Verdict],
    *,
    title: str = "",
    banner: str = "",
    words: Words | None = None,
) -> Context:
    """Everything the templates need, as plain data: typed rows become dicts of the same names."""
    words = words or Words()
    root = root_alias(comparisons, verdicts)
    names = candidates_in_order(comparisons, verdicts)
    ids = comparison_ids(comparisons)
    candidates = []
    for position, name in enumerate(names):
        verdict = next((v for v in verdicts if v.candidate == name), None)
        before = names[position - 1] if position else None
        mine = [(c, i) for c, i in zip(comparisons, ids, strict=True) if c.candidate.alias == name]
        mine.sort(key=lambda pair: pair[0].base.alias != root)  # against the base first
        candidates.append(
            {
                "id": f"candidate-{position + 1}",
                "alias": name,
                "verdict": _verdict(verdict, [c for c, _ in mine], words) if verdict else None,
                "comparisons": [
                    _comparison(c, i, rules_about(verdict, c, root, before), verdict, words) for c, i in mine
                ],
                "decides": position == len(names) - 1,
            }
        )
    aliases = list(dict.fromkeys([root, *names]))
    lines = [banner] if banner else list(dict.fromkeys(c.banner for c in comparisons if c.banner))
    context = {
        "title": title or " → ".join(aliases),
        "banners": lines,
        "root": root,
        "aliases": aliases,
        "suites": list(dict.fromkeys(c.suite for c in comparisons)),
        "candidates": candidates,
        "chain": chain(comparisons, aliases) if len(names) > 1 else [],
    }
    cleaned: Context = clean(context)
    return cleaned
