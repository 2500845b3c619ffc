"""YAML files read so that every mistake can be shown with its file, line, key, value and cure."""

from __future__ import annotations

from collections.abc import Hashable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from forgetbench.errors import UsageError, combined

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[str | int, ...]

# A hand-written config has a few kilobytes; a larger file is a wrong path, and aliases in a small one can
# still expand to gigabytes ("billion laughs"), which is why anchors are refused below.
MAX_BYTES = 1_000_000
MAX_DEPTH = 50


class _Lines(dict[Path_, int]):
    """Line number (from 1) of each key path of a document."""

    def nearest(self, path: Path_) -> int:
        while path and path not in self:
            path = path[:-1]
        return self.get(path, 1)


def _build(node: yaml.Node, path: Path_, lines: _Lines, file: Path, loader: yaml.SafeLoader) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if len(path) > MAX_DEPTH:
        raise UsageError(f"{file}:{lines[path]}", f"nested deeper than {MAX_DEPTH} levels", "flatten it")
    if isinstance(node, yaml.MappingNode):
        built: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise UsageError(f"{file}:{line}", "a key is a list or a mapping", "write a plain word as key")
            if key in built:
                raise UsageError(f"{file}:{line}", f"the key '{key}' stands twice", "keep one of the two")
            sub: Path_ = (*path, key if isinstance(key, int) else str(key))
            lines[sub] = line
            built[key] = _build(value_node, sub, lines, file, loader)
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(n, (*path, i), lines, file, loader) for i, n in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def read_text(file: Path, what: str) -> str:
    """The file as UTF-8 text. Raises UsageError with the cure."""
    try:
        if file.is_dir():
            raise UsageError(str(file), f"is a folder, not a {what}", "name the file")
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(str(file), f"is larger than {MAX_BYTES:,} bytes", f"this is no {what}; check the path")
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(str(file), f"there is no such {what}", "check the path") from None
    except UnicodeDecodeError as e:
        raise UsageError(str(file), f"byte {e.start} is not UTF-8", "save the file as UTF-8") from None
    except (OSError, ValueError) as e:
        raise UsageError(str(file).replace("\0", "\\0"), f"cannot be read ({e})", "check the path") from None


def load_yaml(file: Path, what: str) -> tuple[dict[str, Any], _Lines]:
    """Parse a YAML mapping and remember the line of each key."""
    text = read_text(file, what)
    try:
        loader = yaml.SafeLoader(text)
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark is not None else 1
                raise UsageError(
                    f"{file}:{line}",
                    f"uses the alias '*{event.anchor}'",
                    "write the value out, or use `extends`",
                )
        node = loader.get_single_node()
        lines = _Lines()
        built = {} if node is None else _build(node, (), lines, file, loader)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        problem = " ".join(str(getattr(e, "problem", None) or e).split())
        raise UsageError(where, f"is not valid YAML ({problem})", "mend the line") from None
    except RecursionError:
        raise UsageError(str(file), "is nested too deeply", "flatten it") from None
    except ValueError as e:
        raise UsageError(str(file), f"holds a value that YAML cannot read ({e})", "quote the value") from None
    if not isinstance(built, dict):
        raise UsageError(f"{file}:1", f"holds a {type(built).__name__}", f"a {what} is a mapping `key: value`")
    bad = [k for k in built if not isinstance(k, str)]
    if bad:
        raise UsageError(f"{file}:1", f"the key {bad[0]!r} is not a word", "quote it or mend it")
    return built, lines


def _cure(kind: str, key: Path_, model: type[BaseModel], message: str) -> str:
    if kind == "extra_forbidden":
        known = _known_keys(model, key[:-1])
        close = get_close_matches(str(key[-1]), known, n=1)
        if close:
            return f"did you mean '{close[0]}'?"
        return f"known keys here: {', '.join(known)}" if known else "remove it"
    if kind == "missing":
        return "add it"
    return message[0].lower() + message[1:]


def _known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    """Field names of the (nested) model at a key path, found through its JSON schema."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[1]]
        for option in node.get("anyOf", []):
            inner = resolve(option)
            if "properties" in inner or "items" in inner or "additionalProperties" in inner:
                return inner
        return node

    here = resolve(schema)
    for part in path:
        if isinstance(part, int):
            here = resolve(here.get("items", {}))
        elif part in here.get("properties", {}):
            here = resolve(here["properties"][part])
        else:
            extra = here.get("additionalProperties", {})
            here = resolve(extra) if isinstance(extra, dict) else {}
    return sorted(here.get("properties", {}))


def shown(value: object, limit: int = 60) -> str:
    """A value as it appears in an error line: one line, cut."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def validate(model: type[M], data: dict[str, Any], file: Path, lines: _Lines) -> M:
    """Build `model` from parsed YAML; all mistakes are reported at once, each with its line and key."""
    try:
        return model.model_validate(data)
    except RecursionError:
        raise UsageError(str(file), "is nested too deeply", "flatten it") from None
    except ValidationError as e:
        found = []
        for error in e.errors(include_url=False, include_context=False):
            key: Path_ = tuple(p for p in error["loc"] if not (isinstance(p, str) and p.startswith("function-")))
            name = ".".join(map(str, key)) or "(top level)"
            where = f"{file}:{lines.nearest(key)}"
            kind = error["type"]
            if kind == "missing":
                problem = f"`{name}` is missing"
            elif kind == "extra_forbidden":
                problem = f"`{name}` is not a known key"
            else:
                problem = f"`{name}` is {shown(error['input'])}"
            message = error["msg"].removeprefix("Value error, ")
            found.append(UsageError(where, problem, _cure(kind, key or ("",), model, message)))
        raise combined(found) from None
