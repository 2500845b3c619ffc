"""Which of lm-eval's metrics can be paired item by item, and under which names.

A metric that lm-eval averages over items is one of ours. What only exists for a whole set (BLEU, MCC, the F1 of a
class) has no value for an item and is left out, and so is one where lower is better, which a gate would read the
wrong way round; both are named in the task's warning. Two are kept under another name, since what lm-eval notes
for an item is a log-likelihood (natural log), of which higher is better:

    loglikelihood             of the continuation; lm-eval's perplexity is exp(-mean) of it
    loglikelihood_per_byte    of a whole text; lm-eval's bits_per_byte is its mean weighted by bytes, over -ln 2

With one unnamed filter a metric keeps lm-eval's name, else it is "metric,filter" as in lm-eval's results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.tasks.base import BRIDGE
from forgetbench.tasks.lm_eval_load import Leaf

UNNAMED = "none"
"""lm-eval's name of the filter that a task without filters has."""
_RIGHT_OR_WRONG = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"}
_FIRST = "acc"


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    """Ours."""
    key: str
    """In what lm-eval's `process_results` returns."""
    filter: str
    per_byte: bool = False
    """The value is a pair (log-likelihood, bytes)."""

    def value(self, results: Mapping[str, Any]) -> float | None:
        """Of one item; None where the task gives it none. Raises TypeError for what is no number."""
        value = results.get(self.key)
        if value is None:
            return None
        if self.per_byte:
            total, size = value
            return float(total) / max(float(size), 1.0)
        return float(value)


@dataclass(frozen=True, slots=True)
class Metrics:
    kept: tuple[Metric, ...]
    """The default first: acc where there is one, else lm-eval's first."""
    left_out: tuple[str, ...]

    @property
    def binary(self) -> bool:
        return bool(self.kept) and self.kept[0].key in _RIGHT_OR_WRONG


def metrics_of(leaf: Leaf) -> Metrics:
    """Of one task of lm-eval."""
    from lm_eval.api.metrics import bits_per_byte, mean, median, nanmean, perplexity

    averaged = (mean, nanmean, median)
    higher = leaf.task.higher_is_better()
    filters = [f.name for f in leaf.task._filters]
    kept: list[Metric] = []
    left_out: list[str] = []
    for key, aggregation in leaf.task.aggregation().items():
        if aggregation is perplexity and leaf.task.OUTPUT_TYPE == "loglikelihood":
            found = [_named("loglikelihood", key, f, filters) for f in filters]
        elif aggregation is bits_per_byte and leaf.task.OUTPUT_TYPE == "loglikelihood_rolling":
            found = [_named("loglikelihood_per_byte", key, f, filters, per_byte=True) for f in filters]
        elif aggregation in averaged and higher.get(key, True) is not False:
            found = [_named(key, key, f, filters) for f in filters]
        else:
            found = []
            left_out.append(key)
        kept += found
    kept.sort(key=lambda m: m.key != _FIRST)
    return Metrics(tuple(kept), tuple(left_out))


def _named(name: str, key: str, filter: str, filters: Sequence[str], per_byte: bool = False) -> Metric:
    plain = filters == [UNNAMED]
    return Metric(name if plain else f"{name},{filter}", key, filter, per_byte)


def common(name: str, leaves: Sequence[Leaf]) -> Metrics:
    """The metrics that all tasks of a group have, since an item without its task's metric cannot be paired.

    Raises UsageError where there are some and none is common to all.
    """
    each = [metrics_of(leaf) for leaf in leaves]
    shared = set.intersection(*({m.name for m in one.kept} for one in each))
    kept = tuple(m for m in each[0].kept if m.name in shared)
    if not kept and any(one.kept for one in each):
        raise UsageError(
            f"task '{BRIDGE}{name}'",
            "its tasks have no metric in common: "
            + "; ".join(
                f"{leaf.name} has {', '.join(m.name for m in one.kept) or 'none'}"
                for leaf, one in list(zip(leaves, each, strict=True))[:3]
            ),
            "name its tasks one by one",
        )
    dropped = [key for one in each for key in (*one.left_out, *(m.name for m in one.kept if m.name not in shared))]
    return Metrics(kept, tuple(dict.fromkeys(dropped)))
