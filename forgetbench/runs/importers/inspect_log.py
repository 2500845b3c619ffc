"""Inspect's `.eval` logs: a zip with header.json and samples/<id>_epoch_<n>.json, read without inspect_ai.

Every scorer is a metric (of one whose value is a mapping: every key of it). Epochs are samples. A sample that ended
in an error has no score, and is an infra_error.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.runs.importers import files
from forgetbench.runs.importers.types import Mistakes, Row, Source
from forgetbench.tasks.base import content_hash, folder_name
from forgetbench.types import FinishReason, Outcome

_MEMBER = 256 << 20
"""Bytes that one member may unpack to."""
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Inspect's own values of its letters: correct, partial, incorrect, no answer."""
_FINISH: Mapping[str, FinishReason] = {"stop": "stop", "max_tokens": "length", "model_length": "length"}


def looks_like(data: bytes) -> bool:
    return data.startswith(b"PK\x03\x04")


def read(path: Path, data: bytes, digest: str, bad: Mistakes) -> Source:
    """All samples of a log. Raises UsageError where the log as a whole cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as log:
            names = log.namelist()
            header = _header(path, log, names)
            rows: list[Row] = []
            notes: dict[str, None] = {}
            members = sorted(n for n in names if n.startswith("samples/") and n.endswith(".json"))
            if not members:
                raise UsageError(str(path), "has no samples", "keep them: run inspect without --no-log-samples")
            for name in members:
                sample = _member(path, log, name, bad)
                if sample is not None:
                    row = _row(f"{path}:{name}", sample, header, notes, bad)
                    rows += [row] if row is not None else []
    except zipfile.BadZipFile as e:
        raise UsageError(str(path), f"is no whole zip file ({e})", "copy the log again") from None
    rows.sort(key=lambda r: (_natural(r.key or ""), r.sample or 0))
    return Source(path, "inspect", digest, rows, tuple(notes))


def _natural(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdecimal() else (1 << 62, key)


def _header(path: Path, log: zipfile.ZipFile, names: list[str]) -> Mapping[str, Any]:
    bad = Mistakes()
    if "header.json" not in names:
        raise UsageError(str(path), "has no header.json: the evaluation has not ended", "let it end, or retry it")
    header = _member(path, log, "header.json", bad)
    bad.check()
    assert header is not None
    if header.get("status") != "success":
        problem = f"status is {files.shown(header.get('status'))}: not all of its samples were evaluated"
        raise UsageError(f"{path}:header.json", problem, "let it end with `inspect eval-retry`")
    if not isinstance(header.get("eval"), Mapping):
        raise UsageError(f"{path}:header.json: eval", "is missing", "import a log that Inspect wrote")
    return header


def _member(path: Path, log: zipfile.ZipFile, name: str, bad: Mistakes) -> dict[str, Any] | None:
    """One JSON object of the log; None: it is damaged, which has been noted."""
    where, cure = f"{path}:{name}", "copy the log again"
    try:
        if log.getinfo(name).file_size > _MEMBER:
            bad.add(where, f"unpacks to more than {_MEMBER >> 20} MiB", "leave attachments out of the log")
            return None
        value = files.parse(log.read(name).decode("utf-8"))
    except NotImplementedError:
        cure = "write it anew: inspect log convert --to eval"
        raise UsageError(where, "is compressed in a way that this Python cannot read", cure) from None
    except (ValueError, zlib.error, zipfile.BadZipFile, EOFError) as e:
        bad.add(where, f"is damaged ({' '.join(str(e).split())})", cure)
        return None
    if not isinstance(value, dict):
        bad.add(where, f"is {files.kind(value)}, not an object", cure)
        return None
    return value


def _row(
    where: str, sample: Mapping[str, Any], header: Mapping[str, Any], notes: dict[str, None], bad: Mistakes
) -> Row | None:
    spec: Mapping[str, Any] = header["eval"]
    if not isinstance(sample.get("id"), str | int) or isinstance(sample.get("id"), bool) or "input" not in sample:
        field = "input" if "input" not in sample else "id"
        bad.add(f"{where}: {field}", "is missing or of another kind", "import a log that Inspect wrote")
        return None
    epoch = files.whole(sample.get("epoch", 1))
    if epoch is None or epoch < 1:
        bad.add(f"{where}: epoch", f"is {files.shown(sample.get('epoch'))}", "import a log that Inspect wrote")
        return None
    failed = sample.get("error") is not None
    scores = {} if failed else _scores(where, sample, notes, bad)
    if scores is None:
        return None
    output = _mapping(sample.get("output"))
    first = _mapping(next(iter(_list(output.get("choices"))), None))
    finish = _FINISH.get(str(first.get("stop_reason")))
    usage = _mapping(output.get("usage"))
    judged = _mapping(next(iter(_mapping(sample.get("scores")).values()), None))
    question = _question(sample["input"])
    outcome: Outcome = "infra_error" if failed else "ok"
    return Row(
        where=where,
        same=content_hash({"id": sample["id"], "input": question, "choices": sample.get("choices")}),
        scores=scores,
        task=folder_name(str(spec.get("task", "")).rsplit("/", 1)[-1]) if spec.get("task") else None,
        model=str(spec["model"]) if spec.get("model") else None,
        key=str(sample["id"]),
        doc={**_mapping(sample.get("metadata")), **_content(question, sample)},
        sample=epoch - 1,
        outcome=outcome,
        output=_completion(output, first),
        extracted=_text(judged.get("answer")),
        gold=_text(sample.get("target")) or "",
        why=_text(judged.get("explanation")) or ("Inspect noted an error." if failed else "Scored by Inspect."),
        prompt=_prompt(sample),
        temperature=files.number(_mapping(spec.get("model_generate_config")).get("temperature")),
        finish_reason=finish,
        n_prompt_tokens=files.whole(usage.get("input_tokens")),
        n_output_tokens=files.whole(usage.get("output_tokens")),
        seconds=files.number(output.get("time")),
    )


def _content(question: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """The question under the names that our tasks' documents have for it."""
    content: dict[str, Any] = {"question": question, "prompt": question}
    if isinstance(sample.get("choices"), list):
        content["choices"] = sample["choices"]
    return content


