"""A thousand mutations of policies, waivers, manifests, records, responses and frames: none ends in a traceback, none
passes by mistake.

The worlds are such that a mistake shows. In `lost` the candidate has every answer wrong: no policy, no waiver and no
damage to a file makes that a pass. In `same` nothing changed: a pass is right as long as the figures are the real ones.
In `waived` a loss of 20 points passes by a waiver alone: it has to be there, in force and wide enough.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from forgetbench.errors import ForgetbenchError
from forgetbench.gate.types import Policy, Rule
from forgetbench.gate.verdict import decide
from tests.analysis.made import compared, frame
from tests.cli import workspace
from tests.gate import mutate

pytestmark = pytest.mark.unit

N = 30
SETS = {"sums": "reasoning/sum", "echo": "format/echo"}
POLICY = {
    "name": "both",
    "alpha": 0.05,
    "rules": [
        {"name": "sums", "task": "sums", "margin": 10, "min_n": 10, "max_truncated": 0.05},
        {"name": "format", "task_type": "format", "margin": 10.0, "required": True, "against": "base"},
    ],
}
WAIVERS = {
    "waivers": [
        {"rule": "sums", "reason": "known", "owner": "ann", "until": date(2999, 1, 1), "max_drop": 60},
        {"task_type": "format", "reason": "known: too", "owner": "bob", "until": date(2999, 1, 1), "max_drop": 60},
    ]
}
ENDS = (2, 10, 11, 12)
"""How a command with a mutated file may end, other than in the verdict that it had."""


@dataclass(frozen=True)
class World:
    folder: Path
    code: int
    figures: Any

    def path(self, pattern: str) -> Path:
        (found,) = self.folder.glob(pattern)
        return found


def _gate(folder: Path, command: str = "gate") -> tuple[int, str]:
    """(exit code, stdout) of the command in this process; anything but an error with a line of its own is raised."""
    from forgetbench.cli import street

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            getattr(street, command)("base", ["sft"], config=folder / "forgetbench.yaml", json=True, github=False)
        except SystemExit as left:
            return int(left.code or 0), out.getvalue()
        except ForgetbenchError as told:
            lines = str(told).splitlines()
            assert lines
            assert all(0 < len(line) < 1_000 for line in lines), lines
            return int(told.exit_code), ""
    raise AssertionError("the command came back without an exit code")


def _figures(out: str) -> Any:
    (verdict,) = json.loads(out)["verdicts"]
    rules = [[r[k] for k in ("state", "n", "base", "candidate", "delta", "lower")] for r in verdict["rules"]]
    return [verdict["state"], [r["rule"]["name"] for r in verdict["rules"]], rules]


def _make(folder: Path, wrong: int, waivers: dict[str, Any] | None = None) -> World:
    sets: dict[str, Any] = {}
    rules: dict[str, list[dict[str, str]]] = {"base": [], "sft": []}
    for name, task_type in SETS.items():
        items = [
            {"id": f"{name}{n}", "task_type": task_type, "prompt": f"{name} {n}", "references": [str(n + 1)]}
            for n in range(N)
        ]
        sets[f"{name}__jsonl"] = items
        for n in range(N):
            for side, text in (("base", str(n + 1)), ("sft", "none" if n < wrong else str(n + 1))):
                rules[side].append({"match": f"Q: {name} {n}\nA:", "text": text})
    task = workspace.SUITE["tasks"][0]
    plain = {k: v for k, v in task.items() if k != "fewshot"} | {"raw": {**task["raw"], "num_fewshot": 0}}
    suite = {**workspace.SUITE, "tasks": [{**copy.deepcopy(plain), "set": f"{name}.jsonl"} for name in SETS]}
    config = workspace.CONFIG | ({"waivers": "waivers.yaml"} if waivers else {})
    folder.mkdir()
    workspace.write(
        folder,
        forgetbench__yaml=config,
        suite__yaml=suite,
        policy__yaml=POLICY,
        waivers__yaml=waivers,
        base__json={"rules": rules["base"]},
        sft__json={"rules": rules["sft"]},
        **sets,
    )
    _gate(folder, "compare")
    code, out = _gate(folder)
    return World(folder, code, _figures(out))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FORGETBENCH_DATA", raising=False)
        folder = tmp_path_factory.mktemp("worlds")
        made = {
            "lost": _make(folder / "lost", N, WAIVERS),
            "same": _make(folder / "same", 0),
            "waived": _make(folder / "waived", N // 5, WAIVERS),
        }
    assert {name: world.code for name, world in made.items()} == {"lost": 10, "same": 0, "waived": 0}
    return made


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORGETBENCH_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _restored(world: World, act: Callable[[], None]) -> tuple[int, str]:
    """What the gate ends in once `act` has changed files; the folder is then as before."""
    kept = {p: p.read_bytes() for p in world.folder.rglob("*") if p.is_file()}
    try:
        act()
        return _gate(world.folder)
    finally:
        for path in [p for p in world.folder.rglob("*") if p.is_file() and p not in kept]:
            path.unlink()
        for path, blob in kept.items():
            if not path.is_file() or path.read_bytes() != blob:
                if path.is_dir():
                    shutil.rmtree(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(blob)


def _yaml(rng: random.Random, blob: bytes) -> bytes:
    """Half of them break the file, half of them say something else that could be meant."""
    if rng.random() < 0.25:
        return mutate.text(rng, blob)
    data = yaml.safe_load(blob)
    made = mutate.plausible(rng, data) if rng.random() < 0.67 else mutate.document(rng, data)
    return yaml.dump(made, Dumper=_Plain, sort_keys=False).encode("utf-8", "replace")


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _json(rng: random.Random, blob: bytes) -> bytes:
    """The text changed, or a value of what it says."""
    if rng.random() < 0.5:
        return mutate.text(rng, blob)
    return json.dumps(mutate.document(rng, json.loads(blob))).encode("utf-8", "replace")


def _passes_for_a_reason(out: str) -> None:
    """Every rule that decides excludes a loss beyond its margin or its waiver, on all of the items there are."""
    (verdict,) = json.loads(out)["verdicts"]
    deciding = [r for r in verdict["rules"] if r["rule"]["required"] and r["rule"]["view"] != "as_used"]
    assert deciding
    for r in deciding:
        bound = r["waived"]["max_drop"] if r["waived"] else r["rule"]["margin"]
        assert r["n"] in (N, 2 * N)
        assert r["lower"] > -bound, r


@pytest.mark.parametrize("name", ["lost", "same"])
def test_policies(worlds: dict[str, World], name: str) -> None:
    world = worlds[name]
    file = world.folder / "policy.yaml"
    original = file.read_bytes()
    codes: Counter[int] = Counter()
    for seed in range(150):
        changed = _yaml(random.Random(seed), original)
        code, out = _restored(world, lambda changed=changed: file.write_bytes(changed) and None)
        codes[code] += 1
        if code == 0:
            assert name == "same", (seed, changed)
            _passes_for_a_reason(out)
        else:
            assert code in ENDS, (seed, changed)
    assert min(codes[2], codes[world.code]) >= 25, "most are refused, or most do nothing"


def _in_force(blob: bytes, subject: str, value: str) -> bool:
    """Whether a file of waivers holds one that is about this, in force, complete, and wide enough for 20 points."""
    today = datetime.now(UTC).date().isoformat()
    return any(
        w.get(subject) == value
        and str(w.get("until")) >= today
        and float(w.get("max_drop", 0)) > 20
        and w.get("reason")
        and w.get("owner")
        for w in yaml.safe_load(blob)["waivers"]
    )


@pytest.mark.parametrize("name", ["lost", "waived"])
def test_waivers(worlds: dict[str, World], name: str) -> None:
    world = worlds[name]
    file = world.folder / "waivers.yaml"
    original = file.read_bytes()
    codes: Counter[int] = Counter()
    for seed in range(100):
        changed = _yaml(random.Random(1_000 + seed), original)
        code, out = _restored(world, lambda changed=changed: file.write_bytes(changed) and None)
        codes[code] += 1
        if code == 0:
            assert name == "waived", (seed, changed)
            _passes_for_a_reason(out)
            # The waiver of `format` may name its task_type, or what stands above it.
            types = ("format", "format/echo", "*", "format/*")
            assert _in_force(changed, "rule", "sums"), (seed, changed)
            assert any(_in_force(changed, "task_type", t) for t in types), (seed, changed)
        else:
            assert code in ENDS, (seed, changed)
    assert min(codes[2], codes[world.code]) >= 15, "most are refused, or most do nothing"


def _same_or_refused(world: World, code: int, out: str, what: object) -> None:
    """A damaged result is found out, or did not matter; it never decides."""
    if code == world.code and out:
        assert _figures(out) == world.figures, what
    else:
        assert code in ENDS, what
        assert not (world.code != 0 and code == 0), what


@pytest.mark.parametrize("name", ["lost", "same"])
def test_manifests(worlds: dict[str, World], name: str) -> None:
    world = worlds[name]
    for seed in range(100):
        rng = random.Random(2_000 + seed)
        file = world.path(f".forgetbench/runs/{rng.choice(('base', 'sft'))}-*/manifest.json")
        changed = _json(rng, file.read_bytes())
        code, out = _restored(world, lambda file=file, changed=changed: file.write_bytes(changed) and None)
        _same_or_refused(world, code, out, (seed, changed))


@pytest.mark.parametrize("name", ["lost", "same"])
def test_records_and_responses(worlds: dict[str, World], name: str) -> None:
    """Records that differ from their hash are made anew from the responses, each of which has a checksum."""
    world = worlds[name]
    for seed in range(50):
        rng = random.Random(3_000 + seed)
        run, task = rng.choice(("base", "sft")), rng.choice(list(SETS))
        folder = world.path(f".forgetbench/runs/{run}-*/tasks/{task}@*")
        (records,), (responses, *_) = folder.glob("records/*.parquet"), sorted(folder.glob("responses/*"))
        blobs = {
            f: mutate.text(rng, f.read_bytes()) for f in rng.choice(((records,), (responses,), (records, responses)))
        }

        def act(blobs: dict[Path, bytes] = blobs) -> None:
            for file, blob in blobs.items():
                file.write_bytes(blob)

        code, out = _restored(world, act)
        _same_or_refused(world, code, out, (seed, list(blobs)))


def _parquet(rng: random.Random, file: Path) -> bytes:
    """The records with rows, columns or cells changed, in whatever types they then have."""
    while True:
        made, buffer = mutate.frame(rng, pd.read_parquet(file)), io.BytesIO()
        with contextlib.suppress(pa.ArrowException, TypeError, ValueError):  # a column of two types: draw again
            made.to_parquet(buffer)
            return buffer.getvalue()


def test_records_whose_hash_was_taken_of_the_damage(worlds: dict[str, World]) -> None:
    """As a bad memory makes it, or another program: the hash fits, so that what is in the file has to tell."""
    from forgetbench.runs.records import file_sha256

    world = worlds["lost"]
    for seed in range(100):
        rng = random.Random(4_000 + seed)
        manifest = world.path(f".forgetbench/runs/{rng.choice(('base', 'sft'))}-*/manifest.json")
        data = json.loads(manifest.read_bytes())
        entry = rng.choice(data["tasks"])
        records = manifest.parent / entry["records"]
        blob = _parquet(rng, records) if rng.random() < 0.5 else mutate.text(rng, records.read_bytes())

        def act(
            manifest: Path = manifest, data: Any = data, entry: Any = entry, records: Path = records, blob: bytes = blob
        ) -> None:
            records.write_bytes(blob)
            entry["records_sha256"] = file_sha256(records)
            manifest.write_text(json.dumps(data), encoding="utf-8")

        code, _ = _restored(world, act)
        assert code in ENDS, seed


# Verdict inputs


def _truth(base: pd.DataFrame, candidate: pd.DataFrame) -> float:
    """Mean change over the items with a score on both sides, computed apart from everything tested."""
    sides = []
    for side in (base, candidate):
        scores: dict[tuple[str, str], float] = {}
        for row in side.to_dict("records"):
            held = row["scores"] if isinstance(row["scores"], dict) else json.loads(row["scores"])
            trials = row.get("trials")
            value = held.get("acc") if trials is None or trials != trials else row["successes"] / trials
            if value is not None and row["outcome"] != "infra_error":
                scores[str(row["task"]), str(row["content_hash"])] = float(value)
        sides.append(scores)
    common = sides[0].keys() & sides[1].keys()
    return sum(sides[1][k] - sides[0][k] for k in common) / len(common)


@pytest.mark.parametrize("counted", [False, True], ids=["scores", "successes out of trials"])
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "same"])
def test_verdict_inputs(lost: bool, counted: bool) -> None:
    n = 60

    def side(value: int) -> pd.DataFrame:
        counts = {"successes": 4.0 * value, "trials": 4.0} if counted else {}
        return frame([float(value)] * n, **counts)

    policy = Policy("p", (Rule("toy", task="toy", margin=0.1),))
    codes = []
    for seed in range(50):
        rng = random.Random(5_000 + seed)
        sides = [side(1), side(0 if lost else 1)]
        which = rng.randrange(2)
        sides[which] = mutate.frame(rng, sides[which])
        try:
            verdict = decide({"base": compared(*sides, bootstrap=200)}, policy, draws=200)
        except ForgetbenchError as told:
            codes.append(int(told.exit_code))
            continue
        if verdict.state == "PASS":
            assert verdict.rules[0].n == n, seed
            assert verdict.rules[0].delta == pytest.approx(_truth(*sides)), seed
            assert _truth(*sides) > -0.1, seed
    assert set(codes) <= {2, 12}
