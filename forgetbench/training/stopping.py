"""When a fine-tune ends, and with which of its checkpoints: pure functions of what it has logged.

The lines of metrics.jsonl up to a checkpoint are all the memory there is. A resumed run reads them and decides as the
undisturbed one did.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from forgetbench.errors import Exit, ForgetbenchError
from forgetbench.runs.files import atomic_write

Line = Mapping[str, Any]
Measure = Literal["per_token", "per_sample"]
WINDOW = 100
"""Steps whose median gradient norm is the usual one."""
FEWEST = 20
"""Steps before which no norm counts as unusual: the first ones are."""
RESULT = "result.json"
NONE_ACCEPTABLE = "no acceptable checkpoint"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run is stopped by, and what a checkpoint has to be to be its result."""

    judged_every: int | None = None
    """Steps between two judgements of the gate on the retention set. None: not judged."""
    on_fail: Literal["stop", "go_on"] = "stop"
    patience: int | None = None
    """Evaluations without a new best held-out loss after which it ends. None: held-out losses are only shown."""
    measure: Measure = "per_token"
    """The held-out loss that counts: of the kind that is minimised."""
    explosion: float | None = None

    @property
    def chooses(self) -> bool:
        """Whether the result may be another checkpoint than the last one."""
        return self.judged_every is not None or self.patience is not None

    def judges(self, step: int, last: int) -> bool:
        """Whether the checkpoint of a step is judged; that of the last step always is."""
        return self.judged_every is not None and (step % self.judged_every == 0 or step == last)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said of a checkpoint."""

    state: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    reason: str
    deltas: Mapping[str, float | None]
    """Change to the base by rule, as fractions of 1."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a run ended."""

    final: Path | None
    """Weights (LoRA: the adapter) and tokenizer, with their list of files. None: no checkpoint is acceptable."""
    step: int | None
    """Of `final`."""
    steps: int
    """That were made."""
    why: str
    """One sentence."""
    exit_code: Exit = Exit.PASS
    """PASS; REGRESSION where the gate stopped it or rejected all; INCONCLUSIVE where it accepted and rejected none."""


class Exploded(ForgetbenchError):
    """The gradient norm is not finite or far above what it was. The step was not made."""

    exit_code = Exit.USAGE


class NoAcceptable(ForgetbenchError):
    """A run whose checkpoints the gate rejected, or never accepted."""

    def __init__(self, output: Path, trained: Trained) -> None:
        self.exit_code = trained.exit_code
        super().__init__(f"{output}: {trained.why}")


def explosion(norm: float, before: Sequence[float], times: float | None) -> str | None:
    """What is wrong with a gradient norm (before clipping), given those of the steps before; None: nothing.

    It is not finite, or above `times` the median of the last WINDOW ones and above all before (once there are FEWEST).
    A run that has learnt its data by heart has norms near 0, and a harder sample that is many times those is no harm.
    """
    if not math.isfinite(norm):
        return f"the gradient norm is {norm}"
    usual = statistics.median(before[-WINDOW:]) if len(before) >= FEWEST else 0.0
    if times is None or usual <= 0 or norm <= max(times * usual, *before):
        return None
    shown = min(len(before), WINDOW)
    return (
        f"the gradient norm is {norm:.3g}, {norm / usual:,.0f} times the median of the last {shown} steps ({usual:.3g})"
    )


def norms(lines: Sequence[Line]) -> list[float]:
    """Gradient norms of the steps logged."""
    return [float(one["grad_norm"]) for one in lines if one["kind"] == "train" and one.get("grad_norm") is not None]


def held_out(lines: Sequence[Line], measure: Measure) -> list[tuple[int, float]]:
    """(step, held-out loss) of each evaluation."""
    return [(int(x["step"]), float(x[measure])) for x in lines if x["kind"] == "held_out" and x[measure] is not None]


def best(losses: Sequence[tuple[int, float]]) -> int | None:
    """The step of the lowest loss, the earliest of equal ones; a loss that is no number is none."""
    known = [(loss, step) for step, loss in losses if not math.isnan(loss)]
    return min(known)[1] if known else None


def verdicts(lines: Sequence[Line]) -> dict[int, str]:
    """The gate's state by step."""
    return {int(x["step"]): str(x["state"]) for x in lines if x["kind"] == "retention"}


def chosen(lines: Sequence[Line], rules: Rules) -> int | None:
    """The step whose checkpoint the run would end with now: of the acceptable ones that with the lowest held-out loss,
    where held-out losses count, else the latest. None: there is none yet."""
    losses = held_out(lines, rules.measure)
    if rules.judged_every is None:
        return best(losses)
    accepted = [step for step, state in verdicts(lines).items() if state == "PASS"]
    if rules.patience is not None:
        return best([(step, loss) for step, loss in losses if step in accepted])
    return max(accepted, default=None)


def stops(lines: Sequence[Line], rules: Rules) -> str | None:
    """Why a run ends here, before its last step; None: it does not."""
    if rules.judged_every is not None and rules.on_fail == "stop":
        failed = [step for step, state in verdicts(lines).items() if state == "FAIL"]
        if failed:
            return f"stopped at step {failed[0]}: the retention set failed"
    if rules.patience is not None:
        losses = held_out(lines, rules.measure)
        at = best(losses)
        since = sum(step > (at or 0) for step, _ in losses)
        if since >= rules.patience:
            last = losses[-1][0]
            return f"stopped at step {last}: {since} evaluations without a lower held-out loss than that of step {at}"
    return None


def outcome(lines: Sequence[Line], rules: Rules, steps: int, final: Path) -> Trained:
    """How a run of so many steps ended, from all that it has logged. `final`: where its result is written."""
    stopped = stops(lines, rules)
    if not rules.chooses:
        return Trained(final, steps, steps, f"{steps} steps")
    step = chosen(lines, rules)
    states = set(verdicts(lines).values())
    if step is None and states == {"INCONCLUSIVE"}:
        exit_code = Exit.INCONCLUSIVE
    else:
        rejected = step is None or (rules.on_fail == "stop" and "FAIL" in states)
        exit_code = Exit.REGRESSION if rejected else Exit.PASS
    ended = stopped or f"{steps} steps"
    if step is None:
        return Trained(None, None, steps, f"{NONE_ACCEPTABLE} ({ended})", exit_code)
    accepted = "acceptable one" if rules.judged_every is not None else "one"
    kind = f"{accepted} with the lowest held-out loss" if rules.patience is not None else f"last {accepted}"
    return Trained(final, step, steps, f"{ended}; the result is checkpoint {step}, the {kind}", exit_code)


def write_result(output: Path, trained: Trained) -> None:
    """Write result.json, last of all: a run that has it is over. Raises DiskFullError."""
    content = {**asdict(trained), "final": trained.final and trained.final.name, "exit_code": int(trained.exit_code)}
    atomic_write(output / RESULT, json.dumps(content, indent=1).encode())


def read_result(output: Path) -> Trained | None:
    """The result of a run that is over; None: it is not, or its result cannot be read."""
    try:
        found = json.loads((output / RESULT).read_bytes())
        final = output / found["final"] if found["final"] else None
        return Trained(final, found["step"], int(found["steps"]), str(found["why"]), Exit(found["exit_code"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
