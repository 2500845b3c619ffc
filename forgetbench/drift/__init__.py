"""What a fine-tune did to the weights: read tensor by tensor from safetensors, no model in memory."""

from __future__ import annotations

from forgetbench.drift.types import Drift
from forgetbench.drift.walk import drift

__all__ = ["Drift", "drift"]
