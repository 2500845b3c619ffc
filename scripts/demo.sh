#!/usr/bin/env bash
# make demo: trains the toy checkpoints (once), compares them, and shows the gate's exit code.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-demo-world}
options=(--samples 3 --config "$out/forgetbench.yaml")
ask() { .venv/bin/forgetbench run "$1" "${options[@]}" >"$out/ask-$1.log" 2>&1; }
# Training takes one core. On the other one each checkpoint is asked as soon as it is there: compare finds the answers.
# What goes wrong there, compare meets again and says.
.venv/bin/python -m forgetbench.demo --out "$out" --until base || exit 1
ask base &
.venv/bin/python -m forgetbench.demo --out "$out" || exit 1
ask sft_v2 &
ask sft_v1
wait
echo
echo "$ forgetbench compare base sft_v1 sft_v2 ${options[*]} --study all"
.venv/bin/forgetbench compare base sft_v1 sft_v2 "${options[@]}" --study all
code=$?
echo
if [ $code = 10 ]; then
  echo "The gate's exit code is 10: sft_v2 is blocked, as it should be. In CI this stops the checkpoint."
  exit 0
fi
echo "The gate's exit code is $code; the demo expects 10 (sft_v2 blocked)." >&2
exit 1
