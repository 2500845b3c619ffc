#!/usr/bin/env bash
# The report's browser tests drive headless Chromium. Installs it where that is possible without asking anyone.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do command -v "$name" >/dev/null && exit 0; done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "setup: chromium, for the browser tests of the report"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 && exit 0
fi
echo "setup: no Chromium here: the report's browser tests will be skipped (in CI: fail); install chromium" >&2
