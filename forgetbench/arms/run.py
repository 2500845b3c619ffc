"""Every arm and seed trained or merged, every kept checkpoint graded.

    OUT/arms/<arm>/seed-<n>/   the training run (or the merged folders), its grades beside it
    OUT/items/                 what was asked
    OUT/results.json           what became of each arm and seed, written after each of them

The same call on the same folder goes on: finished runs are not trained, stored grades not asked again. An arm that
fails is named and does not end the others; the next call tries it again.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench.arms import store
from forgetbench.arms.config import Plan
from forgetbench.arms.results import Graded, Outcome, Results, write
from forgetbench.arms.score import graded
from forgetbench.arms.worker import Workers
from forgetbench.errors import ForgetbenchError, Interrupted, UsageError
from forgetbench.runs.files import safe_name
from forgetbench.training.base import known_as, weights_of

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.merging.types import Recipe as MergeRecipe
    from forgetbench.runs.store import Run
    from forgetbench.training.grading import Grader
    from forgetbench.training.prepare import Where

Say = Callable[[str], None]
_PAUSE = 10.0
"""Seconds between two lines about the same training run."""


@dataclass(frozen=True, slots=True)
class GraderCall:
    """What `open_grader` is called with: a process of its own opens its own."""

    base: str
    alias: str | None = None
    """Of the base in forgetbench.yaml; None: it is a folder."""
    config: Path | None = None
    suite: str | None = None
    policy: str | None = None
    data_dir: Path | None = None
    offline: bool = False
    limit: int | None = None
    use_cache: bool = True

    @property
    def where(self) -> Where:
        """How trainings ask the base: as the grader does."""
        from forgetbench.training.prepare import Where

        return Where(self.alias, self.config, self.data_dir, self.offline)

    def open(self) -> Grader:
        from forgetbench.training.grading import open_grader

        return open_grader(
            self.base,
            config=self.config,
            suite=self.suite,
            policy=self.policy,
            data_dir=self.data_dir,
            offline=self.offline,
            limit=self.limit,
            use_cache=self.use_cache,
        )


def grader_call(
    plan: Plan,
    *,
    config: Path | None = None,
    data_dir: Path | None = None,
    offline: bool = False,
    use_cache: bool = True,
) -> GraderCall:
    """How the experiment's checkpoints are judged. Suite, policy and base may be files beside the experiment's;
    an alias of forgetbench.yaml goes before a folder of its name."""
    from forgetbench.config import CONFIG_NAME

    def beside(value: str | None) -> str | None:
        found = None if value is None else plan.root / Path(value).expanduser()
        return str(found.resolve()) if found is not None and found.exists() else value

    own = plan.root / CONFIG_NAME
    file = config if config is not None else own if own.is_file() else None
    experiment = plan.experiment
    alias = known_as(experiment.base, file)
    return GraderCall(
        base=alias or beside(experiment.base) or experiment.base,
        alias=alias,
        config=file,
        suite=beside(experiment.suite),
        policy=beside(experiment.policy),
        data_dir=data_dir,
        offline=offline,
        limit=experiment.limit,
        use_cache=use_cache,
    )


def run(plan: Plan, out: Path, call: GraderCall, *, workers: int = 1, say: Say = print) -> Results:
    """Train, merge and grade what is missing of `plan` in the folder `out`.

    workers: processes side by side; 1: all in this one. Raises UsageError for a base, suite or policy that cannot be
    used, before anything is trained; what fails later is in the results.
    """
    from forgetbench.runs.lock import locked
    from forgetbench.runs.signals import sigterm_is_ctrl_c

    grader = call.open()
    _check(plan, grader)
    out.mkdir(parents=True, exist_ok=True)
    # A scheduler's SIGTERM has to end the children too.
    with sigterm_is_ctrl_c(), locked(out / ".lock", on_wait=lambda who: say(f"{out} is in use by {who}: waiting")):
        _level_is_above(plan, grader, grader.prepare(say))
        experiment = plan.experiment
        trained = [(arm, seed) for arm in experiment.arms if arm not in plan.merges for seed in experiment.seeds]
        merged = [(arm, seed) for arm in plan.merges for seed in experiment.seeds]
        done: dict[tuple[str, int], Outcome] = {}
        for jobs in (trained, merged):  # merges need what was trained
            for outcome in _all(jobs, plan, out, call, grader, workers, say):
                done[outcome.arm, outcome.seed] = outcome
                if outcome.error is not None:
                    say(f"{outcome.arm}, seed {outcome.seed}: failed: {outcome.error}")
                found = _ordered(plan, done)
                write(Results(plan, out, found))
    return Results(plan, out, _ordered(plan, done), grader.ws.suite.banner)


def _ordered(plan: Plan, done: Mapping[tuple[str, int], Outcome]) -> tuple[Outcome, ...]:
    keys = [(arm, seed) for arm in plan.experiment.arms for seed in plan.experiment.seeds]
    return tuple(done[key] for key in keys if key in done)


def _check(plan: Plan, grader: Grader) -> None:
    """The base can be trained from, and both scores have items that it is asked."""
    from forgetbench import flow

    weights_of(grader.ws, grader.base)
    template = flow.checkpoint(grader.ws, grader.base, to_run=True).has_chat_template
    facts = flow.facts(grader.ws, grader.loaded).values()
    asked = {(view, kind) for f in facts for view in f.views for kind in f.task_types}
    for selection in (plan.experiment.target_items, plan.experiment.general_items):
        if "chat" in selection.views and not template:
            raise UsageError(
                f"{plan.file}: {selection.name}.view",
                "is chat, and the base has no chat template to compare in",
                "use ability, or a base that has one",
            )
        for view in selection.views:
            if not any(selection.takes(view, kind) for v, kind in asked if v == view):
                known = ", ".join(sorted({kind for v, kind in asked if v == view})) or "nothing"
                raise UsageError(
                    f"{plan.file}: {selection.name}",
                    f"the suite asks nothing of {', '.join(selection.task_types) or 'the rest'} in the view {view}",
                    f"there it asks {known}",
                )


def _level_is_above(plan: Plan, grader: Grader, asked: Run) -> None:
    """Raises UsageError for an `at:` in per cent that the base reaches already: no arm could be told apart there."""
    from forgetbench.analysis.compare import compare_runs
    from forgetbench.analysis.pairing import Selection
    from forgetbench.arms.score import cells_of, score
    from forgetbench.findings import scored_metrics

    at = plan.experiment.at
    if isinstance(at, str):
        return
    metrics = scored_metrics(grader.ws, grader.loaded)
    itself = compare_runs(
        asked, asked, suite=grader.ws.suite.name, selection=Selection(frozenset(metrics)), metrics=metrics
    )
    base = 100 * score(cells_of(itself), plan.experiment.target_items).base
    if at <= base:
        raise UsageError(f"{plan.file}: at", f"{at:g} is not above the base's target score, {base:.1f}", "raise it")


# ---- one after the other, or side by side


def _all(
    jobs: Sequence[tuple[str, int]],
    plan: Plan,
    out: Path,
    call: GraderCall,
    grader: Grader,
    workers: int,
    say: Say,
) -> Iterator[Outcome]:
    """What becomes of each job, as it ends."""
    if workers == 1 or len(jobs) < 2:
        for arm, seed in jobs:
            yield _one(plan, out, call, grader, arm, seed, say)
        return
    children = Workers()
    with ThreadPoolExecutor(workers) as threads:
        futures = [threads.submit(_apart, children, plan, out, call, arm, seed) for arm, seed in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            children.close()
            threads.shutdown(wait=True, cancel_futures=True)


def _apart(children: Workers, plan: Plan, out: Path, call: GraderCall, arm: str, seed: int) -> Outcome:
    """One job in a process of its own, so that one that is killed for memory takes no other with it."""
    try:
        found: Outcome = children.call(_in_process, plan, out, call, arm, seed)
    except ChildProcessError as error:
        return Outcome(arm, seed, (), f"its process died ({error}; out of memory?)")
    return found


def _in_process(plan: Plan, out: Path, call: GraderCall, arm: str, seed: int) -> Outcome:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    return _one(plan, out, call, call.open(), arm, seed, say)


def _one(plan: Plan, out: Path, call: GraderCall, grader: Grader, arm: str, seed: int, say: Say) -> Outcome:
    """One arm with one seed, whatever becomes of it."""
    points: list[Graded] = []
    try:
        for point in _points(plan, out, call, grader, arm, seed, lambda line: say(f"{arm}, seed {seed}: {line}")):
            points.append(point)
    except Interrupted:
        raise
    except ForgetbenchError as error:
        return Outcome(arm, seed, tuple(points), " ".join(str(error).split()))
    except Exception as error:  # one arm must not end the others
        told = " ".join(str(error).split())[:300]
        return Outcome(arm, seed, tuple(points), f"{type(error).__name__}: {told}")
    return Outcome(arm, seed, tuple(points))


def _points(plan: Plan, out: Path, call: GraderCall, grader: Grader, arm: str, seed: int, say: Say) -> Iterator[Graded]:
    folder = out / "arms" / arm / f"seed-{seed}"  # a name is a harmless folder's (config_fields.py: check_name)
    base = str(weights_of(grader.ws, grader.base))
    if arm in plan.noops:
        # The same weights whatever the seed: asked once.
        places = [("base", Path(base))]
        folder = out / "arms" / arm
    elif arm in plan.recipes:
        places = _trained(plan, folder, base, call.where, arm, seed, say)
    else:
        places = _merged(plan, out, folder, grader, arm, seed, say)
    context = grader.context
    for label, place in places:
        alias = _alias(plan, f"{folder.relative_to(out / 'arms')}-{label}")
        digest = grader.point(alias, place)[1].digest if place.is_dir() else None
        grade = store.load(out, folder, label, context, digest)
        if grade is None:
            if digest is None:
                raise UsageError(str(place), "is gone, and its grade does not hold any more", "remove the arm's folder")
            say(f"grading {label}")
            grade = graded(grader.grade(alias, place, say))
            store.save(out, folder, label, context, digest, grade)
        yield Graded(label, str(place), grade)


def _alias(plan: Plan, place: str) -> str:
    """What the grader calls a checkpoint. Letters of every script stay: two names must not fall together."""
    return re.sub(r"[^\w.-]+", "_", f"{plan.file.stem}-{place}".replace(" ", "-")).strip("._") or "_"


def _trained(
    plan: Plan, folder: Path, base: str, where: Where, arm: str, seed: int, say: Say
) -> list[tuple[str, Path]]:
    """Train, or go on; label and folder of each checkpoint that is graded."""
    import transformers

    from forgetbench.training import manifest
    from forgetbench.training.fit import run as train

    transformers.utils.logging.disable_progress_bar()
    recipe = plan.recipe(arm, seed)
    final = train(recipe, plan.root, base, folder, _seldom(say), where)
    for checkpoint in manifest.checkpoints(folder):
        manifest.drop_state(checkpoint)  # the run is over, and its optimizer is twice the weights in float32
    *inner, last = plan.steps(arm)
    places = [(f"step {step}", folder / f"checkpoint-{step}") for step in inner]
    for label, place in places:
        wrong = manifest.damage(place) if place.is_dir() else None
        if wrong is not None:
            raise UsageError(
                str(place), f"the checkpoint at {label} cannot be graded: {wrong}", "remove the arm's folder"
            )
    return [*places, (f"step {last}", final)]


def _seldom(say: Say) -> Say:
    """Of the lines about steps one every few seconds; every other line."""
    last = [-_PAUSE]

    def tell(line: str) -> None:
        if line.startswith("step ") and time.monotonic() - last[0] < _PAUSE:
            return
        last[0] = time.monotonic()
        say(line)

    return tell


def _merged(
    plan: Plan, out: Path, folder: Path, grader: Grader, arm: str, seed: int, say: Say
) -> list[tuple[str, Path]]:
    """Merge what is not there yet; label and folder of each."""
    from forgetbench import flow
    from forgetbench.merging.folder import TOLD
    from forgetbench.merging.merge import merge
    from forgetbench.training import manifest

    wanted = plan.merges[arm]
    points = [flow.checkpoint(grader.ws, grader.base, to_run=True)]
    for name in wanted.of:
        final = out / "arms" / name / f"seed-{seed}" / "final"
        wrong = manifest.damage(final)
        if wrong is not None:
            raise UsageError(f"arm '{arm}'", f"merges '{name}', which is not finished: {wrong}", "see what failed")
        points.append(grader.point(_alias(plan, f"{name}-s{seed}-final"), final)[1])
    found = []
    for recipe in wanted.recipes(seed):
        label = f"alpha {recipe.alpha:g}" if recipe.alpha is not None else "merged"
        place = folder / safe_name(label)
        if (place / TOLD).is_file():
            _is_of(place, recipe, points)
        else:
            say(f"merging {label}")
            folder.mkdir(parents=True, exist_ok=True)
            merge(points, recipe, place)
        found.append((label, place))
    return found


def _is_of(place: Path, recipe: MergeRecipe, points: Sequence[Checkpoint]) -> None:
    """The merged folder was made of these checkpoints with these parameters. Raises UsageError."""
    from forgetbench.merging.folder import TOLD

    told = json.loads((place / TOLD).read_bytes())
    wanted = {k: v for k, v in asdict(recipe).items() if v is not None and k not in ("method", "seed")}
    parameters = told["method"], told["parameters"], told["seed"], [m["digest"] for m in told["models"]]
    if parameters != (recipe.method, json.loads(json.dumps(wanted)), recipe.seed, [p.digest for p in points]):
        raise UsageError(str(place), "was merged of other checkpoints or parameters", "remove the folder")
