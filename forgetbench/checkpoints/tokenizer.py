"""The tokenizer's side of a checkpoint, read from its files: digest, chat template, special tokens, stop ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forgetbench.checkpoints import files as contents
from forgetbench.checkpoints import template as templates
from forgetbench.checkpoints.fingerprint import FingerprintStore, digest_json
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.errors import UsageError

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_VOLATILE_TOKENIZER = (
    "chat_template",
    "name_or_path",
    "transformers_version",
    "is_local",
    "local_files_only",
)


def tokenizer_digest(folder: Path, tokenizer_config: Mapping[str, Any], store: FingerprintStore) -> str:
    """Digest of what decides how text becomes tokens. Raises UsageError when there is no vocabulary."""
    return digest_json(
        {
            "files": {f.name: sha(store, f) for f in contents.tokenizer_files(folder)},
            "config": {k: v for k, v in tokenizer_config.items() if k not in _VOLATILE_TOKENIZER},
        }
    )


def sha(store: FingerprintStore, file: Path) -> str:
    try:
        return store.sha256(file)
    except OSError as error:
        raise UsageError(str(file), f"cannot be read ({error.strerror})", "check its permissions") from None


def tokenizer_config_of(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return contents.read_json(file, "save the tokenizer again") if file.is_file() else {}


def template_of(model: ModelSpec, folder: Path, tokenizer_config: Mapping[str, Any], where: str) -> str | None:
    if model.chat_template is not None:
        template: str | None = templates.template_from_spec(model.chat_template)
        source = f"{where}.chat_template"
    else:
        template = templates.find_template(folder, tokenizer_config)
        source = str(folder)
    if template is not None:
        templates.check_template(template, source)
    return template


def special_tokens(folder: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """The named special tokens, as templates see them."""
    merged: dict[str, Any] = {}
    if (folder / "special_tokens_map.json").is_file():
        merged.update(contents.read_json(folder / "special_tokens_map.json", "save the tokenizer again"))
    merged.update({k: v for k, v in tokenizer_config.items() if v is not None})
    texts = {name: contents.token_text(merged.get(name)) for name in _SPECIAL}
    return {name: text for name, text in texts.items() if text is not None}


def stop_ids(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer_folder: Path,
    tokenizer_config: dict[str, Any],
    tokenizer_digest: str,
    store: FingerprintStore,
) -> tuple[int, ...]:
    generation = folder / "generation_config.json"
    declared: Any = None
    if generation.is_file():
        declared = contents.read_json(generation, "save the checkpoint again").get("eos_token_id")
    if declared is None:
        declared = config.get("eos_token_id")
    if declared is None and isinstance(config.get("text_config"), dict):
        declared = config["text_config"].get("eos_token_id")
    ids = {i for i in (declared if isinstance(declared, list) else [declared]) if isinstance(i, int)}
    eos = special_tokens(tokenizer_folder, tokenizer_config).get("eos_token")
    if eos is not None:
        # A large tokenizer.json takes a while to parse; what it says about one token is remembered.
        found = store.fact(
            f"token_id:{tokenizer_digest}:{eos}",
            lambda: contents.token_id(tokenizer_folder, tokenizer_config, eos),
        )
        if isinstance(found, int):
            ids.add(found)
    return tuple(sorted(ids))
