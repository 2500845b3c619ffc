"""What every page shares: templates that escape what they write, the policy that seals it, and how it gets to disk."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import jinja2

from forgetbench import resources
from forgetbench.errors import UsageError


def environment() -> jinja2.Environment:
    """The templates of `reports/`: autoescaped, and an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.path("reports")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def assets(names: Sequence[str]) -> str:
    """Style sheets or scripts of `reports/` as one text. Raises ValueError for one that would end its own element."""
    folder = resources.path("reports")
    texts = []
    for name in names:
        text = (folder / name).read_text(encoding="utf-8").replace("\r\n", "\n")
        if "</script" in text.lower() or "</style" in text.lower():
            raise ValueError(f"{name} would end its own element")
        texts.append(text)
    return "".join(texts)


def content_security_policy(style: str, script: str | None = None) -> str:
    """Nothing may load, and only this very style and script may run. None: no script at all."""
    scripts = "" if script is None else f"script-src {_source(script)}; "
    return f"default-src 'none'; {scripts}style-src {_source(style)}; base-uri 'none'; form-action 'none'"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def write(text: str, out: Path) -> Path:
    """Write a page or a picture and return its path. Raises UsageError where it cannot be written.

    A reader that reloads never sees half a file. Half a character in a name becomes a question mark.
    """
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(text.encode("utf-8", "replace"))
        draft.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise UsageError(str(out), f"cannot be written ({error.strerror})", "name another path") from error
    return out
