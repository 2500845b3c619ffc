"""Fixed texts that both checkpoints read: files of the user's own, or rows of a dataset on the Hugging Face hub.

    texts: [generic.txt, {data}/wiki, "hub:Salesforce/wikitext@b08601e:wikitext-2-raw-v1:test"]

A hub text is hub:OWNER/NAME[@REVISION][:CONFIG][:SPLIT][:FIELD]; what is left empty is the dataset's default
configuration, the split `train`, the field `text`. Its first rows are read, streamed where the network is there, and
kept in the workspace's cache: a later comparison or report reads the very same texts, without the network, even if the
dataset has changed since. Only then do two comparisons tell the same bits per byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.runs.files import atomic_write
from forgetbench.runs.manifest import digest
from forgetbench.tasks.source import DataSource

HUB = "hub:"
MOST_CHARACTERS = 100_000
"""Of one hub dataset: some 25,000 tokens, each read three times."""
MOST_ROWS = 2_000
"""That are looked at, blank ones too."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w./-]+")
_ENDINGS = (".txt", ".md")
_FORM = "write hub:OWNER/NAME[@REVISION][:CONFIG][:SPLIT][:FIELD]"
_PARTS = 4


@dataclass(frozen=True, slots=True)
class FixedText:
    """One text, read whole."""

    name: str
    """Its own: what both sides say of its pieces is found by it."""
    text: str


@dataclass(frozen=True, slots=True)
class HubTexts:
    """Which texts of a dataset on the hub."""

    dataset: str
    revision: str | None = None
    """Branch, tag or commit; None: the dataset's newest when it is first read."""
    config: str | None = None
    split: str = "train"
    field: str = "text"

    @property
    def name(self) -> str:
        shown = self.dataset if self.revision is None else f"{self.dataset}@{self.revision}"
        if self.field != "text":
            return ":".join([shown, self.config or "", self.split, self.field])
        return ":".join([shown, *([self.config] if self.config else []), self.split])


def parse_hub(value: str, where: str) -> HubTexts:
    """Raises UsageError for what does not name a dataset."""
    parts = value.removeprefix(HUB).split(":")
    dataset, at, revision = parts[0].partition("@")
    if not _NAME.fullmatch(dataset) or len(parts) > _PARTS or (at and not _REVISION.fullmatch(revision)):
        raise UsageError(where, f"'{value}' names no dataset of the hub", _FORM)
    config, split, field = (*parts[1:], "", "", "")[:3]
    return HubTexts(dataset, revision or None, config or None, split or "train", field or "text")


def files_of(path: Path, where: str, entry: str | None = None) -> list[FixedText]:
    """A file of UTF-8 text, or those of a folder that end in .txt or .md. Raises UsageError.

    entry: the path as the suite has it. Files are named by it and by their place in the folder, since two folders
    may each have a notes.txt.
    """
    top = str(path) if entry is None else entry
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in _ENDINGS and p.is_file())
        if not files:
            raise UsageError(where, f"there is no {' or '.join(_ENDINGS)} file in {path}", "name another folder")
    elif path.is_file():
        files = [path]
    else:
        cure = "name files, folders of them, or hub:OWNER/NAME"
        raise UsageError(where, f"there is no {path}", cure)
    found = []
    for file in files:
        try:
            name = top if file == path else f"{top.rstrip('/')}/{file.relative_to(path).as_posix()}"
            found.append(FixedText(name, file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(str(file), f"cannot be read ({type(e).__name__})", "give files of UTF-8 text") from None
    return found


def hub_texts(wanted: HubTexts, cache: Path, source: DataSource, where: str) -> list[FixedText]:
    """The dataset's first texts, from the cache folder where they were read before.

    Raises UsageError: not to be had, no such field, no text in it; in offline mode where neither the cache nor the
    hub's own cache holds them.
    """
    kept = cache / "texts" / f"{digest([asdict(wanted), MOST_CHARACTERS, MOST_ROWS], 16)}.jsonl"
    if kept.is_file():
        lines = kept.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        # Kept ones of earlier versions do not name their field, so that two of a dataset would have one name.
        return [FixedText(f"{wanted.name}:{row['name'].rpartition(':')[2]}", row["text"]) for row in rows]
    found = _first(_rows(wanted, source, where), wanted, where)
    kept.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(kept, "".join(json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in found).encode())
    return found


def _first(rows: Iterable[Mapping[str, Any]], wanted: HubTexts, where: str) -> list[FixedText]:
    found: list[FixedText] = []
    left = MOST_CHARACTERS
    try:
        for number, row in enumerate(rows):
            if not left or number == MOST_ROWS:
                break
            text = row.get(wanted.field)
            if not isinstance(text, str):
                problem = f"{wanted.name} has no text in the field '{wanted.field}'; it has {', '.join(row)[:200]}"
                raise UsageError(where, problem, f"name one of its fields: {_FORM.removeprefix('write ')}")
            if text.strip():
                # A lone half of a surrogate pair cannot be written as UTF-8.
                found.append(FixedText(f"{wanted.name}:{number}", text[:left].encode("utf-8", "replace").decode()))
                left -= len(text[:left])
    except UsageError:
        raise
    except Exception as e:  # streaming: a row is fetched when it is asked for, and may fail as opening does
        raise _unavailable(wanted, e, where) from e
    if not found:
        raise UsageError(where, f"{wanted.name} holds no text", "name another split or field")
    return found


def _rows(wanted: HubTexts, source: DataSource, where: str) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise UsageError(where, "datasets is not installed", "install forgetbench[hub], or name files") from None
    datasets.disable_progress_bars()
    # Offline the hub's cache is all there is, and it holds whole datasets: nothing can be streamed from it.
    options: dict[str, Any] = {"split": wanted.split, "revision": wanted.revision, "streaming": not source.is_offline}
    if source.cache_dir is not None:
        options["cache_dir"] = str(source.cache_dir)
    if source.is_offline:
        options["download_config"] = datasets.DownloadConfig(local_files_only=True)
    try:
        rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(wanted.dataset, wanted.config, **options)
    except Exception as e:  # datasets, the hub's client and its HTTP library raise some dozens of kinds: one cure
        if source.is_offline:
            raise UsageError(
                where,
                f"{wanted.name} is not in the hub's cache, and offline was asked for ({_reason(e)})",
                "run once without --offline and HF_HUB_OFFLINE, or name files",
            ) from e
        raise _unavailable(wanted, e, where) from e
    return rows


def _unavailable(wanted: HubTexts, error: Exception, where: str) -> UsageError:
    cure = "check name, revision, config, split and the network, or name files"
    return UsageError(where, f"{wanted.name} could not be read ({_reason(error)})", cure)


def _reason(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:200]}"


def count(texts: Sequence[FixedText]) -> str:
    """`12 fixed texts`."""
    return f"{len(texts):,} fixed text{'' if len(texts) == 1 else 's'}"
