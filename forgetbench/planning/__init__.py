"""From tasks to a plan: render prompts, deduplicate, order, estimate."""

from __future__ import annotations

from forgetbench.planning.estimate import Estimate, estimate
from forgetbench.planning.plan import TaskJob, build_plan
from forgetbench.planning.render import render

__all__ = ["Estimate", "TaskJob", "build_plan", "estimate", "render"]
