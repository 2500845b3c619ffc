"""The files of a checkpoint folder: which there are, whether they are whole, what they say.

Everything here fails with one UsageError that names the file, what is wrong with it, and the cure.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "tekken.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
"""Files whose bytes decide how text becomes tokens. tokenizer_config.json is read apart from these, since its
chat template belongs to another part of the fingerprint."""
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)
_MAX_HEADER = 100_000_000


def read_json(file: Path, cure: str) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(str(file), "there is no such file", cure) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(str(file), f"cannot be read ({one_line(error)})", cure) from None
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        place = f"{file}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(file)
        raise UsageError(place, f"is not valid JSON ({one_line(error)})", cure) from None
    if not isinstance(value, dict):
        raise UsageError(str(file), f"holds a {type(value).__name__}, not a JSON object", cure)
    return value


def one_line(error: BaseException) -> str:
    """An exception as one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def weight_files(folder: Path, stem_safetensors: str = "model", stem_bin: str = "pytorch_model") -> list[Path]:
    """The weight files that would be loaded, checked to be whole. Safetensors win over .bin, as on
    loading."""
    for stem, suffix in ((stem_safetensors, "safetensors"), (stem_bin, "bin")):
        single = folder / f"{stem}.{suffix}"
        index = folder / f"{stem}.{suffix}.index.json"
        if single.is_file():
            files = [single]
        elif index.is_file():
            files = _shards(folder, index)
        else:
            continue
        for file in files:
            if suffix == "safetensors":
                safetensors_header(file)
            elif file.stat().st_size == 0:
                raise UsageError(str(file), "is empty", "copy or download the checkpoint again")
        return files
    raise UsageError(
        str(folder),
        f"holds no weights ({stem_safetensors}.safetensors, {stem_safetensors}.safetensors.index.json or "
        f"{stem_bin}.bin)",
        "point `path` at the folder that save_pretrained wrote",
    )


def _shards(folder: Path, index: Path) -> list[Path]:
    cure = "copy or download the checkpoint again"
    weight_map = read_json(index, cure).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UsageError(str(index), "has no `weight_map`", cure)
    names = sorted({str(name) for name in weight_map.values()})
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UsageError(str(index), f"names {len(missing)} missing shards, first {missing[0]}", cure)
    return [folder / name for name in names]


def safetensors_header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file (tensor name -> dtype, shape, data_offsets), checked against its size.

    Format: 8 bytes little-endian length, JSON header, data. Source: safetensors README, section 'Format'.
    """
    cure = "the file is cut short or damaged: copy or download it again"
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            head = handle.read(8)
            if len(head) < 8:
                raise UsageError(str(file), f"is {size} bytes long, too short for safetensors", cure)
            (length,) = struct.unpack("<Q", head)
            if length > min(size - 8, _MAX_HEADER):
                raise UsageError(str(file), f"has a header of {length} bytes in a file of {size}", cure)
            header = json.loads(handle.read(length))
    except OSError as error:
        raise UsageError(str(file), f"cannot be read ({one_line(error)})", cure) from None
    except (ValueError, RecursionError):
        raise UsageError(str(file), "has a header that is not JSON", cure) from None
    if not isinstance(header, dict):
        raise UsageError(str(file), "has a header that is not a JSON object", cure)
    try:
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except (TypeError, KeyError, IndexError, ValueError):
        raise UsageError(str(file), "has a header without data offsets", cure) from None
    expected = 8 + length + max(ends, default=0)
    if expected != size:
        raise UsageError(str(file), f"is {size} bytes long, its header says {expected}", cure)
    return header


def count_parameters(files: list[Path]) -> int | None:
    """Parameters of safetensors files, from their headers alone; None where there are other files."""
    total = 0
    for file in files:
        if file.suffix != ".safetensors":
            return None
        for name, entry in safetensors_header(file).items():
            if name != "__metadata__":
                count = 1
                for extent in entry["shape"]:
                    count *= int(extent)
                total += count
    return total


def tokenizer_files(folder: Path) -> list[Path]:
    """The tokenizer's files in a folder. Raises UsageError when there is no vocabulary among them."""
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise UsageError(
            str(folder),
            "holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json or vocab.txt)",
            "save the tokenizer beside the weights, or set `tokenizer:` to a folder that has one",
        )
    found = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    for file in found:
        if file.suffix == ".json":
            size = file.stat().st_size
            if size == 0:
                raise UsageError(str(file), "is empty", "save the tokenizer again")
    return found


def token_text(value: Any) -> str | None:
    """A special token as tokenizer_config.json writes it: a string, or an AddedToken as an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return str(value["content"])
    return None


def token_id(folder: Path, config: dict[str, Any], token: str) -> int | None:
    """The id of a special token, from the tokenizer's files alone; None where they do not tell."""
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        for key, entry in decoder.items():
            if token_text(entry) == token and str(key).isdigit():
                return int(key)
    file = folder / "tokenizer.json"
    if file.is_file():
        data = read_json(file, "save the tokenizer again")
        for entry in data.get("added_tokens") or []:
            if isinstance(entry, dict) and entry.get("content") == token and isinstance(entry.get("id"), int):
                return int(entry["id"])
        vocabulary = (data.get("model") or {}).get("vocab")
        if isinstance(vocabulary, dict) and isinstance(vocabulary.get(token), int):
            return int(vocabulary[token])
    for name in ("added_tokens.json", "vocab.json"):
        if (folder / name).is_file():
            found = read_json(folder / name, "save the tokenizer again").get(token)
            if isinstance(found, int):
                return found
    return None
