#!/usr/bin/env bash
# Generated programs (humaneval, mbpp, ...) run under bubblewrap. Installs it where that is possible without asking anyone.
set -euo pipefail
command -v bwrap >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "setup: bubblewrap, the sandbox for generated programs"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap; } >/dev/null 2>&1 && exit 0
fi
echo "setup: no bubblewrap here: the tests that run programs will be skipped (in CI: fail); install bubblewrap" >&2
