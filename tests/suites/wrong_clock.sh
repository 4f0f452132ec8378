#!/usr/bin/env bash
# The real binary under a wall clock that is wrong for a moment (wrong_clock.py, libfaketime): while it runs, and when it
# starts. Nothing may end, be disabled, come twice or be delayed by it. Prints what it saw.
#
# Installs libfaketime by apt-get, as root, if it is not there. Takes the binary in POSTRIDER_BIN, or the ci build, which it
# makes if there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${POSTRIDER_BIN:-target/ci/postrider}
if [ ! -x "$bin" ]; then
    tests/suites/build
fi
library() {
    find /usr/lib -name libfaketime.so.1 2>/dev/null | head -n 1
}
if [ -z "$(library)" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends libfaketime >/dev/null
fi
PYTHONDONTWRITEBYTECODE=1 python3 tests/suites/wrong_clock.py "$bin" "$(library)"
