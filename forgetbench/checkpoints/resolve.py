"""From what the user wrote to a fingerprinted checkpoint, without loading a tokenizer or torch."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from forgetbench.checkpoints import files as contents
from forgetbench.checkpoints import template as templates
from forgetbench.checkpoints.checkpoint import NONE, Checkpoint
from forgetbench.checkpoints.fingerprint import FingerprintStore, digest_json, sha256_file
from forgetbench.checkpoints.hub import locate
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.checkpoints.tokenizer import (
    sha,
    special_tokens,
    stop_ids,
    template_of,
    tokenizer_config_of,
    tokenizer_digest,
)
from forgetbench.errors import UsageError

_VOLATILE_CONFIG = ("_name_or_path", "transformers_version")
_VOLATILE_ADAPTER = ("base_model_name_or_path", "inference_mode", "revision", "peft_version")
_DTYPES = ("auto", "float32", "bfloat16", "float16")


def resolve(model: ModelSpec, cache_dir: Path | None = None) -> Checkpoint:
    """Find a model's files, check that they are whole, and fingerprint them part by part.

    Raises UsageError, one line, for whatever is missing or broken. `cache_dir` holds remembered digests.
    """
    if model.engine == "ray":  # its actors resolve the same model: what runs it changes no digest
        return replace(resolve(model.served, cache_dir), spec=model)
    if model.engine == "scripted":
        return _resolve_scripted(model)
    if model.engine == "openai":
        from forgetbench.checkpoints.endpoint import resolve_endpoint

        return resolve_endpoint(model, cache_dir)
    where = f"models.{model.alias}"
    if model.dtype not in _DTYPES:
        raise UsageError(f"{where}.dtype", f"'{model.dtype}' is unknown", f"use one of {', '.join(_DTYPES)}")
    store = FingerprintStore(cache_dir)
    folder = locate(model.path, model.revision, f"{where}.path")
    config = _model_config(folder, where)
    weights = contents.weight_files(folder)
    tokenizer_folder = locate(model.tokenizer, None, f"{where}.tokenizer") if model.tokenizer else folder
    tokenizer_config = tokenizer_config_of(tokenizer_folder)
    tokenizer = tokenizer_digest(tokenizer_folder, tokenizer_config, store)
    template = template_of(model, tokenizer_folder, tokenizer_config, where)
    adapter_folder, adapter = _adapter(model, store, where)
    ids = stop_ids(folder, config, tokenizer_folder, tokenizer_config, tokenizer, store)
    code = sorted(folder.glob("*.py")) if model.engine_args.get("trust_remote_code") else []
    parts = {
        "weights": digest_json({f.name: sha(store, f) for f in weights}),
        "config": digest_json(
            {
                "config": {k: v for k, v in config.items() if k not in _VOLATILE_CONFIG},
                "code": {f.name: sha(store, f) for f in code},
            }
        ),
        "tokenizer": tokenizer,
        "template": digest_json(template) if template is not None else NONE,
        "adapter": adapter,
        "stop_ids": digest_json(list(ids)),
    }
    return Checkpoint(
        alias=model.alias,
        spec=model,
        folder=folder,
        digest=digest_json(parts),
        parts=parts,
        has_chat_template=template is not None,
        stop_ids=ids,
        template=template,
        special_tokens=special_tokens(tokenizer_folder, tokenizer_config),
        tokenizer_folder=tokenizer_folder,
        adapter_folder=adapter_folder,
        config=config,
    )


def _resolve_scripted(model: ModelSpec) -> Checkpoint:
    """A scripted model is its script: no weights, no tokenizer."""
    where = f"models.{model.alias}.engine_args.script"
    script = model.engine_args.get("script")
    if not isinstance(script, str | os.PathLike) or not str(script):
        raise UsageError(where, "is missing", "name the .py or .json file with the answers")
    file = Path(str(script).partition("::")[0]).expanduser()
    if not file.is_file():
        raise UsageError(f"{where}: {file}", "there is no such file", "name a .py or .json file")
    template = templates.template_from_spec(model.chat_template) if model.chat_template else None
    if template is not None:
        templates.check_template(template, f"models.{model.alias}.chat_template")
    function = str(script).partition("::")[2]
    content = digest_json([sha256_file(file), function])
    parts = {
        "weights": content,
        "config": NONE,
        "tokenizer": NONE,
        "template": digest_json(template) if template is not None else NONE,
        "adapter": NONE,
        "stop_ids": NONE,
    }
    return Checkpoint(
        alias=model.alias,
        spec=model,
        folder=file.parent,
        digest=digest_json(parts),
        parts=parts,
        has_chat_template=template is not None,
        stop_ids=(),
        template=template,
    )


def _model_config(folder: Path, where: str) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UsageError(
                f"{where}.path: {folder}",
                "is a LoRA adapter without its base model (adapter_config.json, no config.json)",
                "set `path` to the base model and `adapter` to this folder",
            )
        raise UsageError(
            f"{where}.path: {folder}",
            "holds no config.json",
            "point `path` at a folder that save_pretrained wrote",
        )
    config = contents.read_json(folder / "config.json", "copy or save the checkpoint again")
    if not config.get("model_type") and not config.get("auto_map"):
        raise UsageError(str(folder / "config.json"), "has no `model_type`", "copy or save the checkpoint again")
    return config


def _adapter(model: ModelSpec, store: FingerprintStore, where: str) -> tuple[Path | None, str]:
    if model.adapter is None:
        return None, NONE
    folder = locate(model.adapter, None, f"{where}.adapter")
    cure = "point `adapter` at a folder that peft's save_pretrained wrote"
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(f"{where}.adapter: {folder}", "holds no adapter_config.json", cure)
    config = contents.read_json(folder / "adapter_config.json", cure)
    if not config.get("peft_type"):
        raise UsageError(str(folder / "adapter_config.json"), "has no `peft_type`", cure)
    if str(config["peft_type"]).upper() in ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"):
        raise UsageError(
            str(folder / "adapter_config.json"),
            f"is of type {config['peft_type']}, which puts virtual tokens before every prompt",
            "use an adapter that changes weights, such as LoRA",
        )
    weights = contents.weight_files(folder, "adapter_model", "adapter_model")
    digest = digest_json(
        {
            "config": {k: v for k, v in config.items() if k not in _VOLATILE_ADAPTER},
            "weights": {f.name: sha(store, f) for f in weights},
        }
    )
    return folder, digest
