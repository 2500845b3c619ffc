"""What a user may say about `engine: ray`, checked before anything is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forgetbench.errors import UsageError

ARGS: dict[str, str] = {
    "engine": "what computes inside the actors: transformers (default), vllm or scripted",
    "engine_args": "that engine's own arguments",
    "actors": "how many; default: what the cluster's CPUs and GPUs allow, at most 8",
    "gpus_per_actor": "default: 1 where the engine is to run on a GPU, else 0",
    "cpus_per_actor": "default: 1",
    "address": "ray://host:port, host:port, auto (a cluster that runs on this machine) or local (start one here); "
    "default: RAY_ADDRESS, else a cluster that runs here, else a new one",
    "max_restarts": "how often Ray starts a lost actor again (default 3)",
    "group_requests": "most requests in a group; default: an eighth of an actor's share, 64 to 512",
    "group_characters": "most characters in a group (default 1,048,576)",
    "start_seconds": "how long to wait until at least one actor has a place (default 600)",
    "runtime_env": "Ray's runtime environment of the actors",
}
INNER = ("transformers", "vllm", "scripted")
_SECRET = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RayArgs:
    """`engine_args` of a model with `engine: ray`; their meaning stands in ARGS."""

    engine: str = "transformers"
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    actors: int | None = None
    gpus_per_actor: float | None = None
    cpus_per_actor: float = 1
    address: str | None = None
    max_restarts: int = 3
    group_requests: int | None = None
    group_characters: int = 1 << 20
    start_seconds: float = 600.0
    runtime_env: Mapping[str, Any] = field(default_factory=dict)


def checked(alias: str, args: Mapping[str, Any]) -> RayArgs:
    """Raises UsageError for an unknown argument or a value that cannot be used. None means the default."""
    where = f"models.{alias}.engine_args"
    unknown = sorted(set(args) - set(ARGS))
    if unknown:
        raise UsageError(f"{where}.{unknown[0]}", "is unknown to the ray engine", f"use {', '.join(ARGS)}")
    given = {name: value for name, value in args.items() if value is not None}
    if given.get("engine", "transformers") not in INNER:
        raise UsageError(f"{where}.engine", f"is {given['engine']!r}", f"use one of {', '.join(INNER)}")
    for name, least in (("actors", 1), ("group_requests", 1), ("group_characters", 1), ("max_restarts", 0)):
        value = given.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageError(f"{where}.{name}", f"is {value!r}", f"give a whole number, {least} or more")
    for name in ("gpus_per_actor", "cpus_per_actor", "start_seconds"):
        value = given.get(name, 0)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise UsageError(f"{where}.{name}", f"is {value!r}", "give a number, 0 or more")
    for name in ("engine_args", "runtime_env"):
        if not isinstance(given.get(name, {}), Mapping):
            raise UsageError(f"{where}.{name}", f"is {given[name]!r}", "give a mapping of names to values")
    if not isinstance(given.get("address", ""), str):
        raise UsageError(f"{where}.address", f"is {given['address']!r}", "give ray://host:port, auto or local")
    _check_secrets(f"{where}.runtime_env.env_vars", given.get("runtime_env", {}).get("env_vars"))
    return RayArgs(**given)


def _check_secrets(where: str, variables: Any) -> None:
    """A run's manifest repeats the model's arguments, so a key among them would be stored."""
    for name in variables if isinstance(variables, Mapping) else ():
        if _SECRET.search(str(name)):
            raise UsageError(f"{where}.{name}", "would be stored with every run", "set it in the nodes' environment")
