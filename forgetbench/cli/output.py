"""What commands print: results on stdout, everything else on stderr, plain where it is not a terminal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console


def fail(message: str, code: int) -> NoReturn:
    """Print one line per mistake on stderr and leave with an exit code."""
    for line in message.splitlines() or [""]:
        print(f"forgetbench: {line}", file=sys.stderr)
    sys.exit(int(code))


def say(line: str) -> None:
    """A line about the work, for people: stderr, so that stdout can be piped."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """The one object of --json."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str))


def console(stderr: bool = False) -> Console:
    """A rich console; NO_COLOR and pipes are respected by rich, whose default width of 80 stays for pipes."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)
