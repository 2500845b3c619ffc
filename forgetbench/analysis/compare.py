"""Two runs -> Comparison: what changed, per task, task_type and stratum, with the evidence item by item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from forgetbench.analysis.answers import answer_change
from forgetbench.analysis.evidence import evidence
from forgetbench.analysis.forgetting import flips
from forgetbench.analysis.groups import Group, groups
from forgetbench.analysis.measures import measure_notes
from forgetbench.analysis.paired import DRAWS, Estimator, estimator, interval
from forgetbench.analysis.pairing import Selection, pair_frames
from forgetbench.analysis.severity import is_catastrophic, severity
from forgetbench.analysis.simultaneous import simultaneous_upper
from forgetbench.analysis.types import FLAGS, OUTCOMES, Change, Comparison, PairedScores, Rates, SideInfo

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Fit = Callable[[PairedScores], Estimator | None]
ALPHA = 0.05
_IMPORTED = "imported"
"""The engine's name in the identity of imported results (runs/importers)."""
_STRATUM_DRAWS = 2_000
"""A stratum's interval is read by eye and decides nothing: fewer draws, since MMLU has 57 of them."""


class RunLike(Protocol):
    """What a comparison needs of a run (`runs.store.Run`)."""

    @property
    def alias(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def fingerprint(self) -> str: ...
    def manifest_dict(self) -> dict[str, Any]: ...
    def records(self) -> pd.DataFrame: ...


def compare_runs(
    base: RunLike,
    candidate: RunLike,
    *,
    suite: str,
    selection: Selection | None = None,
    metrics: Mapping[str, str] | None = None,
    bootstrap: int = DRAWS,
    seed: int = 0,
    banner: str = "",
    fit: Fit | None = None,
) -> Comparison:
    """Compare two runs. Raises IncomparableError listing every difference, versions in the manifests
    included.

    metrics: by task the metric it is decided on (`Task.metrics[0]`); records do not keep that order. fit: what takes
    the place of `fit_scores` where the number of items was not planned (gate/sequential.py).
    """
    manifests = base.manifest_dict(), candidate.manifest_dict()
    aliases = base.alias, candidate.alias
    differences, notes = _manifest_findings(manifests, aliases, selection or Selection())
    infos = [
        SideInfo(run.alias, str(run.path), run.fingerprint, dict(manifest))
        for run, manifest in zip((base, candidate), manifests, strict=True)
    ]
    return compare_frames(
        base.records(),
        candidate.records(),
        base=infos[0],
        candidate=infos[1],
        suite=suite,
        selection=selection,
        metrics=metrics,
        bootstrap=bootstrap,
        seed=seed,
        banner=banner,
        differences=differences,
        notes=notes,
        fit=fit,
    )


def compare_frames(
    base_records: pd.DataFrame,
    candidate_records: pd.DataFrame,
    *,
    base: SideInfo,
    candidate: SideInfo,
    suite: str,
    selection: Selection | None = None,
    metrics: Mapping[str, str] | None = None,
    bootstrap: int = DRAWS,
    seed: int = 0,
    banner: str = "",
    differences: Sequence[str] = (),
    notes: Sequence[str] = (),
    fit: Fit | None = None,
) -> Comparison:
    """Compare two frames with the columns of `Record` (`scores` as JSON text or mappings)."""
    pairing = pair_frames(
        base_records,
        candidate_records,
        selection=selection,
        metrics=metrics,
        differences=differences,
        aliases=_names(base.alias, candidate.alias),
    )
    changes, silent = changes_of(pairing.scores, bootstrap=bootstrap, seed=seed, fit=fit)
    catastrophe = is_catastrophic(_knowledge(changes))
    ruin = ("catastrophic: every knowledge task_type collapsed towards chance",) if catastrophe else ()
    # After a sequential comparison only what holds at any stopping time may be shown.
    measured = measure_notes(pairing.scores, changes, draws=bootstrap, seed=seed) if fit is None else []
    return Comparison(
        base=base,
        candidate=candidate,
        suite=suite,
        changes=tuple(changes),
        pairs=tuple(evidence(pairing)),
        notes=(*ruin, *notes, *pairing.notes, *silent, *measured),
        manifest_differences=tuple(_manifest_differences(base.manifest, candidate.manifest)),
        banner=banner,
        scores=pairing.scores,
        answers=answer_change(pairing, base.manifest, candidate.manifest, seed=seed),
    )


def changes_of(
    scores: Sequence[PairedScores], *, bootstrap: int = DRAWS, seed: int = 0, fit: Fit | None = None
) -> tuple[list[Change], list[str]]:
    """A Change for every group that has scored pairs, and notes on those that have none."""
    made: list[tuple[Group, Estimator]] = []
    notes: list[str] = []
    for group in groups(scores):
        draws = min(bootstrap, _STRATUM_DRAWS) if group.kind == "stratum" else bootstrap
        found = fit_scores(group.scores, draws=draws, seed=seed) if fit is None else fit(group.scores)
        if found is None:
            why = "not one pair without infra_error"
            if scored(group.scores).any():  # of a sequential comparison
                why = f"{group.scores.metric} is not shown: no bound on it holds at any stopping time"
            notes.append(f"{group.name} ({group.scores.view}): {why}")
        else:
            made.append((group, found))
    family: dict[tuple[str, str, bool], int] = {}
    for group, _ in made:
        key = (group.kind, group.scores.view, group.scores.primary)
        family[key] = family.get(key, 0) + 1
    return [
        _change(group, found, family[group.kind, group.scores.view, group.scores.primary]) for group, found in made
    ], notes


def scored(scores: PairedScores) -> NDArray[np.bool_]:
    """(n,) which pairs have a score on both sides."""
    mask: NDArray[np.bool_] = ~(np.isnan(scores.base) | np.isnan(scores.candidate))
    return mask


def fit_scores(scores: PairedScores, *, draws: int = DRAWS, seed: int = 0) -> Estimator | None:
    """The estimator of a group; None when no pair has a score on both sides. The gate uses this same one."""
    mask = scored(scores)
    if not mask.any():
        return None
    return estimator(
        scores.base[mask],
        scores.candidate[mask],
        scores.clusters[mask],
        single=scores.single,
        draws=draws,
        seed=seed,
    )


def rates_of(outcomes: NDArray[np.int64], flags: NDArray[np.int64] | None = None) -> Rates:
    """Shares of samples by outcome, from counts (n, 6), and by flag, from counts (n, 4)."""
    totals = outcomes.sum(axis=0)
    shares = dict(zip(OUTCOMES, (totals / max(int(totals.sum()), 1)).tolist(), strict=True))
    rates = Rates(**{name: shares[name] for name in OUTCOMES if name != "ok"})
    counts = [0] if flags is None else flags.sum(axis=0).tolist()
    if not counts[0]:
        return rates
    looped, wrong_language, thought = (count / counts[0] for count in counts[1 : len(FLAGS)])
    return replace(rates, looped=looped, wrong_language=wrong_language, thought=thought)


def _change(group: Group, fit: Estimator, family: int) -> Change:
    scores = group.scores
    mask = scored(scores)
    base, candidate = scores.base[mask], scores.candidate[mask]
    two_sided = interval(fit)
    moved = flips(base, candidate) if scores.binary else None
    choices = scores.n_choices[mask]
    choices = choices[~np.isnan(choices)]
    return Change(
        group=group.name,
        kind=group.kind,
        view=scores.view,
        metric=scores.metric,
        decode_id=scores.decode_id,
        n=int(mask.sum()),
        n_clusters=fit.n_clusters,
        base=float(base.mean()),
        candidate=float(candidate.mean()),
        delta=fit.delta,
        interval=two_sided,
        lower=fit.lower(ALPHA),
        upper=fit.upper(ALPHA),
        p_value=fit.p_value(),
        test=fit.test,
        forgotten=moved.forgotten if moved else None,
        gained=moved.gained if moved else None,
        rel_forgotten=moved.rel_forgotten if moved else None,
        discordance=moved.discordance if moved else None,
        severity=severity(fit.delta, two_sided.high, simultaneous_upper(fit, family, ALPHA)),
        base_rates=rates_of(scores.base_outcomes, scores.base_flags),
        candidate_rates=rates_of(scores.candidate_outcomes, scores.candidate_flags),
        dropped_infra=int((~mask).sum()),
        chance=float((1.0 / choices).mean()) if choices.size else None,
    )


def _knowledge(changes: Sequence[Change]) -> list[Change]:
    """The abilities that need pretrained knowledge, at the finest level there is."""
    for kind in ("task_type_2", "task_type_1"):
        found = [c for c in changes if (c.kind, c.view) == (kind, "ability")]
        found = [c for c in found if c.group.split("/")[0] == "knowledge"]
        if found:
            return found
    return []


def _names(base: str, candidate: str) -> tuple[str, str]:
    """Names for messages; a run compared with itself is still two sides."""
    return (base, candidate) if base != candidate else (f"{base} (base)", f"{candidate} (candidate)")


def _manifest_findings(
    manifests: tuple[dict[str, Any], dict[str, Any]], aliases: tuple[str, str], selection: Selection
) -> tuple[list[str], list[str]]:
    """(differences, notes): versions and decodings that differ between entries of the same task and view."""
    names = _names(*aliases)
    differences: list[str] = []
    named = list(zip(names, manifests, strict=True))
    # A view that a whole side lacks is told once, by the pairing.
    lines = [line for _, manifest in named for line in manifest.get("notes", ())]
    notes = [line for line in dict.fromkeys(lines) if "view needs a chat template" not in line]
    sides = [_entries(m, selection, r) for m, r in zip(manifests, selection.replicates, strict=True)]
    for name, side in zip(names, sides, strict=True):
        for (task, view, _), entry in side.items():
            if entry.get("state") != "complete":
                notes.append(f"{task} ({view}) is not complete in {name}")
    for key in sorted(sides[0].keys() & sides[1].keys()):
        task, view, _ = key
        left, right = (_versions(side[key], view) for side in sides)
        elsewhere = [name for name, side in zip(names, sides, strict=True) if _is_imported(side[key])]
        if elsewhere:
            unknown = [w for w in left.keys() | right.keys() if not (left.get(w) and right.get(w))]
            left, right = ({k: v for k, v in side.items() if k not in unknown} for side in (left, right))
            notes += _trusted(f"{task} ({view})", elsewhere, [side[key] for side in sides], "scorer version" in unknown)
        for what in sorted(left.keys() | right.keys()):
            if left.get(what) != right.get(what):
                have = f"{names[0]} {left.get(what)}, {names[1]} {right.get(what)}"
                differences.append(f"{task} ({view}): {what} differs: {have}")
    return differences, notes


def _is_imported(entry: Mapping[str, Any]) -> bool:
    return bool(entry["identity"].get("engine", {}).get("name") == _IMPORTED)


def _trusted(where: str, names: Sequence[str], entries: Sequence[Mapping[str, Any]], unscored: bool) -> Iterator[str]:
    """What of imported results cannot be checked; nothing where one harness scored both sides."""
    made = [e["identity"]["engine"].get("from") if _is_imported(e) else "forgetbench" for e in entries]
    if unscored and made[0] != made[1]:
        yield (
            f"{where}: {' and '.join(names)} imported, scored by {made[0]} and {made[1]}: "
            "that both score alike is taken on trust"
        )


def _entries(
    manifest: Mapping[str, Any], selection: Selection, replicate: int
) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Round-0 entries by (task, view, decode_id)."""
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for entry in manifest.get("tasks", ()):
        identity = entry["identity"]
        task, view = identity["task"], identity["view"]
        if selection.tasks is not None and task not in selection.tasks:
            continue
        if selection.views is not None and view not in selection.views:
            continue
        if identity.get("replicate", 0) == replicate and not identity["decode"].get("round"):
            found[task, view, str(identity["decode"].get("decode_id", ""))] = entry
    return found


def _versions(entry: Mapping[str, Any], view: str) -> dict[str, object]:
    identity = entry["identity"]
    decode = {f"decode.{k}": v for k, v in identity["decode"].items()}
    if view == "as_used":
        for style in ("decode.style", "decode.styles", "decode.num_fewshot"):
            decode.pop(style, None)  # that view exists to compare unlike styles
    return {"task version": identity["task_version"], "scorer version": entry["scorer_version"], **decode}


def _manifest_differences(
    base: Mapping[str, object], candidate: Mapping[str, object]
) -> Iterator[tuple[str, str, str]]:
    """(key, base value, candidate value) where the manifests differ, times and task entries aside."""
    left, right = dict(_flat(base)), dict(_flat(candidate))
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            yield key, left.get(key, ""), right.get(key, "")


_LEFT_OUT = frozenset({"alias", "created", "updated", "tasks", "notes"})


def _flat(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if prefix or key not in _LEFT_OUT:
            if isinstance(inner, Mapping):
                yield from _flat(inner, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", str(inner)
