#!/usr/bin/env bash
# Makes .venv and installs forgetbench into it.   scripts/setup.sh demo|dev
#   demo: what the tool and its trainer need.   dev: that, and what the tests need.
# Versions come from requirements.lock. torch's CPU build is taken where there is no NVIDIA GPU: the default
# build brings several gigabytes of CUDA libraries.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
what=${1:-demo}
stamp=.venv/.forgetbench-$what
want=$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16)
[ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && exit 0

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3.12 python3.13 python3 python; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate; break
    fi
  done
fi
[ -n "$python" ] || { echo "setup: no Python 3.11 or newer on PATH; install one, or set PYTHON" >&2; exit 2; }
[ -x .venv/bin/python ] || "$python" -m venv .venv || {
  echo "setup: '$python -m venv' failed; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 2; }
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

torch=$(sed -n 's/^torch==//p' requirements.lock)
if ! .venv/bin/python -c "import sys, importlib.metadata as m; sys.exit(m.version('torch').split('+')[0] != '$torch')" 2>/dev/null; then
  if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then
    echo "setup: torch $torch, CPU build (no NVIDIA GPU found)"
    pip install -q -c requirements.lock "torch==$torch+cpu" 2>/dev/null ||
      pip install -q -c requirements.lock "torch==$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
  else
    echo "setup: torch $torch"
    pip install -q -c requirements.lock "torch==$torch"
  fi
fi
echo "setup: forgetbench and what it needs ($what)"
if [ "$what" = dev ]; then pip install -q -c requirements.lock -e '.[dev]'; else pip install -q -c requirements.lock -e '.[train]'; fi
echo "$want" >"$stamp"
