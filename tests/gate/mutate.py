"""Seeded mutations of what a gate reads: the bytes of a file, the values of a document, the rows of a frame."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

BYTES = (b"\0", b"\xff", b"\n", b"\t", b"{", b"}", b"[", b"]", b":", b"#", b"'", b'"', b"-", b"&a ", b"*a", b"!!x ")
NUMBERS = (b"0", b"-1", b"1e9", b"-1e9", b".nan", b".inf", b"-.inf", b"100", b"1e-9", b"true", b"null", b"''", b"[]")
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 1e9, -0.5, 0.5, 100, 101, 2**70, "", " ", "x", "*", "/", "../..", "\0"),
    *("base", "locked", "previous", "ability", "chat", "as_used", "nan", "0", "1", "2999-01-01", "1999-01-01"),
    *([], {}, [[]], [None], ["reasoning"], {"a": 1}, "fail", "pass-with-notice", "complete", "running", "sampled"),
)
WORDS = (
    *("required: false", "against: previous", "view: chat", "view: as_used", "margin: 100", "alpha: 0.5", "min_n: 1"),
    *("on_inconclusive: pass-with-notice", "max_truncated: 1", "task: sums", "task_type: none", "metric: none"),
    *("until: 2999-12-31", "until: 1999-01-01", "max_drop: 100", "rule: none", "x: y", "rules: []", "waivers: []"),
)


def text(rng: random.Random, content: bytes) -> bytes:
    """One to three changes to a file, as a bad merge, a bad editor or a bad disk makes them."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_TEXT)(rng, content)
    return content


def _span(rng: random.Random, content: bytes, longest: int = 40) -> tuple[int, int]:
    begin = rng.randrange(len(content) + 1)
    return begin, min(len(content), begin + rng.randint(0, longest))


def _flip(rng: random.Random, content: bytes) -> bytes:
    if not content:
        return b"\0"
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    begin, end = _span(rng, content)
    return content[:begin] + content[end:]


def _twice(rng: random.Random, content: bytes) -> bytes:
    begin, end = _span(rng, content)
    return content[:end] + content[begin:]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(BYTES) + content[at:]


def _end(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _number(rng: random.Random, content: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return content
    at = rng.choice(found)
    return content[: at.start()] + rng.choice(NUMBERS) + content[at.end() :]


def _lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.randrange(4)
    if what == 0:
        lines[a], lines[b] = lines[b], lines[a]
    elif what == 1:
        del lines[a]
    elif what == 2:
        lines.insert(a, lines[b])
    else:
        indent = lines[b][: len(lines[b]) - len(lines[b].lstrip(b" -"))].replace(b"-", b" ")
        lines.insert(a, indent + rng.choice(WORDS).encode())
    return b"\n".join(lines)


_TEXT = (_flip, _cut, _twice, _insert, _end, _number, _lines, _lines)


def paths(data: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value inside a document."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*here, key)
        yield from paths(value, (*here, key))


def document(rng: random.Random, data: Any) -> Any:
    """One or two values of a document changed, gone, doubled, or exchanged for another one's."""
    made = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2))):
        known = list(paths(made))
        if not known:
            return rng.choice(VALUES)
        path = rng.choice(known)
        holder = _at(made, path[:-1])
        what = rng.randrange(5)
        if what == 0:
            del holder[path[-1]]
        elif what == 1:
            holder[path[-1]] = copy.deepcopy(_at(made, rng.choice(known)))
        elif what == 2 and isinstance(holder, list):
            holder.insert(0, copy.deepcopy(holder[path[-1]]))
        elif what == 3 and isinstance(holder, dict):
            holder[f"{path[-1]}{rng.choice('sx_ ')}"] = holder.pop(path[-1])
        else:
            holder[path[-1]] = copy.deepcopy(rng.choice(VALUES))
    return made


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


CELLS: tuple[Any, ...] = (
    None,
    "",
    "x",
    "nan",
    float("nan"),
    float("inf"),
    -1,
    2,
    10**12,
    "{}",
    "[]",
    "{",
    '{"acc": 1}',
)
CELLS += (
    '{"acc": NaN}',
    '{"acc": 1e308}',
    '{"acc": 100}',
    '{"acc": "1"}',
    '{"acc": null}',
    '{"acc": true}',
    '{"x": 1}',
)
CELLS += ("ok", "infra_error", "timeout", "chat", "as_used", "greedy", "T1/p1/K2", {"acc": 1.0}, [1], b"x", True)


def frame(rng: random.Random, made: pd.DataFrame) -> pd.DataFrame:
    """Rows gone, doubled, shuffled or blank; a column gone or of another type; cells with anything in them."""
    what = rng.randrange(8)
    column = rng.choice(list(made.columns))
    rows = rng.sample(range(len(made)), rng.choice((1, 3, len(made) // 2, len(made))))
    if what == 0:
        return made.drop(index=rows).reset_index(drop=True)
    if what == 1:
        return pd.concat([made, made.iloc[rows]], ignore_index=True)
    if what == 2:
        return made.drop(columns=[column])
    if what == 3:
        return made.assign(**{column: rng.choice(CELLS)}) if rng.random() < 0.5 else made.rename(columns={column: "x"})
    if what == 4:
        return made.iloc[rng.sample(range(len(made)), len(made))].reset_index(drop=True)
    cell = rng.choice(CELLS)
    changed = made.astype({column: object})
    changed[column] = [cell if i in set(rows) else v for i, v in enumerate(changed[column])]
    return changed


RULE: dict[str, tuple[Any, ...]] = {
    "margin": (0.5, 5, 9, 11, 25, 60, 99.9, 100),
    "alpha": (0.001, 0.01, 0.2, 0.5),
    "required": (True, True, False),
    "against": ("auto", "base", "base", "previous"),
    "min_n": (1, 29, 30, 31, 1000),
    "max_truncated": (0, 0.5, 1),
    "max_infra": (0, 1),
    "max_unparsed": (0, 0.5, 1),
    "on_inconclusive": ("inconclusive", "fail"),
    "test": ("auto", "tango", "bootstrap"),
    "estimand": ("auto", "greedy", "greedy", "sampled"),
    "name": ("sums", "format", "other", "a | b"),
    "metric": ("exact_match", "none"),
}
WAIVER: dict[str, tuple[Any, ...]] = {
    "max_drop": (9, 11, 20, 30, 45, 60, 99.9, 100),
    "until": ("2999-12-31", "2100-02-28", "1999-01-01", "2020-02-29"),
    "owner": ("eve", "ann", ""),
    "reason": ("why not", "a: b", ""),
}


def plausible(rng: random.Random, data: Any) -> Any:
    """One to three keys of rules or waivers given other values of their kind, an entry gone or doubled: what people
    do on purpose, with effects that they may not have meant."""
    made = copy.deepcopy(data)
    entries, known = (made["rules"], RULE) if "rules" in made else (made["waivers"], WAIVER)
    for _ in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice(list(known))
        rng.choice(entries)[key] = rng.choice(known[key])
    what = rng.randrange(8)
    if what == 0:
        entries.remove(rng.choice(entries))
    elif what == 1:
        entries.append({**rng.choice(entries), **({"name": "again"} if known is RULE else {})})
    return made
