"""Two hundred and more broken configs, suites, sets, policies and model folders, made by mutation."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import workspace as w


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Path], Path]
    """Writes the broken workspace into a folder and returns the config's path."""
    mentions: str = ""
    """What the error line must name: the file, the key or the model."""


def _file(name: str, file: str, content: Any, mentions: str = "") -> Case:
    key = file.replace(".", "__")
    return Case(name, lambda folder: w.write(folder, **{key: content}), mentions or file)


def _set_path(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(data)
    here = made
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return made


def _drop(data: Any, path: tuple[Any, ...]) -> Any:
    made = copy.deepcopy(data)
    here = made
    for part in path[:-1]:
        here = here[part]
    del here[path[-1]]
    return made


BROKEN_TEXT: dict[str, str | bytes] = {
    "unclosed bracket": "models: {base: {path: x}\n",
    "a tab": "models:\n\tbase: {path: x}\n",
    "a list": "- a\n- b\n",
    "a word": "hello\n",
    "empty": "",
    "only a comment": "# nothing\n",
    "not UTF-8": b"models: \xff\xfe\n",
    "UTF-16": "models: {}\n".encode("utf-16"),
    "NUL": "models: \0\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a python tag": "models: !!python/object/apply:os.system ['true']\n",
    "an alias": "a: &x [1]\nb: *x\n",
    "a key twice": "name: a\nname: b\n",
    "a list as key": "? [a, b]\n: c\n",
    "a number as key": "1: a\n",
    "deep": "a: " + "[" * 200 + "]" * 200 + "\n",
    "binary": bytes(range(256)),
    "an unknown tag": "name: !thing x\n",
    "an impossible date": "name: 2024-13-45\n",
}

WRONG_VALUES: dict[str, list[tuple[tuple[Any, ...], Any]]] = {
    "forgetbench.yaml": [
        (("models",), None),
        (("models",), []),
        (("models",), {}),
        (("models", "base"), "x"),
        (("models", "base"), {}),
        (("models", "base", "path"), ""),
        (("models", "base", "path"), 3),
        (("models", "base", "path"), ["a"]),
        (("models", "base", "dtype"), "int3"),
        (("models", "base", "engine"), "warp"),
        (("models", "base", "engine_args"), "x"),
        (("models", "base", "pth"), "x"),
        (("models", "base", "revision"), 7),
        (("models", "a b"), {"path": "x"}),
        (("models", "../x"), {"path": "x"}),
        (("models", ""), {"path": "x"}),
        (("suite",), 3),
        (("suite",), "no-such-suite"),
        (("suite",), "missing.yaml"),
        (("suite",), "."),
        (("suite",), ["quick"]),
        (("policy",), "no-such-policy"),
        (("policy",), "missing.yaml"),
        (("policy",), False),
        (("locked",), "nobody"),
        (("locked",), 1),
        (("paths",), "x"),
        (("paths",), {"run": "x"}),
        (("paths",), {"runs": 1}),
        (("paths",), {"data": "no/such/folder"}),
        (("extends",), "missing.yaml"),
        (("extends",), 3),
        (("extends",), "forgetbench.yaml"),
        (("modles",), {}),
        (("suit",), "x"),
    ],
    "suite.yaml": [
        (("name",), None),
        (("name",), ""),
        (("name",), "a/b"),
        (("name",), 3),
        (("views",), []),
        (("views",), ["sideways"]),
        (("views",), "ability"),
        (("tasks",), []),
        (("tasks",), {}),
        (("tasks",), "mmlu"),
        (("tasks", 0), "mmlu"),
        (("tasks", 0), {}),
        (("tasks", 0), {"task": "nope"}),
        (("tasks", 0), {"task": "mmlu", "set": "x.jsonl"}),
        (("tasks", 0), {"task": "mmlu", "scorer": "exact"}),
        (("tasks", 0), {"task": "mmlu", "limit": 0}),
        (("tasks", 0), {"task": "mmlu", "limit": "all"}),
        (("tasks", 0), {"task": "mmlu", "num_fewshot": -1}),
        (("tasks", 0), {"task": "mmlu", "num_fewshot": 1.5}),
        (("tasks", 0, "set"), "missing.jsonl"),
        (("tasks", 0, "set"), "."),
        (("tasks", 0, "set"), ""),
        (("tasks", 0, "set"), 4),
        (("tasks", 0, "fewshot"), "missing.jsonl"),
        (("tasks", 0, "scorer"), "vibes"),
        (("tasks", 0, "raw"), {"question": "no placeholder"}),
        (("tasks", 0, "raw"), {"question": "{prompt}", "shots": 3}),
        (("tasks", 0, "raw", "num_fewshot"), 50),
        (("tasks", 0, "stop"), "\n"),
        (("tasks", 0, "stop"), [""]),
        (("tasks", 0, "max_tokens"), 0),
        (("tasks", 0, "max_tokens"), "many"),
        (("tasks", 0, "num_fewshot"), 3),
        (("tasks", 0, "name"), "a/../b"),
        (("tasks", 0, "limt"), 3),
    ],
    "policy.yaml": [
        (("name",), None),
        (("alpha",), 0),
        (("alpha",), 2),
        (("alpha",), "low"),
        (("rules",), []),
        (("rules",), {}),
        (("rules",), None),
        (("rules", 0), "x"),
        (("rules", 0), {}),
        (("rules", 0, "margin"), 0),
        (("rules", 0, "margin"), -3),
        (("rules", 0, "margin"), 101),
        (("rules", 0, "margin"), float("nan")),
        (("rules", 0, "margin"), float("inf")),
        (("rules", 0, "margin"), "five"),
        (("rules", 0, "margn"), 5),
        (("rules", 0, "task"), "sums"),
        (("rules", 0, "task_type"), "nothing/here"),
        (("rules", 0, "task_type"), "a/b/c"),
        (("rules", 0, "task_type"), ""),
        (("rules", 0, "view"), "sideways"),
        (("rules", 0, "view"), "as_used"),
        (("rules", 0, "required"), False),
        (("rules", 0, "required"), "maybe"),
        (("rules", 0, "against"), "previous"),
        (("rules", 0, "against"), "yesterday"),
        (("rules", 0, "against"), "locked"),
        (("rules", 0, "min_n"), 0),
        (("rules", 0, "metric"), "beauty"),
        (("rules", 0, "max_truncated"), 2),
        (("rules", 0, "max_infra"), -1),
        (("rulez",), []),
    ],
}

# Where the mistake shows in another file than the one it was written in, or the policy's rule says it better.
MENTIONS = {
    "tasks.0.set = 'missing.jsonl'": "missing.jsonl",
    "tasks.0.fewshot = 'missing.jsonl'": "missing.jsonl",
    "tasks.0.raw.num_fewshot = 50": "sums.shots.jsonl",
    "rules.0.task_type = 'nothing/here'": "policy 'strict', rule 'sums'",
    "rules.0.metric = 'beauty'": "policy 'strict', rule 'sums'",
}

BROKEN_LINES: dict[str, str | bytes] = {
    "not JSON": "{prompt: x}",
    "cut short": '{"task_type": "a/b", "prompt": "x", "references": ["y"]',
    "a list": "[1, 2]",
    "a word": '"hello"',
    "a number": "3",
    "null": "null",
    "no prompt": '{"task_type": "a/b", "references": ["y"]}',
    "no task_type": '{"prompt": "x", "references": ["y"]}',
    "no references": '{"task_type": "a/b", "prompt": "x"}',
    "references empty": '{"task_type": "a/b", "prompt": "x", "references": []}',
    "references a word": '{"task_type": "a/b", "prompt": "x", "references": {"a": 1}}',
    "a reference that is null": '{"task_type": "a/b", "prompt": "x", "references": [null]}',
    "an unknown field": '{"task_type": "a/b", "prompt": "x", "references": ["y"], "refs": ["y"]}',
    "an unknown scorer": '{"task_type": "a/b", "prompt": "x", "references": ["y"], "scorer": "vibes"}',
    "a broken regex": '{"task_type": "a/b", "prompt": "x", "references": ["("], "scorer": "regex"}',
    "a word for a number": '{"task_type": "a/b", "prompt": "x", "references": ["many"], "scorer": "numeric"}',
    "choice without choices": '{"task_type": "a/b", "prompt": "x", "references": ["y"], "scorer": "choice"}',
    "answer outside choices": (
        '{"task_type": "a/b", "prompt": "x", "choices": ["p", "q"], "answer": 7, "scorer": "choice"}'
    ),
    "one choice": '{"task_type": "a/b", "prompt": "x", "choices": ["p"], "answer": 0, "scorer": "choice"}',
    "prompt a number": '{"task_type": "a/b", "prompt": 5, "references": ["y"]}',
    "prompt empty": '{"task_type": "a/b", "prompt": "", "references": ["y"]}',
    "three levels": '{"task_type": "a/b/c", "prompt": "x", "references": ["y"]}',
    "a task_type of slashes": '{"task_type": "/", "prompt": "x", "references": ["y"]}',
    "task_type empty": '{"task_type": "", "prompt": "x", "references": ["y"]}',
    "prompt and messages": (
        '{"task_type": "a/b", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "references": ["y"]}'
    ),
    "an unknown role": '{"task_type": "a/b", "messages": [{"role": "wizard", "content": "x"}], "references": ["y"]}',
    "messages empty": '{"task_type": "a/b", "messages": [], "references": ["y"]}',
    "message without content": '{"task_type": "a/b", "messages": [{"role": "user"}], "references": ["y"]}',
    "a field twice": '{"task_type": "a/b", "prompt": "x", "prompt": "z", "references": ["y"]}',
    "not UTF-8": b'{"task_type": "a/b", "prompt": "\xff", "references": ["y"]}',
    "NaN": '{"task_type": "a/b", "prompt": "x", "references": [NaN]}',
    "deep": '{"task_type": "a/b", "prompt": ' + "[" * 3000 + "]" * 3000 + "}",
    "a lone surrogate": '{"task_type": "a/b", "prompt": "\\ud800", "references": ["y"]}',
    "an id twice": '{"id": "i0", "task_type": "a/b", "prompt": "x", "references": ["y"]}',
}


def _set_cases() -> Iterator[Case]:
    good = "".join(json.dumps(line) + "\n" for line in w.ITEMS[:3]).encode()
    for name, line in BROKEN_LINES.items():
        raw = line if isinstance(line, bytes) else line.encode()
        yield _file(f"set: {name}", "sums.jsonl", good + raw + b"\n", "sums.jsonl:4")
        if name not in ("an id twice",):
            yield _file(f"shots: {name}", "sums.shots.jsonl", raw + b"\n", "sums.shots.jsonl:1")
    yield _file("set: empty", "sums.jsonl", "", "sums.jsonl")
    yield _file("set: only blank lines", "sums.jsonl", "\n\n\n", "sums.jsonl")
    yield _file("set: NUL bytes", "sums.jsonl", b"\0" * 64, "sums.jsonl")


MODEL_FILES: dict[str, dict[str, bytes]] = {
    "an empty folder": {},
    "no config.json": {"model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    "config.json is not JSON": {"config.json": b"{", "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    "config.json is a list": {"config.json": b"[]", "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    "config.json is not UTF-8": {"config.json": b"\xff\xfe", "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    "config.json is empty": {"config.json": b"", "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    "no weights": {"config.json": b'{"model_type": "qwen3"}'},
    "empty weights": {"config.json": b'{"model_type": "qwen3"}', "model.safetensors": b""},
    "weights cut in the header": {
        "config.json": b'{"model_type": "qwen3"}',
        "model.safetensors": b"\x40\0\0\0\0\0\0\0{",
    },
    "weights with a huge header": {
        "config.json": b'{"model_type": "qwen3"}',
        "model.safetensors": b"\xff" * 16,
    },
    "weights with a broken header": {
        "config.json": b'{"model_type": "qwen3"}',
        "model.safetensors": b"\x04\0\0\0\0\0\0\0nope",
    },
    "weights cut in the data": {
        "config.json": b'{"model_type": "qwen3"}',
        "model.safetensors": (lambda h: len(h).to_bytes(8, "little") + h + b"\0" * 4)(
            b'{"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}'
        ),
    },
    "an index that is not JSON": {
        "config.json": b'{"model_type": "qwen3"}',
        "model.safetensors.index.json": b"{",
    },
    "an index whose shards are missing": {
        "config.json": b'{"model_type": "qwen3"}',
        "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
    },
    "no tokenizer": {"config.json": b'{"model_type": "qwen3"}', "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    "a tokenizer that is not JSON": {
        "config.json": b'{"model_type": "qwen3"}',
        "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
        "tokenizer.json": b"{",
        "tokenizer_config.json": b"{",
    },
}


def _model_cases() -> Iterator[Case]:
    def make(model: dict[str, Any], files: dict[str, bytes] | None) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            if files is not None:
                (folder / "ckpt").mkdir()
                for name, content in files.items():
                    (folder / "ckpt" / name).write_bytes(content)
            return w.write(folder, forgetbench__yaml=_set_path(w.CONFIG, ("models", "sft"), model))

        return write

    for name, files in MODEL_FILES.items():
        yield Case(f"model: {name}", make({"path": "./ckpt"}, files), "ckpt")
    for path in (
        "./missing",
        "/no/such/folder",
        "policy.yaml",
        "./suite.yaml",
        "~/no/such/folder",
        "a/b/c/d",
        ".",
    ):
        yield Case(f"model path {path}", make({"path": path}, None), path.removeprefix("./").removeprefix("~/"))
    yield Case("model: hub id, offline", make({"path": "nobody/nothing"}, None), "nobody/nothing")
    yield Case(
        "model: adapter missing",
        make({"path": "./ckpt", "adapter": "./missing"}, MODEL_FILES["no tokenizer"]),
    )
    yield Case(
        "model: script missing",
        make({"path": "x", "engine": "scripted", "engine_args": {"script": "no.json"}}, None),
    )
    yield Case("model: scripted without script", make({"path": "x", "engine": "scripted"}, None))


def cases() -> list[Case]:
    """All of them, names distinct."""
    originals = {"forgetbench.yaml": w.CONFIG, "suite.yaml": w.SUITE, "policy.yaml": w.POLICY}
    found: list[Case] = []
    for file, original in originals.items():
        found += [_file(f"{file}: {name}", file, text) for name, text in BROKEN_TEXT.items()]
        for path, value in WRONG_VALUES[file]:
            what = f"{'.'.join(map(str, path))} = {value!r}"
            broken = _set_path(original, path, value)
            found.append(_file(f"{file}: {what}", file, broken, MENTIONS.get(what, ".yaml")))
    for file, path in (
        ("forgetbench.yaml", ("models",)),
        ("suite.yaml", ("name",)),
        ("suite.yaml", ("tasks",)),
        ("policy.yaml", ("name",)),
        ("policy.yaml", ("rules",)),
        ("policy.yaml", ("rules", 0, "task_type")),
    ):
        found.append(_file(f"{file}: no {path[-1]}", file, _drop(originals[file], path)))
    found += _set_cases()
    found += _model_cases()
    assert len({c.name for c in found}) == len(found), "two cases share a name"
    return found
