"""Runs on disk: responses as they come, records when a task is complete, a manifest that says what is there.

Importing this loads neither pandas nor pyarrow.
"""

from forgetbench.runs.store import Run, list_runs, open_run, run_folder

__all__ = ["Run", "list_runs", "open_run", "run_folder"]
