#!/usr/bin/env bash
# make demo: trains the toy checkpoints (once), compares them, and shows the gate's exit code.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-demo-world}
.venv/bin/python -m forgetbench.demo --out "$out" || exit 1
echo
echo "$ forgetbench compare base sft_v1 sft_v2 --samples 3 --study all --config $out/forgetbench.yaml"
.venv/bin/forgetbench compare base sft_v1 sft_v2 --samples 3 --study all --config "$out/forgetbench.yaml"
code=$?
echo
if [ $code = 10 ]; then
  echo "The gate's exit code is 10: sft_v2 is blocked, as it should be. In CI this stops the checkpoint."
  exit 0
fi
echo "The gate's exit code is $code; the demo expects 10 (sft_v2 blocked)." >&2
exit 1
