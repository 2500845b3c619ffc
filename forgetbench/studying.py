"""Behaviour on the street: which comparisons are studied, by whom later rounds are answered, and where it is put."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench import flow, imported
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.analysis.types import Comparison
    from forgetbench.behaviour.embedder import Embedder
    from forgetbench.behaviour.fixed import FixedText
    from forgetbench.behaviour.types import Study
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.probing.types import Example
    from forgetbench.runs.store import Run
    from forgetbench.training.data import TrainingText


def what(ws: Workspace) -> Study:
    """The parts that the suite (or --study) names."""
    from forgetbench.behaviour.types import PARTS, Study

    wanted = ws.suite.study
    return Study(**{part: part in wanted.parts for part in PARTS}, most=wanted.most, further=wanted.further)


def check(ws: Workspace) -> None:
    """Raises UsageError for texts or an embedder that are not there, which must not surface after an hour."""
    if what(ws).distribution:
        texts(ws)
    embedder(ws)


def texts(ws: Workspace) -> list[FixedText]:
    """The suite's fixed texts, one that is listed twice once. Raises UsageError for what cannot be had."""
    from forgetbench.behaviour.fixed import HUB, files_of, hub_texts, parse_hub
    from forgetbench.tasks.source import DataSource

    where = f"{ws.suite_file}: study: texts"
    found: list[FixedText] = []
    for value in ws.suite.study.texts:
        if value.startswith(HUB):
            found += hub_texts(parse_hub(value, where), ws.cache, DataSource(offline=ws.offline), where)
        else:
            found += files_of(ws.file(value), where, value)
    return list({text.name: text for text in found}.values())


def embedder(ws: Workspace) -> Embedder | None:
    """What the suite's Vendi score is taken with. Raises UsageError for one that is not there."""
    name = ws.suite.study.embedder
    if name is None:
        return None
    from forgetbench.behaviour.embedder import find_embedder

    local = ws.file(name) if name.startswith("{data}/") else ws.suite_file.parent / Path(name).expanduser()
    is_path = name.startswith((".", "/", "~", "{data}/")) or local.exists()
    return find_embedder(name, str(local) if is_path else name, f"{ws.suite_file}: study: embedder", ws.cache)


def studied(
    ws: Workspace,
    loaded: flow.Loaded,
    points: Mapping[str, Checkpoint],
    runs: Mapping[str, Run],
    judged: Sequence[flow.Judgement],
    say: flow.Say,
    *,
    training: Sequence[TrainingText] = (),
    examples: Sequence[Example] = (),
    use_cache: bool = True,
    generate: bool = True,
) -> list[flow.Judgement]:
    """The judgements, each comparison with its behaviour. generate: False finds only what lies on disk.

    Distribution and beliefs are those of the reference that a verdict is against first; causes are found for the flips
    of every comparison, as the chat view of a base without a template is compared with another checkpoint.
    """
    asked = what(ws)
    embed = embedder(ws)
    known: dict[int, Comparison] = {}
    made = []
    for one in judged:
        for number, comparison in enumerate(one.comparisons):
            if id(comparison) in known:
                continue
            part = asked if number == 0 else replace(asked, distribution=False, belief=False, drift=False)
            taught = () if number else examples
            of = comparison.base.alias, comparison.candidate.alias
            if imported.is_imported(ws, of[0]) or imported.is_imported(ws, of[1]):
                part = type(asked)(distribution=False)
                taught = ()
            known[id(comparison)] = _one(
                ws,
                loaded,
                points,
                runs,
                comparison,
                part,
                say,
                training,
                taught,
                embed,
                use_cache=use_cache,
                generate=generate,
            )
        made.append(replace(one, against={k: known[id(c)] for k, c in one.against.items()}))
    return made


def _one(
    ws: Workspace,
    loaded: flow.Loaded,
    points: Mapping[str, Checkpoint],
    runs: Mapping[str, Run],
    comparison: Comparison,
    part: Study,
    say: flow.Say,
    training: Sequence[TrainingText],
    examples: Sequence[Example],
    embed: Embedder | None,
    *,
    use_cache: bool,
    generate: bool,
) -> Comparison:
    from forgetbench.behaviour.study import study
    from forgetbench.rounds import Rounds, Side

    aliases = comparison.base.alias, comparison.candidate.alias
    if aliases[0] == aliases[1]:
        return comparison
    sides = []
    for alias in aliases:
        jobs = () if imported.is_imported(ws, alias) else flow.jobs(ws, loaded, points[alias])
        sides.append(Side(points[alias], runs[alias], jobs))
    with Rounds(ws, loaded, sides, say, use_cache=use_cache, generate=generate) as rounds:
        found = study(
            sides[0],
            sides[1],
            comparison,
            rounds,
            part,
            texts=texts(ws) if part.distribution else (),
            training=[t.text for t in training],
            examples=examples,
            embed=embed,
        )
    return replace(comparison, behaviour=found)
