"""The command line. One thin module per command; heavy imports happen inside the commands."""

from __future__ import annotations

import gc
import os
import sys


def collect_rarely() -> None:
    """Let the garbage collector look less often.

    A run holds tens of thousands of answers, which it walked through again and again: a fifth of the time of a run
    out of the cache (`python -m benchmarks.cache`). What has no cycles is freed at once, as ever.
    """
    gc.set_threshold(100_000, 50, 100)


def main() -> None:
    """Entry point: runs a command and turns every outcome into one of the documented exit codes."""
    from forgetbench.cli.app import app
    from forgetbench.cli.output import fail
    from forgetbench.errors import Exit, ForgetbenchError

    # Tiny models on shared cores: spinning threads made runs 20 times slower. A user's own value wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    collect_rarely()
    try:
        app()
    except ForgetbenchError as e:
        fail(str(e), e.exit_code)
    except KeyboardInterrupt:
        fail(
            "interrupted; everything finished so far is kept: the same command goes on from there",
            Exit.INTERRUPTED,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.INTERNAL)
    except Exception as e:
        if os.environ.get("FORGETBENCH_DEBUG"):
            raise
        line = " ".join(f"{type(e).__name__}: {e}".split())
        fail(
            f"internal error: {line}; set FORGETBENCH_DEBUG=1 to see where, and please report it",
            Exit.INTERNAL,
        )
