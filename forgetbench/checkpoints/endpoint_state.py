"""What is remembered of an endpoint between commands: which run of it is under way, and what it refuses.

One small file for each alias, address and model under `endpoints/` of the cache. The nonce in it stands for the
weights of an endpoint without a declared fingerprint: while a run is unfinished it stays, so that the run
resumes; the first command after a finished run gets a new one, so that the finished run is never taken for what
the server answers today.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.checkpoints.fingerprint import default_cache_dir, digest_json
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from forgetbench.checkpoints.endpoint import EndpointArgs


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint refuses, each with its reason in a few words; empty: it serves that."""

    score: str = ""
    """Log-probabilities of given continuations."""
    complete: str = ""
    """Raw text to continue."""
    chat: str = ""
    """Messages."""


def begin_fresh(model: ModelSpec, cache_dir: Path | None = None) -> None:
    """Called where a command begins to run a model, before it is resolved: a finished run is left behind.

    Nothing happens for a model of another engine, for one with a declared fingerprint, and while its last run
    is unfinished.
    """
    args = _undeclared(model)
    if args is not None and _read(_file(model, args, cache_dir)).get("complete"):
        _change(_file(model, args, cache_dir), nonce=secrets.token_hex(8), complete=False)


def mark_complete(model: ModelSpec, cache_dir: Path | None = None) -> None:
    """Called when a run of a model has ended with every answer there and none of them an infra_error."""
    args = _undeclared(model)
    if args is not None:
        _change(_file(model, args, cache_dir), complete=True)


def nonce(model: ModelSpec, args: EndpointArgs, cache_dir: Path | None) -> str:
    """What stands for the weights of the run under way (or of the last one, where none is)."""
    file = _file(model, args, cache_dir)
    known = _read(file).get("nonce")
    if isinstance(known, str):
        return known
    _change(file, nonce=secrets.token_hex(8), complete=False)
    return str(_read(file)["nonce"])


def known_limits(model: ModelSpec, cache_dir: Path | None = None) -> Limits | None:
    """What the endpoint refused when it was last asked; None: it never was."""
    raw = _read(_file(model, _args(model), cache_dir)).get("limits")
    if not isinstance(raw, Mapping):
        return None
    return Limits(**{f.name: str(raw.get(f.name, "")) for f in fields(Limits)})


def remember_limits(model: ModelSpec, limits: Limits, cache_dir: Path | None = None) -> None:
    if known_limits(model, cache_dir) != limits:
        _change(_file(model, _args(model), cache_dir), limits=asdict(limits))


def _args(model: ModelSpec) -> EndpointArgs:
    from forgetbench.checkpoints.endpoint import endpoint_args

    return endpoint_args(model.alias, model.engine_args)


def _undeclared(model: ModelSpec) -> EndpointArgs | None:
    if model.engine != "openai":
        return None
    args = _args(model)
    return args if args.fingerprint is None else None


def _file(model: ModelSpec, args: EndpointArgs, cache_dir: Path | None) -> Path:
    # The alias is part of it, so that one endpoint under two names (a measured noise floor) has two runs.
    name = digest_json([model.alias, args.base_url, args.model, args.fingerprint])
    return (cache_dir or default_cache_dir()) / "endpoints" / f"{name}.json"


def _read(file: Path) -> dict[str, Any]:
    """The file's content; a missing or damaged one holds nothing, which costs a run at most."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _change(file: Path, **changes: Any) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({**_read(file), **changes}, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        raise UsageError(str(file), f"cannot be written ({error.strerror})", "choose a cache folder that can") from None
