"""`forgetbench init`."""

from __future__ import annotations

from pathlib import Path

from forgetbench import resources
from forgetbench.cli.output import say
from forgetbench.config import CONFIG_NAME
from forgetbench.errors import UsageError


def init(folder: Path, force: bool) -> None:
    target = folder / CONFIG_NAME
    text = resources.path("configs", CONFIG_NAME).read_text(encoding="utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with target.open("w" if force else "x", encoding="utf-8") as f:
            f.write(text)
    except FileExistsError:
        raise UsageError(str(target), "exists already", "edit it, or overwrite it with --force") from None
    except (OSError, ValueError) as e:
        raise UsageError(str(target), f"cannot be written ({e})", "choose another folder") from None
    say(f"wrote {target}: name your checkpoints in it, then `forgetbench validate`")
