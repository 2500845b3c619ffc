"""A model behind an OpenAI-compatible server: what the user says about it, and what it is taken for.

Nobody outside can fingerprint the weights that a server serves. So a checkpoint of this kind is its address, its
model's name and a `fingerprint` that the user declares: any text that names the weights. Without one it is a new
checkpoint with every finished run (endpoint_state.py), since the server may serve other weights tomorrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from forgetbench.checkpoints import endpoint_state
from forgetbench.checkpoints import files as contents
from forgetbench.checkpoints import tokenizer as parts_of
from forgetbench.checkpoints.checkpoint import NONE, Checkpoint
from forgetbench.checkpoints.fingerprint import FingerprintStore, digest_json
from forgetbench.checkpoints.hub import locate
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.errors import UsageError

ARGS: dict[str, str] = {
    "base_url": "address of the API, such as http://127.0.0.1:8000/v1",
    "model": "the model's name at the server",
    "api_key_env": "name of the environment variable that holds the key (none: no key is sent)",
    "fingerprint": "any text that names the weights; without it no finished run is used again",
    "concurrency": "requests under way at a time",
    "timeout": "seconds without a byte after which a request is given up and asked again",
    "retries": "how often a request that fails is asked again",
    "max_length": "context length in tokens, where the server does not tell it or less is wanted",
    "chat": "whether to ask in chat (false where the model is a base)",
    "extra_body": "fields that the server wants beside those of the API",
    "add_bos_token": "overrules what the local tokenizer does before raw text",
}
_OURS = frozenset(
    {"model", "prompt", "messages", "echo", "logprobs", "top_logprobs", "max_tokens", "max_completion_tokens", "n"}
    | {"temperature", "top_p", "seed", "stop", "stream", "stream_options", "best_of", "suffix"}
)
"""Fields of a request that the suite decides, so that `extra_body` may not."""


@dataclass(frozen=True, slots=True)
class EndpointArgs:
    """engine_args of `engine: openai`, checked. It names where the key is, never the key."""

    base_url: str
    model: str
    api_key_env: str | None = None
    fingerprint: str | None = None
    concurrency: int = 16
    timeout: float = 600.0
    retries: int = 6
    max_length: int | None = None
    chat: bool | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    add_bos_token: bool | None = None


def endpoint_args(alias: str, args: Mapping[str, Any]) -> EndpointArgs:
    """Check engine_args. Raises UsageError; a value that may be a secret is never shown."""
    where = f"models.{alias}.engine_args"
    if "api_key" in args:
        cure = "put the key into an environment variable and name that: api_key_env: OPENAI_API_KEY"
        raise UsageError(f"{where}.api_key", "keys are read from the environment only", cure)
    unknown = sorted(set(args) - set(ARGS))
    if unknown:
        raise UsageError(f"{where}.{unknown[0]}", "is unknown to the openai engine", f"use {', '.join(ARGS)}")
    for name in ("base_url", "model"):
        if not isinstance(args.get(name), str) or not args[name].strip():
            raise UsageError(f"{where}.{name}", "is missing", f"give the {ARGS[name]}")
    for name in ("api_key_env", "fingerprint"):
        if args.get(name) is not None and (not isinstance(args[name], str) or not args[name].strip()):
            raise UsageError(f"{where}.{name}", "is not a text", f"give {ARGS[name]}")
    for name, least in (("concurrency", 1), ("max_length", 8), ("retries", 0)):
        value = args.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise UsageError(f"{where}.{name}", f"is {value!r}", f"give a whole number from {least} on")
    timeout = args.get("timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
        raise UsageError(f"{where}.timeout", f"is {timeout!r}", "give seconds")
    for name in ("chat", "add_bos_token"):
        if args.get(name) is not None and not isinstance(args[name], bool):
            raise UsageError(f"{where}.{name}", f"is {args[name]!r}", "give true or false")
    extra = args.get("extra_body")
    if extra is not None and not isinstance(extra, Mapping):
        raise UsageError(f"{where}.extra_body", "is not a mapping", "give fields and their values")
    taken = sorted(_OURS & set(extra or {}))
    if taken:
        raise UsageError(f"{where}.extra_body.{taken[0]}", "is decided by the suite", "remove it")
    given = {k: v for k, v in args.items() if v is not None}
    return EndpointArgs(**{**given, "base_url": _address(args["base_url"], f"{where}.base_url")})


def _address(value: str, where: str) -> str:
    """The address in one spelling. Nothing of a broken one is shown: it may hold a password."""
    cure = f"give the {ARGS['base_url']}"
    try:
        parts = urlsplit(value.strip())
        port = parts.port
    except ValueError:
        raise UsageError(where, "is not an address", cure) from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(where, "holds credentials", "take them out and name the key's variable: api_key_env")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(where, "is not an address of the form http(s)://host[:port]/v1", cure)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return urlunsplit((parts.scheme, host if port is None else f"{host}:{port}", parts.path.rstrip("/"), "", ""))


def resolve_endpoint(model: ModelSpec, cache_dir: Path | None = None) -> Checkpoint:
    """A model with `engine: openai`; the server is not asked. `path` or `tokenizer` name a local tokenizer.

    With a tokenizer, prompts are rendered and tokenised here and the server gets token ids; without one it gets
    text, and in chat messages that it renders itself.
    """
    where = f"models.{model.alias}"
    args = endpoint_args(model.alias, model.engine_args)
    if model.adapter is not None:
        raise UsageError(f"{where}.adapter", "cannot be sent to an endpoint", "serve it there and name it as `model`")
    store = FingerprintStore(cache_dir)
    folder = locate(model.path, model.revision, f"{where}.path") if model.path else None
    home = locate(model.tokenizer, None, f"{where}.tokenizer") if model.tokenizer else folder
    config: dict[str, Any] = {}
    if folder is not None and (folder / "config.json").is_file():
        config = contents.read_json(folder / "config.json", "copy or save it again")
    template: str | None = None
    tokenizer, ids, special = NONE, tuple[int, ...](), dict[str, str]()
    if home is not None:
        tokenizer_config = parts_of.tokenizer_config_of(home)
        tokenizer = parts_of.tokenizer_digest(home, tokenizer_config, store)
        template = parts_of.template_of(model, home, tokenizer_config, where)
        ids = parts_of.stop_ids(folder or home, config, home, tokenizer_config, tokenizer, store)
        special = parts_of.special_tokens(home, tokenizer_config)
    elif model.chat_template is not None:
        cure = "give `tokenizer:` too, or leave the template to the server"
        raise UsageError(f"{where}.chat_template", "needs a tokenizer to be rendered with", cure)
    if args.chat is False:
        template = None
    by_server = template is None and (args.chat is True or (args.chat is None and home is None))
    named = args.fingerprint
    declared = ["declared", named] if named is not None else ["run", endpoint_state.nonce(model, args, cache_dir)]
    parts = {
        "weights": digest_json(["endpoint", args.base_url, args.model, *declared]),
        "config": digest_json(dict(args.extra_body)) if args.extra_body else NONE,
        "tokenizer": tokenizer,
        "template": digest_json(template) if template is not None else "server" if by_server else NONE,
        "adapter": NONE,
        "stop_ids": digest_json(list(ids)) if home is not None else NONE,
    }
    return Checkpoint(
        alias=model.alias,
        spec=model,
        folder=folder or home or Path(),
        digest=digest_json(parts),
        parts=parts,
        has_chat_template=template is not None or by_server,
        stop_ids=ids,
        template=template,
        special_tokens=special,
        tokenizer_folder=home,
        config=config,
        sends_messages=by_server,
        reusable=named is not None,
    )