def _question(value: Any) -> str:
    """The input: a text, or the last message of the user's."""
    if isinstance(value, str):
        return value
    mine = [m for m in _list(value) if _mapping(m).get("role") == "user"]
    return _text(_mapping(mine[-1]).get("content")) or "" if mine else json.dumps(value, sort_keys=True)


def _prompt(sample: Mapping[str, Any]) -> str | None:
    """The messages before the model's first answer, as canonical JSON; None: the log keeps none."""
    before = []
    examples = sum(_mapping(m).get("role") == "assistant" for m in _list(sample["input"]))
    for message in _list(sample.get("messages")):
        if _mapping(message).get("role") == "assistant":
            examples -= 1  # turns of the input's own come first
            if examples < 0:
                break
        before.append({"role": _mapping(message).get("role"), "content": _text(_mapping(message).get("content"))})
    return json.dumps(before, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if before else None


def _completion(output: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    text = _text(output.get("completion"))
    return text if text is not None else _text(_mapping(first.get("message")).get("content")) or ""


def _scores(where: str, sample: Mapping[str, Any], notes: dict[str, None], bad: Mistakes) -> dict[str, float] | None:
    """Metric -> value; None: a value is wrong, which has been noted."""
    found: dict[str, float] = {}
    for scorer, score in _mapping(sample.get("scores")).items():
        value = _mapping(score).get("value")
        values = {f"{scorer},{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {scorer: value}
        for name, one in values.items():
            number = _GRADES.get(one) if isinstance(one, str) else files.number(one)
            if number is None and isinstance(one, str):
                number = files.number(one)
            if number is None:
                notes[f"scorer {name} gives {files.kind(one)}, not a number for each sample: not imported"] = None
            else:
                found[name] = number
    if not found:
        bad.add(f"{where}: scores", "holds no number", "score the log first: inspect score LOG")
        return None
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    """A text; of a list of parts (or of several targets) their texts, joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [v if isinstance(v, str) else _mapping(v).get("text") for v in value]
        return "\n".join(p for p in parts if isinstance(p, str))
    return None
