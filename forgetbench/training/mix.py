"""Training files mixed to wanted ratios of task_types and a share of replay (`forgetbench data mix`).

    total: 2000                      # lines; default: as many as need no repetition
    seed: 0
    sources:
      - files: [tickets.jsonl]       # relative to this file
        task_type: support/route     # for lines that have none
      - files: [chats.jsonl, more.csv]
    ratios: {support: 1, format: 0.5, format/yaml: 0}   # a task_type or its first level; the longer name wins
    replay: {share: 0.2, files: [general.jsonl]}
    max_repeat: 4

Ratios are relative and hold among the lines that are no replay; without them task_types keep the shares that the
sources have. Every line is used once before any is used twice, and what is used twice is said. A line may be used up
to `max_repeat` times: up to four passes over the same data were nearly worth new data in pretraining (Muennighoff et
al. 2023, "Scaling Data-Constrained Language Models", section 5).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from forgetbench.errors import UsageError
from forgetbench.training.check.duplicates import exact_duplicates
from forgetbench.training.check.rows import UNTYPED, Row, row_of
from forgetbench.training.data import examples, read_training
from forgetbench.yamlio import load_yaml, validate

REPLAY = "replay"
_Files = Annotated[tuple[str, ...], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MixSource(_Strict):
    files: _Files
    task_type: str | None = None


class MixReplay(_Strict):
    files: _Files
    share: Annotated[float, Field(gt=0, lt=1)]


class MixConfig(_Strict):
    sources: Annotated[tuple[MixSource, ...], Field(min_length=1)]
    ratios: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    replay: MixReplay | None = None
    total: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0
    max_repeat: Annotated[int, Field(ge=1)] = 4

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read, as the config names it."""
        replay = () if self.replay is None else self.replay.files
        return (*(name for source in self.sources for name in source.files), *replay)


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one task_type, or of the replay."""

    name: str
    available: int
    taken: int
    share: float
    """Of the lines written."""
    natural: float
    """Of the lines that the sources have."""
    repeated: int
    """Lines written that are a second or later use."""

    @property
    def uses(self) -> float:
        return self.taken / self.available

    @property
    def told(self) -> str:
        """One line: how many, and whether over- or undersampled."""
        head = (
            f"{self.name}: {self.taken:,} lines ({100 * self.share:.1f} %, in the sources {100 * self.natural:.1f} %)"
        )
        if self.repeated:
            few = f"{self.available:,} are too few, {self.repeated:,} lines are repeats ({self.uses:.2f} uses each)"
            return f"{head}, oversampled: {few}"
        if self.taken < self.available:
            return f"{head}, undersampled: {self.available - self.taken:,} of {self.available:,} left out"
        return f"{head}, all of them once"


@dataclass(frozen=True, slots=True)
class Mix:
    lines: tuple[Mapping[str, Any], ...]
    """Examples as their files have them, with `task_type` where the config gives one and `provenance`: source
    (`file:line`), part, and which use of the line it is."""
    parts: tuple[Part, ...]
    duplicates: int
    """Lines of the sources that copy an earlier one: repetition that the mix did not make."""
    seed: int

    @property
    def told(self) -> list[str]:
        found = [part.told for part in self.parts]
        if self.duplicates:
            found.append(
                f"{self.duplicates:,} lines of the sources copy another one: repetition beyond what is said here"
            )
        return found


def read_mix(file: Path) -> MixConfig:
    """Raises UsageError with file, line, key and cure."""
    data, lines = load_yaml(file, "mix config")
    return validate(MixConfig, data, file, lines)


def mix(config: MixConfig, folder: Path, where: str = "mix") -> Mix:
    """The mixed lines in a random order of `config.seed`. folder: where the config's files are looked for.

    Raises UsageError for files that cannot be read, a task_type that no ratio names, a ratio without data, and a
    total that would repeat lines more than `max_repeat` times.
    """
    pools: dict[str, list[_Line]] = {}
    for source in config.sources:
        for line in _read(folder, source.files, source.task_type):
            pools.setdefault(line.row.kind, []).append(line)
    replay = [] if config.replay is None else _read(folder, config.replay.files, None)
    weights = _weights(config, {kind: len(mine) for kind, mine in pools.items()}, where)
    share = 0.0 if config.replay is None else config.replay.share
    wanted = {kind: (1 - share) * w for kind, w in weights.items()}
    sizes = {kind: len(mine) for kind, mine in pools.items()}
    if config.replay is not None:
        if REPLAY in pools:
            raise UsageError(where, f"a source has the task_type '{REPLAY}'", "name it ability/kind")
        pools, sizes, wanted = {**pools, REPLAY: replay}, {**sizes, REPLAY: len(replay)}, {**wanted, REPLAY: share}
    total = config.total or max(1, math.floor(min(sizes[k] / w for k, w in wanted.items() if w > 0) + 1e-9))
    counts = apportion(total, wanted)
    _check_repeats(counts, sizes, wanted, config.max_repeat, where)
    rng = random.Random(config.seed)
    lines: list[dict[str, Any]] = []
    parts = []
    everything = sum(sizes.values())
    for name in wanted:
        drawn = _draw(pools[name], counts[name], rng)
        lines += [_written(line, name, use) for line, use in drawn]
        repeated = sum(use > 1 for _, use in drawn)
        parts.append(Part(name, sizes[name], counts[name], counts[name] / total, sizes[name] / everything, repeated))
    rng.shuffle(lines)
    copies = exact_duplicates([line.row for mine in pools.values() for line in mine])
    return Mix(tuple(lines), tuple(parts), len(copies), config.seed)


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that add up to total, by largest remainders (Hamilton); ties go to the first.

    >>> apportion(10, {"a": 1, "b": 1, "c": 1})
    {'a': 4, 'b': 3, 'c': 3}
    """
    weight = math.fsum(shares.values())
    exact = {name: total * share / weight for name, share in shares.items()}
    counts = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_rest[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def to_jsonl(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """One object a line; what JSON does not know (a date of a Parquet column) as text."""
    text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class _Line:
    example: Mapping[str, Any]
    row: Row


def _read(folder: Path, names: Sequence[str], task_type: str | None) -> list[_Line]:
    """Lines of files; where they were read is told by the names that the config has."""
    files = [folder / name for name in names]
    read_training(files)
    found = []
    for name, file in zip(names, files, strict=True):
        for number, example in examples(file):
            if isinstance(example, str):
                example = {"text": example}
            if task_type is not None and not example.get("task_type"):
                example = {**example, "task_type": task_type}
            found.append(_Line(example, row_of(example, f"{name}:{number}")))
    return found


def _weights(config: MixConfig, sizes: Mapping[str, int], where: str) -> dict[str, float]:
    """By task_type the share among the lines that are no replay; they add up to 1."""
    if config.ratios is None:
        total = sum(sizes.values())
        return {kind: n / total for kind, n in sorted(sizes.items())}
    for key in config.ratios:
        if not any(_covers(key, kind) for kind in sizes):
            have = ", ".join(sorted(sizes))
            raise UsageError(f"{where}: ratios.{key}", "no source has such an example", f"the sources have: {have}")
    named: dict[str, list[str]] = {}
    for kind in sorted(sizes):
        keys = [key for key in config.ratios if _covers(key, kind)]
        if not keys:
            problem = f"no ratio for '{kind}' ({sizes[kind]:,} lines)"
            cure = f"add `{kind}: 0` to leave it out, or a ratio"
            if kind == UNTYPED:
                cure = "give the lines a task_type, or the source `task_type:`"
            raise UsageError(f"{where}: ratios", problem, cure)
        named.setdefault(max(keys, key=len), []).append(kind)
    raw = {
        kind: config.ratios[key] * sizes[kind] / sum(sizes[k] for k in kinds)
        for key, kinds in named.items()
        for kind in kinds
    }
    whole = math.fsum(raw.values())
    if whole <= 0:
        raise UsageError(f"{where}: ratios", "are all 0", "give one of them more")
    return {kind: raw[kind] / whole for kind in sorted(raw)}


def _covers(key: str, kind: str) -> bool:
    return kind == key or kind.startswith(key + "/")


def _check_repeats(
    counts: Mapping[str, int], sizes: Mapping[str, int], wanted: Mapping[str, float], most: int, where: str
) -> None:
    for name, count in counts.items():
        if count > most * sizes[name]:
            fits = math.floor(min(most * sizes[k] / w for k, w in wanted.items() if w > 0))
            problem = (
                f"{count:,} lines of {name} are wanted, {sizes[name]:,} are there: each {count / sizes[name]:.1f} times"
            )
            raise UsageError(where, problem, f"lower `total` to {fits:,}, change the ratios, or raise `max_repeat`")


def _draw(pool: Sequence[_Line], count: int, rng: random.Random) -> list[tuple[_Line, int]]:
    """(line, which use of it): whole passes over the pool, then a sample without replacement."""
    whole, rest = divmod(count, len(pool))
    drawn = [(line, use) for use in range(1, whole + 1) for line in pool]
    return drawn + [(pool[i], whole + 1) for i in sorted(rng.sample(range(len(pool)), rest))]


def _written(line: _Line, part: str, use: int) -> dict[str, Any]:
    return {**line.example, "provenance": {"source": line.row.where, "part": part, "use": use}}
